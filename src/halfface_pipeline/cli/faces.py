"""`halfface faces`: renders procedural faces."""

import argparse

import PIL.Image
from tqdm.auto import tqdm

from ..data.procedural import faces
from ..data.procedural.factors import records
from ..inference.png_metadata import software_mark
from ..run_folder.tables import write_csv
from .options import add_out, add_seed, output_folder, picture_size, refuse_overwriting
from .parser import Parser

FACES_AT_ONCE = 64


def add_arguments(parser: Parser) -> None:
    """Describes the command `faces`."""
    parser.describe(
        "Render procedural faces as PNG files, with their factors in metadata.csv.",
        example="halfface faces 1000 --size 112x88 --out faces",
    )
    parser.add_argument("num", type=int, metavar="N", help="number of faces")
    parser.add_argument("--size", default="112x88", metavar="HxW", help="height x width in pixels (default 112x88)")
    add_seed(parser, "seed of the faces")
    add_out(parser)
    parser.set_defaults(command=_faces)


def _faces(options: argparse.Namespace) -> None:
    height, width = picture_size(options.size)
    if options.num < 1:
        raise ValueError(f"N is {options.num}; it must be at least 1")
    out = output_folder(options.out)
    names = [f"{index:06d}.png" for index in range(options.num)]
    refuse_overwriting(out, [*names, "metadata.csv"])
    rows: list[dict[str, float | int | bool | str]] = []
    with tqdm(total=options.num, unit="face", disable=None) as bar:
        for start in range(0, options.num, FACES_AT_ONCE):
            num = min(FACES_AT_ONCE, options.num - start)
            images, factors = faces(num, height, width, seed=options.seed, start=start)
            out.mkdir(parents=True, exist_ok=True)
            for image, record in zip(images, records(factors), strict=True):
                rows.append({"file_name": names[len(rows)], **record})
                PIL.Image.fromarray(image).save(out / str(rows[-1]["file_name"]), pnginfo=software_mark())
            bar.update(num)
    write_csv(out / "metadata.csv", rows)
    print(f"{len(rows)} faces and metadata.csv in {out}")
