"""Folders of picture files: which are listed, in which split, and the metadata matched to them by file name."""

import hashlib
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
from PIL import Image

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.splits import Source, Split, data_dir, file_state, holdout_indices, take

# The keywords of `datasets` (data_files.py), and words that may accompany them in a folder's name.
SPLIT_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
FILLER_WORDS = {"", "set", "data", "dataset", "split", "images", "image", "imgs", "img", "pictures", "photos", "faces"}
# Formats that Pillow identifies but decodes only with a further program, or not at all.
UNDECODABLE = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
OTHER_PICTURE_SUFFIXES = {".avif", ".heic", ".heif", ".jxl", ".svg", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf"}
SYSTEM_FOLDERS = {
    *("@eadir", "@recycle", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "recycler", "lost+found"),
    *("__macosx", "__pycache__", "system volume information"),
}


def picture_suffixes() -> set[str]:
    """File name suffixes of the formats that Pillow decodes by itself, in lower case."""
    Image.init()
    return {suffix for suffix, kind in Image.EXTENSION.items() if kind in Image.OPEN and kind not in UNDECODABLE}


def image_folder(data: DataConfig, split: Split) -> Source:
    """A plain walk: `datasets`' imagefolder adds a label column and skips unreadable files silently."""
    root = data_dir(data)
    train, held_out = _split_folders(root, data)
    folder = held_out if split == "eval" and held_out is not None else train
    every_name = _list_pictures(folder)
    if not every_name:
        raise ValueError(f"data.path is {data.path!r}; {folder} holds no picture that Pillow can open")
    if train == root:
        nested = sorted({part for name in every_name for part in name.split(os.sep)[:-1] if _keyword_group(part)})
        if nested:
            raise ValueError(
                f"data.path is {data.path!r}; it holds folders named {nested} further inside, which look like splits: "
                "set data.path to the folder that holds them"
            )
    rows = holdout_indices(every_name, data, split) if held_out is None else range(len(every_name))
    names = take([every_name[row] for row in rows], data, split)
    places = [base / file for base in (folder, root) for file in ("metadata.csv", "metadata.jsonl")]
    metadata = next((place for place in places if place.is_file()), None)

    def table() -> pa.Table:
        return pa.table({}) if metadata is None else _read_metadata(metadata, folder, names, every_name)

    return picture_files(folder, names, [metadata] if metadata else [], table)


def picture_files(folder: Path, names: Sequence[str], tables: Sequence[Path], table: Callable[[], pa.Table]) -> Source:
    """The named files of a folder; size and time of each and the contents of `tables` are their identity."""
    digest = hashlib.sha256(os.fsencode(folder.resolve()))
    for name in names:
        digest.update(file_state(name, folder))
    for file in tables:
        digest.update(hashlib.sha256(file.read_bytes()).digest())

    def open_file(i: int) -> Image.Image:
        path = os.path.join(folder, names[i])
        # Opening a pipe would block until somebody writes to it.
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError("it is not a file")
        return Image.open(path)

    return Source(tuple(names), digest.hexdigest(), table, open=open_file)


def _split_folders(root: Path, data: DataConfig) -> tuple[Path, Path | None]:
    """The folder to train on, `root` if it has no splits, and the held-out folder if there is one."""
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    train = _find_split(folders, data.train_split, "train_split")
    held_out = _find_split(folders, data.eval_split, "eval_split")
    paired = _paired_names([path.name for path in folders])
    unused = [path.name for path in folders if path not in (train, held_out)]
    others = [name for name in unused if _keyword_group(name) or name in paired]
    if held_out is not None and held_out == train:
        raise ValueError(f"data.eval_split is {data.eval_split!r}; it names the folder of data.train_split, {train}")
    if train is None and (held_out or others):
        present = [held_out.name] if held_out else others
        raise ValueError(
            f"data.train_split is {data.train_split!r}; {root} has the folders {present} and none of that name"
        )
    if train is not None and held_out is None and others:
        raise ValueError(
            f"data.eval_split is {data.eval_split!r}; {root} has {others} beside {train.name!r}: set data.eval_split "
            f"to one of them, or data.path to {train} to hold out pictures from it"
        )
    return train or root, held_out


def _find_split(folders: Sequence[Path], name: str, field: str) -> Path | None:
    """The folder of exactly this name, or else the only one of the same split in another spelling."""
    exact = [path for path in folders if path.name == name]
    group = _keyword_group(name)
    found = exact or [
        path
        for path in folders
        if path.name.casefold() == name.casefold() or (group and _keyword_group(path.name) == group)
    ]
    if len(found) > 1:
        raise ValueError(f"data.{field} is {name!r}; it must be one of {[path.name for path in found]}")
    return found[0] if found else None


def _keyword_group(name: str) -> str | None:
    """The split that a folder's name stands for; "Val_Ackerman" is a person."""
    words = set(re.split(r"[\W\d_]+", name.casefold())) - FILLER_WORDS
    return next((group for group, keywords in SPLIT_KEYWORDS.items() if len(words) == 1 and words & {*keywords}), None)


def _paired_names(names: Sequence[str]) -> set[str]:
    """Names such as `seg_train` and `seg_test`, which differ only in the split."""
    by_rest: dict[str, dict[str, str]] = {}
    for name in names:
        words = re.split(r"[\W\d_]+", name.casefold())
        for group, keywords in SPLIT_KEYWORDS.items():
            if {*words} & {*keywords}:
                rest = " ".join(word for word in words if word not in keywords)
                by_rest.setdefault(rest, {})[group] = name
    return {name for found in by_rest.values() if len(found) > 1 for name in found.values()}


def _list_pictures(folder: Path) -> list[str]:
    """Relative paths, sorted, through links to folders; what is left out is counted in a warning."""

    def refuse(error: OSError) -> None:
        raise ValueError(f"{error.filename} is a folder that cannot be read: {error.strerror}") from error

    suffixes, names, left_out = picture_suffixes(), [], Counter[str]()
    seen: set[tuple[int, int]] = set()
    for base, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(base)
        if (status.st_dev, status.st_ino) in seen:
            folders[:] = []
            continue
        seen.add((status.st_dev, status.st_ino))
        # Real folders first, so that one linked from beside itself keeps its own name.
        folders.sort(key=lambda name, base=base: (os.path.islink(os.path.join(base, name)), name))  # type: ignore[misc]
        for name in [name for name in folders if name.startswith(".") or name.casefold() in SYSTEM_FOLDERS]:
            folders.remove(name)
            inside = (file for _, _, files in os.walk(os.path.join(base, name)) for file in files)
            left_out[name] += sum(_suffix(file) in suffixes for file in inside)
        for name in files:
            suffix = _suffix(name)
            if suffix in suffixes and not name.startswith("."):
                names.append(os.path.relpath(os.path.join(base, name), folder))
            elif suffix in OTHER_PICTURE_SUFFIXES:
                left_out[f"*{suffix}"] += 1
    left = ", ".join(f"{count} in {name}" for name, count in sorted(left_out.items()) if count)
    if left:
        warnings.warn(f"left out pictures of {folder}, of the system or in unknown formats: {left}", stacklevel=2)
    return sorted(names)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _read_metadata(file: Path, folder: Path, names: Sequence[str], every_name: Sequence[str]) -> pa.Table:
    """The rows of metadata.csv or metadata.jsonl for `names`, null where a picture has none.

    The file must fit half of all pictures next to it; a split without rows is no error.
    """
    try:
        if file.suffix == ".csv":
            lines = pyarrow.csv.ParseOptions(newlines_in_values=True)
            text = pyarrow.csv.ConvertOptions(column_types={"file_name": pa.string()})
            table = pyarrow.csv.read_csv(file, parse_options=lines, convert_options=text)
        else:
            table = pyarrow.json.read_json(file)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    columns = table.column_names
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise ValueError(f"{file} has more than one column named {repeated[0]!r}; each name must be given once")
    if "file_name" not in columns:
        raise ValueError(f"{file} has the columns {columns}; one must be 'file_name'")
    if not pa.types.is_string(table["file_name"].type):
        raise ValueError(f"{file} has a file_name of type {table['file_name'].type}; it must be text")

    pictures = _list_pictures(file.parent) if file.parent != folder else list(every_name)
    spellings = Counter(map(_normalize, pictures))
    picture_of = {key: name for name in pictures if spellings[key := _normalize(name)] == 1}
    every, listed = set(pictures), [name or "" for name in table["file_name"].to_pylist()]
    exact = [os.path.relpath(file.parent / name, file.parent) for name in listed]
    matches = [
        name if name in every else picture_of.get(_normalize(text)) for name, text in zip(exact, listed, strict=True)
    ]
    row_of = {match: row for row, match in enumerate(matches) if match is not None}
    if 2 * len(row_of) < min(len(listed), len(pictures)) or not row_of:
        raise ValueError(
            f"{file} has {len(listed)} rows, of which {len(row_of)} name one of the {len(pictures)} pictures in "
            f"{file.parent}; file_name is relative to that folder"
        )
    unmatched, without = matches.count(None), len(pictures) - len(row_of)
    if unmatched or without:
        warnings.warn(
            f"{file}: {unmatched} of {len(listed)} rows match no picture, "
            f"{without} of {len(pictures)} pictures have no row",
            stacklevel=2,
        )
    prefix = os.path.relpath(folder, file.parent)
    rows = [row_of.get(os.path.normpath(os.path.join(prefix, name))) for name in names]
    return table.drop_columns("file_name").take(pa.array(rows, pa.int64()))


def _normalize(name: str) -> str:
    """One spelling of a path for all file systems: NFC, slashes, stripped, case-folded."""
    return os.path.normpath(unicodedata.normalize("NFC", name.strip().replace("\\", "/")).casefold())
