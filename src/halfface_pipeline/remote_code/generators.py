"""Random generators of a call, so that a completion does not depend on the batch it is computed in."""

from collections.abc import Sequence

import torch

Generators = torch.Generator | Sequence[torch.Generator] | None


def generator_groups(generator: Generators, inputs: int, num_completions: int) -> list[torch.Generator | None]:
    """One generator, one per input or one per completion, each for consecutive completions; else ValueError."""
    sources = [generator] if generator is None or isinstance(generator, torch.Generator) else generator
    if not isinstance(sources, list | tuple) or not all(isinstance(g, torch.Generator | None) for g in sources):
        raise ValueError(f"generator is {generator!r}; it must be a torch.Generator, a list of them, or None")
    if sources is generator and len(sources) not in (inputs, inputs * num_completions):
        raise ValueError(
            f"generator is a list of {len(sources)}; it must have one per input ({inputs}) "
            f"or one per completion ({inputs * num_completions})"
        )
    return list(sources)


def step_generators(groups: list[torch.Generator | None], total: int) -> list[torch.Generator]:
    """One generator per completion for the noise of the steps, so that none depends on the others of its batch."""
    if len(groups) == total and None not in groups and total > 1:
        return groups  # type: ignore[return-value]
    each = total // len(groups)
    seeds = [
        torch.randint(2**63 - 1, (each,), generator=source, device=source.device if source else None).tolist()
        for source in groups
    ]
    return [torch.Generator().manual_seed(seed) for group in seeds for seed in group]
