"""The model card of a run, rendered from `model_card.md`."""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..config.samplers import SAMPLERS
from ..config.schema import Config, DataConfig
from ..diffusion.networks import training_cost
from ..remote_code.halves import KNOWN_HALF, half_size, known_box
from ..run_folder.files import atomic_write_text
from .card_metrics import eval_results, read_evaluation, read_samplers, training_cost_words

TEMPLATE = Path(__file__).with_name("model_card.md")
MARK = "<!-- rendered by halfface_pipeline, {} -->"
"""Samplers that call the network twice a step, but once at the last."""
LICENCES = {
    "procedural": "Apache-2.0: drawn by halfface_pipeline, they show nobody",
    "celeba": "CelebA: non-commercial research only",
    "mnist": "MNIST: CC BY-SA 3.0",
    "digits": "Optical Recognition of Handwritten Digits, as in scikit-learn: CC BY 4.0",
}


Log = list[dict[str, float]]


def write_card(run: Path, config: Config, step: int, parameters: int, log: Log, samples: str) -> None:
    """Writes the card of a run as its README.md; arguments as in `render_card`."""
    model_id = run.as_posix() if not run.is_absolute() else run.name
    atomic_write_text(run / "README.md", render_card(run, config, step, parameters, log, samples, model_id))


def render_card(
    run: Path,
    config: Config,
    step: int,
    parameters: int,
    log: Log,
    samples: str,
    model_id: str,
    model_license: str | None = None,
) -> str:
    """The card of a run, with the figures that its folder holds.

    Args:
        run: The run folder.
        config: The run's configuration.
        step: Optimizer steps done.
        parameters: Of the network.
        log: Lines of log.jsonl.
        samples: Sample sheet to show, relative to the run folder.
        model_id: What the card's code loads.
        model_license: Licence of the weights, as the Hub names it; none keeps that of the run's card.

    Returns:
        The text; its last line says whether it has been edited since (`is_as_rendered`).
    """
    data, model, noise, training = config.data, config.model, config.noise, config.training
    whole = model.hidden_half == "all"
    half_height, half_width = (None, None) if whole else half_size(data.height, data.width, model.hidden_half)
    gamma = config.objective.min_snr_gamma
    evaluation = read_evaluation(run)
    dataset = _hub_id(data)
    name = f"{'Image generation' if whole else 'Half-face completion'}, {run.resolve().name}"
    results = eval_results(evaluation, dataset or data.source)
    operations = training_cost(model, data.height, data.width, data.channels)[1]
    seen = step * training.batch_size
    drawn_by = config.sampling.scheduler
    sampler = SAMPLERS[drawn_by]
    card = ModelCard.from_template(
        ModelCardData(
            library_name="diffusers",
            pipeline_tag="unconditional-image-generation" if whole else "image-to-image",
            tags=["halfface", "diffusion"] if whole else ["halfface", "inpainting", "faces", "diffusion"],
            datasets=[dataset] if dataset else None,
            license=model_license or license_so_far(run) or ("apache-2.0" if data.source == "procedural" else None),
            model_name=name if results else None,
            eval_results=results or None,
        ),
        template_path=str(TEMPLATE),
        whole=whole,
        title=name,
        known=None if whole else KNOWN_HALF[model.hidden_half],
        known_box=None if whole else known_box(data.height, data.width, model.hidden_half),
        hidden=model.hidden_half,
        height=data.height,
        width=data.width,
        half_height=half_height,
        half_width=half_width,
        samples=samples,
        model_id=model_id,
        model_shell=shlex.quote(model_id),
        model_code=json.dumps(model_id, ensure_ascii=False),
        steps=config.sampling.num_inference_steps,
        sampler=drawn_by,
        swap=sampler.class_name if drawn_by != "ddpm" else None,
        swap_settings="".join(f", {key}={value!r}" for key, value in sampler.kwargs.items()),
        samplers=[(key, spec.class_name, spec.nfe) for key, spec in SAMPLERS.items()],
        measured_samplers=_table(read_samplers(run)),
        parameters=f"{parameters / 1e6:.1f}",
        colours="colour" if data.channels == 3 else "grey",
        own_network=model.family == "report",
        network="`UNet2DModel`" if model.family == "unet2d" else "`ReportNetwork` of halfface_pipeline",
        channels=", ".join(map(str, model.block_out_channels)),
        layout=model.known_layout,
        data=_data_words(data, dataset),
        data_licence=data_license(data) or "not stated; ask whoever shares this model",
        flips="mirrored at random" if data.horizontal_flip else "not mirrored",
        timesteps=noise.num_train_timesteps,
        beta_schedule=noise.beta_schedule,
        beta_start=noise.beta_start,
        beta_end=noise.beta_end,
        prediction_type=config.objective.prediction_type,
        weighting=f", Min-SNR weights with gamma {gamma}" if gamma else "",
        lr=config.optimizer.lr,
        lr_schedule=config.lr_schedule.kind.replace("_", " "),
        training_steps=step,
        batch_size=training.batch_size,
        cost=training_cost_words(log),
        operations=f"{operations / 1e9:.1f} GFLOP a forward pass of one image, "
        f"about {3 * operations * seen / 1e15:.2g} PFLOP of training",
        loss=f"{log[-1]['loss']:.4f}" if log else "none",
        weights="as trained"
        if training.ema_decay is None
        else f"exponential moving average, decay {training.ema_decay}",
        evaluation=evaluation,
    )
    text = f"{card}".rstrip() + "\n"
    return f"{text}\n{MARK.format(_digest(text))}\n"


def data_license(data: DataConfig) -> str | None:
    """The licence of the training data, as configured or known for this source."""
    return data.license or LICENCES.get(data.source)


def license_so_far(run: Path) -> str | None:
    """The licence of the weights that the run's card tells."""
    try:
        license_id = ModelCard.load(run / "README.md").data.license
    except (OSError, ValueError):
        return None
    return license_id if isinstance(license_id, str) else None


def is_as_rendered(card: str) -> bool:
    """Whether nobody has edited a card since it was rendered."""
    text, _, mark = card.rstrip().rpartition("\n\n")
    return mark == MARK.format(_digest(text + "\n"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hub_id(data: DataConfig) -> str | None:
    return str(data.path) if data.source == "hub" and not Path(str(data.path)).exists() else None


def _data_words(data: DataConfig, dataset: str | None) -> str:
    if data.source == "procedural":
        words = "procedural faces drawn by halfface_pipeline"
    elif data.source == "digits":
        words = "the handwritten digits of scikit-learn"
    else:
        words = dataset or f"{data.source} folder {Path(str(data.path)).name}"
    return words if data.num_images is None else f"{words}, up to {data.num_images:,}"


def _table(rows: list[dict[str, Any]]) -> str:
    """Rows of one set of columns as a Markdown table."""
    if not rows:
        return ""
    shown = [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    head = [name.replace("_", " ") for name in rows[0]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *shown))
