"""Where pictures come from: each source lists its pictures and opens them; nothing here resizes or caches."""

import gzip
import hashlib
import inspect
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data import procedural
from halfface_pipeline.data.attributes import is_numeric
from halfface_pipeline.data.picture_folder import image_folder, picture_files
from halfface_pipeline.data.procedural import canvas as face_canvas
from halfface_pipeline.data.procedural import factors as face_factors
from halfface_pipeline.data.procedural import renderer as face_renderer
from halfface_pipeline.data.splits import Source, Split, data_dir, file_state, holdout_indices, take

PROCEDURAL_EVAL_START = 10_000_000
PROCEDURAL_COUNTS: dict[Split, int] = {"train": 20_000, "eval": 256}
CELEBA_PARTS = {"train": "0", "valid": "1", "validation": "1", "val": "1", "test": "2"}
IDX_OF_UNSIGNED_BYTES = 0x08
MNIST_PARTS = {"train": "train", "test": "t10k"}
CELEBA_LAYOUT = "the official CelebA folder has img_align_celeba/, list_eval_partition.txt and list_attr_celeba.txt"


def load_source(data: DataConfig, split: Split) -> Source:
    """Lists the pictures of a split in a fixed order, the first `data.num_images` or `data.num_eval_images` of them.

    ValueError if the source is missing, empty, lacks a split or column, or has fewer pictures.
    """
    alias = CELEBA_PARTS if data.source == "celeba" else {}
    single = data.source in ("procedural", "digits")
    if not single and alias.get(data.train_split, data.train_split) == alias.get(data.eval_split, data.eval_split):
        raise ValueError(
            f"data.eval_split is {data.eval_split!r}; it must not be data.train_split: name a split that the source "
            "lacks to hold out data.holdout of the training images"
        )
    return LOADERS[data.source](data, split)


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


def _celeba(data: DataConfig, split: Split) -> Source:
    root, (part_name, part) = data_dir(data), _named_part(data, split, CELEBA_PARTS)

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

    return picture_files(folder, names, [attribute_file], lambda: _celeba_attributes(attribute_file, names))


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
    # A loading script may declare a test split and leave it empty.
    shares = data.eval_split not in splits or not len(splits[data.eval_split])
    name = data.eval_split if split == "eval" and not shares else data.train_split
    stored = splits[name]
    # A set is saved with its output format, which would hand out tensors or leave columns out.
    dataset = stored.with_format(None)
    columns = [column for column in dataset.column_names if column != data.image_column]
    if data.image_column not in dataset.column_names:
        raise ValueError(f"data.image_column is {data.image_column!r}; {data.path} has the columns {columns}")
    # `datasets` would make pictures of lists of numbers too, so the type decides: encoded pictures or their paths.
    kind = dataset.features.arrow_schema.field(data.image_column).type
    if pa.types.is_large_binary(kind) or pa.types.is_large_string(kind):
        plain = "binary" if pa.types.is_large_binary(kind) else "string"
        dataset = dataset.cast_column(data.image_column, datasets.Value(plain))
    elif not (pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_string(kind)):
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

    identity = f"{stored._fingerprint} {data.image_column}{_state_of_named_files(stored, data.image_column)}"
    return Source(tuple(f"{name}-{row}" for row in rows), identity, table, open=open_row)


def _state_of_named_files(dataset: Any, column: str) -> str:
    """A digest of size and time of the files that rows name instead of holding a picture; empty without such rows."""
    digest = hashlib.sha256()
    named = False
    for chunk in dataset.data.column(column).chunks:
        paths = chunk
        if pa.types.is_struct(chunk.type):
            paths = chunk.field("path").filter(chunk.field("bytes").is_null())
        elif pa.types.is_binary(chunk.type) or pa.types.is_large_binary(chunk.type):
            continue
        for path in filter(None, paths.to_pylist()):
            named = True
            digest.update(file_state(path))
    return f" {digest.hexdigest()}" if named else ""


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
        if os.path.isfile(os.path.join(path, "dataset_dict.json")):
            found = _load_saved_splits(Path(path))
        elif os.path.isfile(os.path.join(path, "state.json")):
            found = datasets.load_from_disk(path)
        else:
            found = datasets.load_dataset(path, data.name)
    except Exception as error:  # a Hub id fails in many ways, all corrected in the same two fields
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"data.path is {data.path!r}, data.name {data.name!r}; the data set was not found, is unreachable or "
            f"cannot be read: {type(error).__name__}: {reason}"
        ) from error
    return dict(found) if isinstance(found, dict) else {data.train_split: found}


