"""The settings of a training as frozen dataclasses, one per section, which check themselves."""

import math
import os
import warnings
from dataclasses import dataclass, field, fields
from typing import Literal

from .samplers import DISTILLED, SAMPLERS, PredictionType

HiddenHalf = Literal["bottom", "top", "left", "right", "all", "any"]
WHOLE = ("all", "any")
"""Values of `model.hidden_half` whose network draws whole images."""
KnownLayout = Literal["stacked", "mirrored"]

FAMILY_SETTINGS = {
    "unet2d": ("layers_per_block", "mid_attention", "attention_head_dim", "norm_num_groups", "dropout"),
    "report": ("conv_block", "time_embedding", "num_raa_blocks"),
}
"""Settings that one family of networks uses and the other does not."""
MAX_SEED = 2**63 - 1
LARGEST_TERMINAL_SIGNAL = 0.1
"""sqrt(abar_T) from which a warning is issued; 0.006 for the default betas and T = 1000."""
TRACKERS = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
    "aim": "aim",
    "comet_ml": "comet-ml",
    "mlflow": "mlflow",
    "clearml": "clearml",
    "dvclive": "dvclive",
    "swanlab": "swanlab",
}
"""Trackers of accelerate, and the package that each needs."""


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raises ValueError that names the field, its value and what is allowed, unless the condition holds."""
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {allowed}")


def check_ranges(section: str, config: object, **intervals: str) -> None:
    """Raises ValueError unless each setting is None or in its interval, such as "(0, 1]"."""
    for name, interval in intervals.items():
        value = getattr(config, name)
        low, high = (float(end) for end in interval[1:-1].split(","))
        if value is not None:
            above = value > low if interval[0] == "(" else value >= low
            below = value < high if interval[-1] == ")" else value <= high
            require(above and below, f"{section}.{name}", value, f"in {interval}")


def check_seed(name: str, seed: int) -> None:
    """Raises ValueError unless the seed is one that torch and NumPy both take."""
    require(0 <= seed <= MAX_SEED, name, seed, "from 0 to 2**63 - 1")


@dataclass(frozen=True)
class DataConfig:
    """Source of the images, and how they are cropped and resized.

    Args:
        source: `procedural` renders faces, `imagefolder` reads a folder of pictures, `hub` a dataset of the Hub,
            `celeba` the official CelebA folder, `mnist` the four original files of MNIST, `digits` scikit-learn's
            handwritten digits.
        path: The folder, or the Hub id of the dataset; None for `procedural` and `digits`.
        name: Configuration name of a Hub dataset that has several.
        train_split: Split (or subfolder of an image folder) to train on.
        eval_split: Held-out split (or subfolder), for sample sheets and evaluation.
        holdout: Fraction of the training images held out if the source has no `eval_split`; 1 to evaluate on all.
        image_column: Column of the picture.
        attribute_columns: Columns to keep with each picture; empty keeps every numeric or boolean column.
        attribute_encoding: `number` keeps values as they are, `binary` reads 0/1 or booleans, `signed` reads -1/+1 and
            gives 0/1; those of `celeba` are always signed.
        channels: 3 for colour, 1 for grey.
        height: Image height in pixels.
        width: Image width in pixels.
        horizontal_flip: Mirror half of the training images, chosen at random in each epoch.
        num_images: Number of images to use; None for all (20,000 for `procedural`).
        num_eval_images: Number of held-out images to use; None for all (256 for `procedural`).
        seed: Seed of the procedural faces and of the images that `holdout` selects.
        on_bad_image: `error` stops at a picture that cannot be read, `skip` leaves it out and lists it.
        cache_dir: Folder of prepared images; None for `$XDG_CACHE_HOME/halfface_pipeline`.
        license: Licence of the data, named in the model card.
        eyes: Where the eyes lie in the prepared images, as fractions of width and height: x and y of the one on the
            left, then of the one on the right. None for `procedural`'s own and else for CelebA's.
    """

    source: Literal["procedural", "imagefolder", "hub", "celeba", "mnist", "digits"] = "procedural"
    path: str | None = None
    name: str | None = None
    train_split: str = "train"
    eval_split: str = "test"
    holdout: float = 0.05
    image_column: str = "image"
    attribute_columns: tuple[str, ...] = ()
    attribute_encoding: Literal["number", "binary", "signed"] = "number"
    channels: Literal[1, 3] = 3
    height: int = 48
    width: int = 40
    horizontal_flip: bool = True
    num_images: int | None = None
    num_eval_images: int | None = None
    seed: int = 0
    on_bad_image: Literal["error", "skip"] = "error"
    cache_dir: str | None = None
    license: str | None = None
    eyes: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        built_in = self.source in ("procedural", "digits")
        require(built_in or bool(self.path), "data.path", self.path, f"set for {self.source}")
        require(self.channels in (1, 3), "data.channels", self.channels, "1 or 3")
        check_ranges("data", self, holdout="(0, 1]", height="[16, 65535]", width="[16, 65535]")
        check_ranges("data", self, num_images="[1, inf)", num_eval_images="[1, inf)")
        check_seed("data.seed", self.seed)
        eyes = self.eyes
        allowed = "four fractions from 0 to 1, the left eye's x, y and the right eye's, or null"
        fine = eyes is None or (len(eyes) == 4 and all(0 <= part <= 1 for part in eyes) and eyes[0] < eyes[2])
        require(fine, "data.eyes", eyes, allowed)


@dataclass(frozen=True)
class ModelConfig:
    """The network and its condition.

    Args:
        family: `unet2d` is diffusers' `UNet2DModel`, `report` the report's own network (`ReportNetwork`).
        hidden_half: The half that the model generates; `all` for an unconditional model of whole images; `any` for one
            that generates what a mask hides and is given the rest.
        known_layout: `stacked` concatenates the known half as it is (the report), `mirrored` flips it so that the two
            rows at the seam share a position.
        block_out_channels: Channels of each resolution, finest first.
        attention_levels: Resolutions with self-attention, 0 the finest; the bottleneck is set by `mid_attention`.
        layers_per_block: ResNet blocks per resolution (`unet2d`).
        mid_attention: Self-attention in the middle block, at the lowest resolution (`unet2d`).
        attention_head_dim: Channels of one attention head; each attended width must be a multiple of it (`unet2d`).
        norm_num_groups: Groups of the group normalization; every width must be a multiple of it (`unet2d`).
        dropout: Dropout probability inside the ResNet blocks (`unet2d`).
        conv_block: `double` or `triple` convolutions, or two `resnet` blocks, at each level (`report`).
        time_embedding: A map concatenated to the `input`, or a vector added in the `bottleneck` (`report`).
        num_raa_blocks: Residual and attention blocks in the bottleneck; 0 for one `conv_block` (`report`).
        init_from: Model whose weights training starts from: run folder, checkpoint, Hub id, `drawn` or `photo`. None
            for random weights.
    """

    family: Literal["unet2d", "report"] = "unet2d"
    hidden_half: HiddenHalf = "bottom"
    known_layout: KnownLayout = "mirrored"
    block_out_channels: tuple[int, ...] = (64, 128, 256, 384)
    attention_levels: tuple[int, ...] = ()
    layers_per_block: int = 2
    mid_attention: bool = True
    attention_head_dim: int = 64
    norm_num_groups: int = 32
    dropout: float = 0.0
    conv_block: Literal["double", "triple", "resnet"] = "resnet"
    time_embedding: Literal["input", "bottleneck"] = "bottleneck"
    num_raa_blocks: int = 3
    init_from: str | None = None

    def __post_init__(self) -> None:
        widths, levels = self.block_out_channels, len(self.block_out_channels)
        require(levels >= 2 and min(widths) >= 1, "model.block_out_channels", widths, "two or more positive widths")
        for level in self.attention_levels:
            require(0 <= level < levels, "model.attention_levels", self.attention_levels, f"from 0 to {levels - 1}")
        defaults = {setting.name: setting.default for setting in fields(self)}
        unused = [name for family, names in FAMILY_SETTINGS.items() if family != self.family for name in names]
        for name in unused:
            allowed = f"left at {defaults[name]!r}: model.family {self.family} does not use it"
            require(getattr(self, name) == defaults[name], f"model.{name}", getattr(self, name), allowed)
        if self.hidden_half in WHOLE:
            allowed = f"left at 'mirrored': with model.hidden_half {self.hidden_half} there is no known half"
            require(self.known_layout == "mirrored", "model.known_layout", self.known_layout, allowed)
        check_ranges("model", self, num_raa_blocks="[0, inf)")
        if self.family == "unet2d":
            self._check_unet2d()

    def _check_unet2d(self) -> None:
        widths = self.block_out_channels
        check_ranges("model", self, layers_per_block="[1, inf)", norm_num_groups="[1, inf)")
        check_ranges("model", self, attention_head_dim="[1, inf)", dropout="[0, 1)")
        bad = [width for width in widths if width % self.norm_num_groups]
        require(not bad, "model.norm_num_groups", self.norm_num_groups, f"a divisor of every width in {widths}")
        attended = {widths[level] for level in self.attention_levels} | ({widths[-1]} if self.mid_attention else set())
        bad = [width for width in attended if width % self.attention_head_dim]
        require(not bad, "model.attention_head_dim", self.attention_head_dim, f"a divisor of {sorted(attended)}")


@dataclass(frozen=True)
class NoiseConfig:
    """The forward process q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I) (Ho et al. 2020, equation 2).

    Args:
        num_train_timesteps: T, the number of noise levels.
        beta_schedule: Shape of beta over t.
        beta_start: beta_1.
        beta_end: beta_T.
        variance_type: sigma_t^2 of ancestral sampling: `fixed_small` the posterior variance, `fixed_large` beta_t.
        rescale_betas_zero_snr: Shift the schedule to zero signal at t = T (Lin et al. 2024).
    """

    num_train_timesteps: int = 1000
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    variance_type: Literal["fixed_small", "fixed_large"] = "fixed_small"
    rescale_betas_zero_snr: bool = False

    def __post_init__(self) -> None:
        check_ranges("noise", self, num_train_timesteps="[2, inf)", beta_start="(0, 1)")
        require(self.beta_start <= self.beta_end < 1, "noise.beta_end", self.beta_end, "from beta_start up to 1")
        signal = self._terminal_signal()
        if signal > LARGEST_TERMINAL_SIGNAL:
            warnings.warn(
                f"noise.num_train_timesteps is {self.num_train_timesteps} with betas up to {self.beta_end}: "
                f"sqrt(abar_T) is {signal:.2f}, so training ends with less noise than sampling starts from; "
                "raise noise.beta_end, or set noise.rescale_betas_zero_snr",
                stacklevel=2,
            )

    def _terminal_signal(self) -> float:
        """sqrt(abar_T), the signal left at the last timestep."""
        if self.beta_schedule == "squaredcos_cap_v2" or self.rescale_betas_zero_snr:
            return 0.0
        power = 1 if self.beta_schedule == "linear" else 2
        start, end = self.beta_start ** (1 / power), self.beta_end ** (1 / power)
        last = self.num_train_timesteps - 1
        betas = ((start + (end - start) * t / last) ** power for t in range(last + 1))
        return math.exp(sum(map(math.log1p, (-beta for beta in betas))) / 2)


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the network predicts and how the timesteps are weighted.

    Args:
        prediction_type: `epsilon` the noise (L_simple, Ho et al. 2020, equation 14), `v_prediction` the velocity
            (Salimans and Ho 2022), `sample` the clean half.
        min_snr_gamma: Clamp of the Min-SNR weighting (Hang et al. 2023, equation 8); None for equal weights.
    """

    prediction_type: PredictionType = "v_prediction"
    min_snr_gamma: float | None = None

    def __post_init__(self) -> None:
        check_ranges("objective", self, min_snr_gamma="(0, inf]")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019) or Muon (Jordan et al. 2024).

    Args:
        kind: `adamw`, or `muon`, which orthogonalizes the momentum of every convolution and linear weight.
        lr: Peak learning rate; 0.01 is a good one for `muon`.
        beta1: Decay of the first moment (`adamw`), or of the momentum (`muon`).
        beta2: Decay of the second moment (`adamw`).
        weight_decay: Decoupled weight decay.
        eps: Added to the root of the second moment (`adamw`).
        max_grad_norm: Largest Euclidean norm of the gradient, which is clipped to it; None for no clipping.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    lr: float = 3e-4
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.01
    eps: float = 1e-8
    max_grad_norm: float | None = 1.0

    def __post_init__(self) -> None:
        check_ranges("optimizer", self, lr="(0, inf)", beta1="[0, 1)", beta2="[0, 1)", eps="(0, inf)")
        check_ranges("optimizer", self, weight_decay="[0, inf)", max_grad_norm="(0, inf]")


