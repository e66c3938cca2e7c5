"""Where pictures come from: each source lists its pictures and opens them; nothing here resizes or caches."""

import hashlib
import inspect
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
from PIL import Image

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data import procedural
from halfface_pipeline.data.attributes import is_numeric
from halfface_pipeline.data.digits import digits, mnist
from halfface_pipeline.data.procedural import canvas as face_canvas
from halfface_pipeline.data.procedural import factors as face_factors
from halfface_pipeline.data.procedural import renderer as face_renderer
from halfface_pipeline.data.splits import Source, Split, cache_dir_of, holdout_indices, take

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
PROCEDURAL_EVAL_START = 10_000_000
PROCEDURAL_COUNTS: dict[Split, int] = {"train": 20_000, "eval": 256}
CELEBA_PARTS = {"train": "0", "valid": "1", "validation": "1", "val": "1", "test": "2"}
CELEBA_LAYOUT = "the official CelebA folder has img_align_celeba/, list_eval_partition.txt and list_attr_celeba.txt"


def load_source(data: DataConfig, split: Split) -> Source:
    """List the pictures that `data` asks for.

    Args:
        data: The data section of the configuration.
        split: The training part or the part held out from it.

    Returns:
        The pictures in a fixed order, `data.num_images` or `data.num_eval_images` of them where that is set.

    Raises:
        ValueError: The source is missing, empty, lacks a split or column, or has fewer pictures than asked for.
    """
    if data.source in ("procedural", "digits"):
        return _procedural(data, split) if data.source == "procedural" else digits(data, split)
    alias = CELEBA_PARTS if data.source == "celeba" else {}
    if alias.get(data.train_split, data.train_split) == alias.get(data.eval_split, data.eval_split):
        raise ValueError(
            f"data.eval_split is {data.eval_split!r}; it must not be data.train_split: name a split that the source "
            "lacks to hold out data.holdout of the training images"
        )
    return {"imagefolder": _imagefolder, "hub": _hub, "celeba": _celeba, "mnist": mnist}[data.source](data, split)


def _procedural(data: DataConfig, split: Split) -> Source:
    if data.height % 2:
        raise ValueError(f"data.height is {data.height}; it must be even for data.source procedural")
    wanted = data.num_images if split == "train" else data.num_eval_images
    start = 0 if split == "train" else PROCEDURAL_EVAL_START
    indices = range(start, start + (wanted or PROCEDURAL_COUNTS[split]))
    if (wanted or 0) > PROCEDURAL_EVAL_START:
        field = "num_images" if split == "train" else "num_eval_images"
        raise ValueError(f"data.{field} is {wanted}; it must be at most {PROCEDURAL_EVAL_START} for procedural")

    def table() -> pa.Table:
        return pa.Table.from_pylist(face_factors.records(face_factors.draw_factors(data.seed, indices)))

    def draw(chunk: range) -> np.ndarray:
        return procedural.faces(len(chunk), data.height, data.width, data.seed, start + chunk.start)[0]

    # The program that draws is part of the data: a changed renderer must not be served the old faces.
    program = "".join(inspect.getsource(module) for module in (procedural, face_factors, face_renderer, face_canvas))
    identity = hashlib.sha256(f"{data.seed} {program}".encode()).hexdigest()
    return Source(tuple(f"procedural-{index}" for index in indices), identity, table, draw=draw)


def _imagefolder(data: DataConfig, split: Split) -> Source:
    """A plain walk: `datasets`' imagefolder adds a bogus label, follows its own split names and hides broken files."""
    root = cache_dir_of(data)
    train, held_out = root / data.train_split, root / data.eval_split
    if held_out.is_dir() and not train.is_dir():
        raise ValueError(
            f"data.train_split is {data.train_split!r}; {root} has the folder {data.eval_split!r} and no such folder"
        )
    shares = not held_out.is_dir()
    folder = held_out if split == "eval" and not shares else train if train.is_dir() else root
    names = _pictures_in(folder)
    if not names:
        raise ValueError(f"data.path is {data.path!r}; {folder} holds no picture ({', '.join(PICTURE_SUFFIXES)})")
    if shares:
        names = [names[row] for row in holdout_indices(names, data, split)]
    names = take(names, data, split)
    places = [base / file for base in (folder, root) for file in ("metadata.csv", "metadata.jsonl")]
    metadata = next((place for place in places if place.is_file()), None)

    def table() -> pa.Table:
        return pa.table({}) if metadata is None else _metadata(metadata, folder, names)

    return _files(folder, names, [metadata] if metadata else [], table)