def _load_saved_splits(folder: Path) -> dict[str, Any]:
    """The splits of a `save_to_disk` folder that hold rows; `datasets` fails on an empty one."""
    import datasets

    names = json.loads((folder / "dataset_dict.json").read_text())["splits"]
    filled = [name for name in names if json.loads((folder / name / "state.json").read_text())["_data_files"]]
    return {name: datasets.load_from_disk(str(folder / name)) for name in filled}


def _named_part(data: DataConfig, split: Split, parts: Mapping[str, str]) -> tuple[str, str]:
    """The split's name in the configuration and in the files of a source with fixed parts."""
    for field in ("train_split", "eval_split"):
        if getattr(data, field) not in parts:
            raise ValueError(f"data.{field} is {getattr(data, field)!r}; it must be one of {', '.join(parts)}")
    name = data.train_split if split == "train" else data.eval_split
    return name, parts[name]


def _mnist(data: DataConfig, split: Split) -> Source:
    """The four idx files of MNIST (LeCun et al. 1998), gzipped or not: 28x28 grey digits with their `label`."""
    folder, (_, part) = data_dir(data), _named_part(data, split, MNIST_PARTS)
    found = []
    for name, dimensions in ((f"{part}-images-idx3-ubyte", 3), (f"{part}-labels-idx1-ubyte", 1)):
        # Some copies have a dot before idx.
        stems = (name, name.replace("-idx", ".idx"))
        files = [folder / f"{stem}{ending}" for stem in stems for ending in ("", ".gz")]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise ValueError(f"data.path is {data.path!r}; it lacks {name} or {name}.gz, a file of MNIST")
        found.append(_read_idx(file, dimensions))
    images, labels = found
    if len(images) != len(labels):
        raise ValueError(f"data.path is {data.path!r}; {part} has {len(images)} images and {len(labels)} labels")
    return _in_memory(f"mnist-{part}", images, labels, take(list(range(len(images))), data, split))


def _read_idx(file: Path, dimensions: int) -> np.ndarray:
    """Unsigned bytes of an idx file: two zeros, a type, the number of sides, each side big-endian, the values."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    start = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, IDX_OF_UNSIGNED_BYTES, dimensions)) or len(content) < start:
        raise ValueError(f"{file} begins with {content[:4].hex()}; it must be an idx file of {dimensions} dimensions")
    sides = np.frombuffer(content, ">u4", dimensions, offset=4)
    size = start + int(np.prod(sides, dtype=np.int64))
    if len(content) != size:
        raise ValueError(f"{file} has {len(content)} bytes; its header states {size}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(*sides)


def _digits(data: DataConfig, split: Split) -> Source:
    """scikit-learn's 1,797 grey digits of 8x8 pixels (Alpaydin and Kaynak 1998) with their `label`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            "data.source is 'digits', which needs scikit-learn: install halfface-pipeline[digits]"
        ) from error
    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # stored as 0 to 16
    rows = holdout_indices([str(row) for row in range(len(images))], data, split)
    return _in_memory("digits", images, labels, take(rows, data, split))


def _in_memory(name: str, images: np.ndarray, labels: np.ndarray, rows: list[int]) -> Source:
    """Some rows of grey pictures, uint8 (N, H, W)."""
    return Source(
        tuple(f"{name}-{row}" for row in rows),
        hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
        table=lambda: pa.table({"label": labels[rows].astype(np.int64)}),
        open=lambda i: Image.fromarray(images[rows[i]]),
    )


LOADERS: dict[str, Callable[[DataConfig, Split], Source]] = {
    "procedural": _procedural,
    "digits": _digits,
    "imagefolder": image_folder,
    "hub": _hub,
    "celeba": _celeba,
    "mnist": _mnist,
}