@dataclass(frozen=True)
class LRScheduleConfig:
    """The learning rate over the steps.

    Args:
        kind: `constant`; `linear` and `cosine` fall to `min_lr` at the end of training; `cosine_restarts` falls within
            a period and starts again (Loshchilov and Hutter 2017).
        warmup_steps: Optimizer steps of linear rise to the peak at the start.
        first_period: Epochs in the first period of `cosine_restarts`.
        period_multiplier: Each later period is this many times as long as the one before.
        min_lr: The lowest learning rate.
    """

    kind: Literal["constant", "linear", "cosine", "cosine_restarts"] = "cosine"
    warmup_steps: int = 0
    first_period: float = 2.0
    period_multiplier: int = 2
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        check_ranges("lr_schedule", self, warmup_steps="[0, inf)", first_period="(0, inf)")
        check_ranges("lr_schedule", self, period_multiplier="[1, inf)", min_lr="[0, inf)")


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how to train.

    Args:
        epochs: Passes over the training images; used when `steps` is null.
        steps: Optimizer steps; when set, it decides the length.
        batch_size: Images per optimizer step, over all processes and micro-batches.
        gradient_accumulation_steps: Micro-batches per process and optimizer step.
        mixed_precision: `bf16`, `fp16` or `no`; None for that of `accelerate launch` or `accelerate config`.
        speed: `auto` takes bf16 where it is native and `mixed_precision` is None, and on a CPU keeps the memory that
            a step frees for the next one; `safe` does neither.
        augment: Strength of small random rotations, scalings, shifts and changes of colour, for small data sets; 0 for
            none, 1 for 4 degrees, 5 % and 2.5 % (standard deviations).
        ema_decay: Decay of the exponential moving average (EMA) of the weights, which is sampled and saved; None for
            no EMA.
        seed: Seed of the weights, the data order, the flips, the timesteps and the noise.
        log_every: Optimizer steps between entries of log.jsonl.
        checkpoint_every: Optimizer steps between checkpoints.
        keep_last: Number of newest checkpoints to keep.
        keep_every: Checkpoints at multiples of this many optimizer steps are kept too; None for none.
        sample_every: Optimizer steps between sample sheets; None for one at the end only.
        max_bad_steps: A step whose loss or gradient is not finite, or whose loss is above `max_loss`, is skipped; more
            than this many in a row end the run. With fp16 the first steps may be skipped until the loss scale fits.
        max_loss: Steps with a larger loss are skipped; predicting zero gives a loss of about 1.
    """

    epochs: float = 100.0
    steps: int | None = None
    batch_size: int = 64
    gradient_accumulation_steps: int = 1
    mixed_precision: Literal["no", "fp16", "bf16"] | None = None
    speed: Literal["auto", "safe"] = "safe"
    augment: float = 0.0
    ema_decay: float | None = 0.999
    seed: int = 0
    log_every: int = 10
    checkpoint_every: int = 1000
    keep_last: int = 2
    keep_every: int | None = None
    sample_every: int | None = 1000
    max_bad_steps: int = 20
    max_loss: float = 1000.0

    def __post_init__(self) -> None:
        counts = ("batch_size", "gradient_accumulation_steps", "log_every", "checkpoint_every", "keep_last")
        check_ranges("training", self, **dict.fromkeys((*counts, "steps", "sample_every", "keep_every"), "[1, inf)"))
        check_ranges("training", self, epochs="(0, inf)", ema_decay="(0, 1)", max_bad_steps="[0, inf)")
        check_ranges("training", self, max_loss="(0, inf]", augment="[0, 2]")
        parts = self.gradient_accumulation_steps
        require(self.batch_size % parts == 0, "training.batch_size", self.batch_size, f"a multiple of {parts} parts")
        check_seed("training.seed", self.seed)


@dataclass(frozen=True)
class SamplingConfig:
    """How completions are sampled: those of a training's sample sheets, of commands and of experiments.

    Args:
        scheduler: Name of the sampler, a key of `halfface_pipeline.config.samplers.SAMPLERS`, or `lcm`, which samples
            distilled models alone.
        num_inference_steps: Denoising steps.
        num_faces: Held-out faces on a sheet, one per row.
        num_completions: Completions per face.
        seed: Seed of the noise.
    """

    scheduler: str = "ddpm"
    num_inference_steps: int = 50
    num_faces: int = 4
    num_completions: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("num_inference_steps", "num_faces", "num_completions")
        check_ranges("sampling", self, **dict.fromkeys(counts, "[1, inf)"))
        names = (*SAMPLERS, DISTILLED)
        require(self.scheduler in names, "sampling.scheduler", self.scheduler, f"one of {', '.join(names)}")
        check_seed("sampling.seed", self.seed)


@dataclass(frozen=True)
class DistillationConfig:
    """Training of a model that completes in a few evaluations, from the weights of a trained one.

    Args:
        teacher: Run folder, checkpoint, Hub id, or a model of the package, with the same network and noise; None to
            train a denoiser.
        num_steps: Most evaluations per completion; fewer are trained as well.
    """

    teacher: str | None = None
    num_steps: Literal[1, 2, 4] = 4

    def __post_init__(self) -> None:
        require(self.num_steps in (1, 2, 4), "distillation.num_steps", self.num_steps, "1, 2 or 4")


@dataclass(frozen=True)
class OutputConfig:
    """The run folder and the tracker.

    Args:
        dir: The run folder; None for runs/<name of the config file>.
        overwrite: Delete an earlier run with other settings or images in this folder.
        accept_changes: Resume a run whose training images have changed, or with another `optimizer`,
            `lr_schedule`, `training.seed`, `training.mixed_precision` or `data.path`.
        tracker: Tracker of accelerate that gets the log too; `none` for log.jsonl only.
    """

    dir: str | None = None
    overwrite: bool = False
    accept_changes: bool = False
    tracker: str = "tensorboard"

    def __post_init__(self) -> None:
        allowed = f"none or a tracker of accelerate: {', '.join(TRACKERS)}"
        require(self.tracker in ("none", *TRACKERS), "output.tracker", self.tracker, allowed)
        if self.dir is not None:
            object.__setattr__(self, "dir", os.path.expanduser(self.dir))


@dataclass(frozen=True)
class Config:
    """The configuration of a training."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lr_schedule: LRScheduleConfig = field(default_factory=LRScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        name, hidden = self.sampling.scheduler, self.model.hidden_half
        if hidden == "all":
            require(name == "ddpm", "sampling.scheduler", name, "ddpm with model.hidden_half all")
        if hidden not in WHOLE:
            side = "height" if hidden in ("bottom", "top") else "width"
            pixels = getattr(self.data, side)
            require(pixels % 2 == 0, f"data.{side}", pixels, "even, so that the cut is whole")
            allowed = "3, or model.hidden_half all or any: halves are completed in colour"
            require(self.data.channels == 3, "data.channels", self.data.channels, allowed)
        lowest, peak = self.lr_schedule.min_lr, self.optimizer.lr
        require(lowest <= peak, "lr_schedule.min_lr", lowest, f"at most optimizer.lr ({peak})")
        steps, most = self.sampling.num_inference_steps, self.noise.num_train_timesteps
        require(steps <= most, "sampling.num_inference_steps", steps, f"at most noise.num_train_timesteps ({most})")
        self._check_distillation()
        kind, zero_snr = self.objective.prediction_type, self.noise.rescale_betas_zero_snr
        allowed = "v_prediction or sample with noise.rescale_betas_zero_snr: pure noise says nothing about the image"
        require(not zero_snr or kind != "epsilon", "objective.prediction_type", kind, allowed)

    def _check_distillation(self) -> None:
        name, few = self.sampling.scheduler, self.distillation.num_steps
        if self.distillation.teacher is None:
            require(name != DISTILLED, "distillation.teacher", None, f"a model, for sampling.scheduler {DISTILLED}")
            return
        require(name == DISTILLED, "sampling.scheduler", name, f"{DISTILLED} with distillation.teacher")
        steps, hidden, source = self.sampling.num_inference_steps, self.model.hidden_half, self.model.init_from
        allowed = f"at most distillation.num_steps ({few})"
        require(steps <= few, "sampling.num_inference_steps", steps, allowed)
        require(hidden not in WHOLE, "model.hidden_half", hidden, "a half with distillation.teacher")
        require(source is None, "model.init_from", source, "null with distillation.teacher, which is started from")
        gamma = self.objective.min_snr_gamma
        require(gamma is None, "objective.min_snr_gamma", gamma, "null with distillation.teacher")