def _metadata(file: Path, folder: Path, names: Sequence[str]) -> pa.Table:
    """The rows of metadata.csv or metadata.jsonl for these pictures, nulls where a picture has none."""
    try:
        if file.suffix == ".csv":
            lines = pyarrow.csv.ParseOptions(newlines_in_values=True)
            text = pyarrow.csv.ConvertOptions(column_types={"file_name": pa.string()})
            table = pyarrow.csv.read_csv(file, parse_options=lines, convert_options=text)
        else:
            table = pyarrow.json.read_json(file)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if "file_name" not in table.column_names:
        raise ValueError(f"{file} has the columns {table.column_names}; one must be 'file_name'")
    listed = table["file_name"].to_pylist()
    row_of = {os.path.relpath(file.parent / name, folder): row for row, name in enumerate(listed) if name}
    rows = [row_of.get(name) for name in names]
    if all(row is None for row in rows):
        raise ValueError(f"{file} names none of the pictures in {folder}; file_name is relative to {file.parent}")
    return table.drop_columns("file_name").take(pa.array(rows, pa.int64()))


def _celeba(data: DataConfig, split: Split) -> Source:
    root = cache_dir_of(data)
    for field in ("train_split", "eval_split"):
        if getattr(data, field) not in CELEBA_PARTS:
            raise ValueError(f"data.{field} is {getattr(data, field)!r}; it must be one of {', '.join(CELEBA_PARTS)}")
    part_name = data.train_split if split == "train" else data.eval_split
    part = CELEBA_PARTS[part_name]

    def find(*places: str) -> Path:
        found = next((root / place for place in places if (root / place).exists()), None)
        if found is None:
            raise ValueError(f"data.path is {data.path!r}; it lacks {places[-1]}: {CELEBA_LAYOUT}")
        return found

    # The copy on Kaggle nests the pictures once more and has .csv for .txt.
    folder = find("img_align_celeba/img_align_celeba", "img_align_celeba")
    partition = find("list_eval_partition.csv", "list_eval_partition.txt")
    attribute_file = find("list_attr_celeba.csv", "list_attr_celeba.txt")
    rows = [line.replace(",", " ").split() for line in partition.read_text().splitlines()]
    names = [row[0] for row in rows if len(row) == 2 and row[1] == part]
    if not names:
        raise ValueError(f"{partition} lists no picture of {part_name!r}; a row of it is '000001.jpg {part}'")
    names = take(names, data, split)
    there = set(os.listdir(folder))
    missing = [name for name in names if name not in there]
    if missing and data.on_bad_image == "error":
        raise ValueError(
            f"{folder} lacks {len(missing)} of the {len(names)} pictures of {part_name!r}, {missing[0]} first; "
            "data.on_bad_image skip leaves them out"
        )

    return _files(folder, names, [attribute_file], lambda: _celeba_attributes(attribute_file, names))


def _celeba_attributes(file: Path, names: Sequence[str]) -> pa.Table:
    lines = file.read_text().replace(",", " ").splitlines()
    # list_attr_celeba.txt: a count, the attribute names, then the rows; the .csv has its names in the first line.
    head = 1 if file.suffix == ".csv" else 2
    columns = lines[head - 1].split()[2 - head :] if len(lines) >= head else []
    rows = {line.split(maxsplit=1)[0]: line for line in lines[head:] if line.strip()}
    unlisted = [name for name in names if name not in rows]
    if unlisted:
        raise ValueError(f"{file} has no row for {len(unlisted)} pictures, {unlisted[0]} first")
    try:
        values = np.loadtxt([rows[name] for name in names], np.int8, usecols=range(1, len(columns) + 1), ndmin=2)
    except ValueError as error:
        raise ValueError(f"{file} is not a list of -1 and 1 for {len(columns)} attributes: {error}") from error
    return pa.table({column: values[:, place] for place, column in enumerate(columns)})


