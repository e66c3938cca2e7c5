"""Settings of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..config.schema import SamplingConfig, check_seed, require
from .probes import MIN_HELD_OUT
from .slices import MIN_FACES

NUM_TRAINING = 2000


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of an evaluation.

    Args:
        sampling: Numbers of held-out faces, of completions and of steps, and the first seed. Its `scheduler` is not
            used: the pipeline has its own.
        batch_size: Completions computed at once.
        num_seeds: How many seeds, one after the other, every face is completed with.
        features: Name of the feature network; `halfface evaluate` chooses another one for photographs.
        features_path: Where its weights are, for networks that need it.
        slices: Columns to compare faces by, or `all`.
        read: Numeric columns that probes predict, or `all`.
        num_training: Training faces to search for the nearest one and to fit probes to.
    """

    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(num_faces=64, num_completions=4, num_inference_steps=20)
    )
    batch_size: int = 32
    num_seeds: int = 1
    features: str = "pixels"
    features_path: str | None = None
    slices: Sequence[str] = ()
    read: Sequence[str] = ()
    num_training: int = NUM_TRAINING

    def __post_init__(self) -> None:
        faces, completions = self.sampling.num_faces, self.sampling.num_completions
        require(faces >= 2, "num_faces", faces, "at least 2, to compare with another face's half")
        require(completions >= 2, "num_completions", completions, "at least 2, to measure diversity")
        for name in ("batch_size", "num_seeds", "num_training"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        check_seed("seed of the last repetition", self.sampling.seed + self.num_seeds - 1)
        for option, columns, least in (("slices", self.slices, 2 * MIN_FACES), ("read", self.read, MIN_HELD_OUT)):
            allowed = f"at least {least} with {option} {', '.join(columns)}"
            require(not columns or faces >= least, "num_faces", faces, allowed)

    @property
    def seeds(self) -> range:
        """The seeds of all repetitions."""
        return range(self.sampling.seed, self.sampling.seed + self.num_seeds)

    @property
    def faces_at_once(self) -> int:
        """Faces completed, and cached, together."""
        return max(1, self.batch_size // self.sampling.num_completions)
