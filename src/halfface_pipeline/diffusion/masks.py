"""Random masks: what is hidden in each image of a training for any mask."""

import itertools

import torch

KINDS = {"half": 4 / 12, "box": 3 / 12, "stroke": 4 / 12, "all": 1 / 12}
"""Share of each kind; halves are as often bottom, top, left and right."""
INVERTED = 0.25
"""Share of boxes and strokes that are seen, and the rest hidden."""
BOX_SIDE = (1 / 8, 1.0)
"""Smallest and largest side of a box, as a fraction of the image's."""
VERTICES = 5
"""Of the polyline of a stroke."""
STROKE_RADIUS = (1 / 32, 1 / 8)
"""Smallest and largest half of a stroke's width, as a fraction of the image's sides."""


def random_masks(count: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Masks that are true where hidden, (count, 1, height, width) booleans; each hides something."""

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, 1, 1, generator=generator)

    # Centres of the pixels, as fractions of the sides.
    y, x = (((torch.arange(side) + 0.5) / side) for side in (height, width))
    place = torch.stack(torch.meshgrid(y, x, indexing="ij"))
    down, across = place >= 0.5
    halves = torch.stack([down, ~down, across, ~across])[torch.randint(4, (count,), generator=generator)]
    boxes = ((place - uniform(0, 1, 2)).abs() <= uniform(*BOX_SIDE, 2) / 2).all(1)
    strokes, radius = torch.zeros_like(boxes), uniform(*STROKE_RADIUS)
    for start, end in itertools.pairwise(uniform(0, 1, VERTICES, 2).unbind(1)):
        along = end - start
        nearest = (((place - start) * along).sum(1, keepdim=True) / along.square().sum(1, keepdim=True)).clamp(0, 1)
        strokes |= (place - start - nearest * along).square().sum(1) <= radius.square()
    inverted = uniform(0, 1) < INVERTED
    kinds = torch.stack([halves, boxes ^ inverted, strokes ^ inverted, torch.ones_like(boxes)])
    shares = torch.tensor(list(KINDS.values()))
    chosen = torch.multinomial(shares, count, replacement=True, generator=generator)
    masks = kinds[chosen, torch.arange(count)]
    masks |= ~masks.any((1, 2), keepdim=True)  # a box of less than a pixel, or an inverted one of the whole image
    return masks[:, None]
