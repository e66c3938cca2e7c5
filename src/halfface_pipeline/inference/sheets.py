"""Sheets of completions, and grids of samples."""

from collections.abc import Sequence

import PIL.Image
import PIL.ImageDraw

MARGIN = 4
SMALLEST_FACE = 96
"""Faces lower than this many pixels are shown enlarged."""


def sheet(
    originals: Sequence[PIL.Image.Image], completions: Sequence[PIL.Image.Image], titles: Sequence[str] = ()
) -> PIL.Image.Image:
    """A grid: each row an original, then its completions, which are consecutive; titles stand over the columns."""
    columns = len(completions) // len(originals)
    rows = [[original, *completions[row * columns : (row + 1) * columns]] for row, original in enumerate(originals)]
    return _table(rows, titles or ("original", "completions"))


def comparison(
    originals: Sequence[PIL.Image.Image], columns: Sequence[Sequence[PIL.Image.Image]], titles: Sequence[str]
) -> PIL.Image.Image:
    """A grid with a row per original; each column has one completion per row, or more, and a title."""
    rows = range(len(originals))
    return sheet(originals, [column[row] for row in rows for column in columns], ("original", *titles))


def grid(images: Sequence[PIL.Image.Image], columns: int) -> PIL.Image.Image:
    """Images of one size row by row under the title `samples`, `columns` of them per row."""
    return _table([images[first : first + columns] for first in range(0, len(images), columns)], ("samples",))


def _table(rows: Sequence[Sequence[PIL.Image.Image]], titles: Sequence[str]) -> PIL.Image.Image:
    width, height = rows[0][0].size
    scale = max(1, -(-SMALLEST_FACE // height))
    cell_width, cell_height = width * scale + MARGIN, height * scale + MARGIN
    header = 16
    picture = PIL.Image.new("RGB", (len(rows[0]) * cell_width + MARGIN, len(rows) * cell_height + header), "white")
    draw = PIL.ImageDraw.Draw(picture)
    for column, title in enumerate(titles):
        draw.text((MARGIN + column * cell_width, 2), title, fill="black")
    for row, faces in enumerate(rows):
        for column, face in enumerate(faces):
            face = face.resize((width * scale, height * scale), PIL.Image.Resampling.BICUBIC)
            picture.paste(face, (MARGIN + column * cell_width, header + row * cell_height))
    return picture