def _hub(data: DataConfig, split: Split) -> Source:
    import datasets  # takes a second to import and only this source needs it

    splits = _load_splits(data)
    if data.train_split not in splits:
        raise ValueError(f"data.train_split is {data.train_split!r}; {data.path} has the splits {sorted(splits)}")
    shares = data.eval_split not in splits
    name = data.eval_split if split == "eval" and not shares else data.train_split
    dataset = splits[name]
    columns = [column for column in dataset.column_names if column != data.image_column]
    if data.image_column not in dataset.column_names:
        raise ValueError(f"data.image_column is {data.image_column!r}; {data.path} has the columns {columns}")
    # `datasets` would make pictures of lists of numbers too, so the type decides: encoded pictures or their paths.
    kind = dataset.features.arrow_schema.field(data.image_column).type
    if not (pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_string(kind)):
        raise ValueError(f"data.image_column is {data.image_column!r}; it holds {kind}, not pictures")
    encoded = datasets.Image(decode=False)
    pictures = dataset.select_columns([data.image_column]).cast_column(data.image_column, encoded)
    rows = list(range(len(dataset)))
    if shares:
        rows = holdout_indices([str(row) for row in rows], data, split)
    rows = take(rows, data, split)

    def table() -> pa.Table:
        schema = dataset.features.arrow_schema
        kept = [name for name in columns if name in data.attribute_columns or is_numeric(schema.field(name).type)]
        return dataset.select_columns(kept).select(rows).with_format("arrow")[:] if kept else pa.table({})

    def open_row(i: int) -> Image.Image:
        value = pictures[rows[i]][data.image_column]
        if value is None:
            raise ValueError("the row holds no picture")
        if value["bytes"] is not None:
            return Image.open(io.BytesIO(value["bytes"]))
        return datasets.Image().decode_example(value)

    identity = f"{dataset._fingerprint} {data.image_column}"
    return Source(tuple(f"{name}-{row}" for row in rows), identity, table, open=open_row)


def _load_splits(data: DataConfig) -> dict[str, Any]:
    """Every split of a Hub data set, of a local folder that `datasets` can load, or of a `save_to_disk` folder."""
    import datasets

    assert data.path is not None
    path = os.path.expanduser(data.path)
    if os.path.isfile(path) or (path.startswith((".", "/")) and not os.path.exists(path)):
        raise ValueError(f"data.path is {data.path!r}; it must be a Hub id or an existing folder")
    if os.path.isdir(os.path.join(path, "img_align_celeba")):
        raise ValueError(f"data.source is 'hub'; {data.path} is a CelebA folder, which data.source celeba reads")
    try:
        if any(os.path.isfile(os.path.join(path, file)) for file in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(path)
        else:
            found = datasets.load_dataset(path, data.name)
    except Exception as error:  # a Hub id fails in a dozen ways, all of which the user mends in the same two fields
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"data.path is {data.path!r}, data.name {data.name!r}; the data set was not found, is unreachable or "
            f"cannot be read: {type(error).__name__}: {reason}"
        ) from error
    return dict(found) if isinstance(found, datasets.DatasetDict) else {data.train_split: found}


def _pictures_in(folder: Path) -> list[str]:
    def refuse(error: OSError) -> None:
        raise ValueError(f"{error.filename} is a folder that cannot be read: {error.strerror}") from error

    names = []
    for base, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        pictures = (name for name in files if name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith("."))
        names += [os.path.relpath(os.path.join(base, name), folder) for name in pictures]
    return sorted(names)


def _files(folder: Path, names: Sequence[str], tables: Sequence[Path], table: Callable[[], pa.Table]) -> Source:
    digest = hashlib.sha256(os.fsencode(folder.resolve()))
    for name in names:
        try:
            status = os.stat(os.path.join(folder, name))
            digest.update(os.fsencode(f"\0{name}\0{status.st_size}\0{status.st_mtime_ns}"))
        except OSError:
            digest.update(os.fsencode(f"\0{name}\0missing"))
    for file in tables:
        digest.update(hashlib.sha256(file.read_bytes()).digest())

    def open_file(i: int) -> Image.Image:
        path = os.path.join(folder, names[i])
        # Opening a pipe would wait for somebody to write to it.
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError("it is no file")
        return Image.open(path)

    return Source(tuple(names), digest.hexdigest(), table, open=open_file)
