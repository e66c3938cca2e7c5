"""Which random numbers each completion is drawn from."""

from collections.abc import Sequence

import torch


def completion_seeds(
    generator: torch.Generator | Sequence[torch.Generator] | None, inputs: int, num_completions: int
) -> list[int]:
    """A seed for each completion, drawn one by one so that more completions do not change the first ones.

    Args:
        generator: One for all, one an input, or one a completion; none takes torch's global one.
        inputs: Given halves.
        num_completions: Completions of each.

    Returns:
        inputs * num_completions seeds, those of one input together.

    Raises:
        ValueError: If a list of another length is given.
    """
    if generator is None or isinstance(generator, torch.Generator):
        sources = [generator] * (inputs * num_completions)
    elif len(generator) == inputs:
        sources = [source for source in generator for _ in range(num_completions)]
    elif len(generator) == inputs * num_completions:
        sources = list(generator)
    else:
        raise ValueError(
            f"generator is a list of {len(generator)}; it must hold one an input ({inputs}) "
            f"or one a completion ({inputs * num_completions})"
        )
    return [
        int(torch.randint(2**63 - 1, (), generator=source, device=source.device if source else None))
        for source in sources
    ]
