"""The model card of a run, rendered from `model_card.md`."""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..config.files import from_yaml
from ..config.samplers import SAMPLERS
from ..config.schema import WHOLE, DataConfig
from ..diffusion.halves import KNOWN_HALF, known_box
from ..diffusion.networks import training_cost
from ..remote_code.halves import half_size
from ..run_folder.files import atomic_write_text
from ..run_folder.log import CONFIG_FILE, LOG_FILE, read_log
from ..run_folder.tables import markdown_table
from .card_metrics import eval_results, read_evaluation, read_samplers, training_cost_words

TEMPLATE = Path(__file__).with_name("model_card.md")
MARK = "<!-- rendered by halfface_pipeline, {} -->"
LICENCES = {
    "procedural": "Apache-2.0: rendered by halfface_pipeline, they show nobody",
    "celeba": "CelebA: non-commercial research only",
    "mnist": "MNIST: CC BY-SA 3.0",
    "digits": "Optical Recognition of Handwritten Digits, as in scikit-learn: CC BY 4.0",
}


def write_card(run: Path, samples: str) -> None:
    """Writes the card of a run as its README.md; arguments as in `render_card`."""
    atomic_write_text(run / "README.md", render_card(run, samples, local_id(run)))


def local_id(run: Path) -> str:
    """The name by which a card loads a model that is not on the Hub: no absolute path."""
    return run.name if run.is_absolute() else run.as_posix()


def render_card(run: Path, samples: str, model_id: str, model_license: str | None = None) -> str:
    """The card of a run, with the figures in its folder.

    Args:
        run: The run folder, with config.yaml and log.jsonl.
        samples: Sample sheet to show, relative to the run folder; its name ends in the optimizer steps done.
        model_id: Name in the card's code.
        model_license: Licence of the weights, as the Hub names it; None keeps that of the run's card.

    Returns:
        The text; its last line shows whether it has been edited (`is_as_rendered`).
    """
    config, step = from_yaml(run / CONFIG_FILE), int(Path(samples).stem.rpartition("-")[2])
    log = [line for line in read_log(run / LOG_FILE) if line["step"] <= step]
    data, model, sampling = config.data, config.model, config.sampling
    whole, prior = model.hidden_half in WHOLE, model.hidden_half == "all"
    evaluation = read_evaluation(run)
    dataset = _hub_id(data)
    kind = {"all": "Image generation", "any": "Face completion"}.get(model.hidden_half, "Half-face completion")
    title = f"{kind}, {run.resolve().name}"
    results = eval_results(evaluation, dataset or data.source)
    parameters, operations, _ = training_cost(model, data.height, data.width, data.channels)
    trained = 3 * operations * step * config.training.batch_size
    distilled = config.distillation.teacher is not None
    swap = None if distilled or sampling.scheduler == "ddpm" else SAMPLERS[sampling.scheduler]
    halves: dict[str, Any] = {}
    if not whole:
        halves["known"] = KNOWN_HALF[model.hidden_half]
        halves["known_box"] = known_box(data.height, data.width, model.hidden_half)
        halves["half_height"], halves["half_width"] = half_size(data.height, data.width, model.hidden_half)
    card = ModelCard.from_template(
        ModelCardData(
            library_name="diffusers",
            pipeline_tag="unconditional-image-generation" if prior else "image-to-image",
            tags=["halfface", "diffusion"] if prior else ["halfface", "inpainting", "faces", "diffusion"],
            datasets=[dataset] if dataset else None,
            license=model_license or _license_so_far(run) or ("apache-2.0" if data.source == "procedural" else None),
            model_name=title if results else None,
            eval_results=results or None,
        ),
        template_path=str(TEMPLATE),
        config=config,
        whole=whole,
        prior=prior,
        title=title,
        samples=samples,
        model_id=model_id,
        model_shell=shlex.quote(model_id),
        model_code=json.dumps(model_id, ensure_ascii=False),
        distilled=distilled,
        swap=swap and swap.class_name,
        swap_settings="".join(f", {key}={value!r}" for key, value in swap.kwargs.items()) if swap else "",
        samplers=markdown_table(
            [
                {"name": name, "class in diffusers": spec.class_name, "network evaluations in N steps": spec.nfe}
                for name, spec in SAMPLERS.items()
            ]
        ),
        measured_samplers=markdown_table(read_samplers(run)),
        parameters=f"{parameters / 1e6:.1f}",
        data=_data_words(data, dataset),
        data_license=data_license(data) or "not stated; ask whoever shares this model",
        cost=training_cost_words(log),
        operations=f"{operations / 1e9:.1f} GFLOP per forward pass of one image, about {trained / 1e15:.2g} PFLOP of "
        "training",
        step=step,
        loss=f"{log[-1]['loss']:.4f}" if log else "not logged",
        evaluation=evaluation,
        **{name: markdown_table(evaluation.get(name, ())) for name in ("metrics", "gaps", "shifts")},
        **halves,
    )
    text = f"{card}".rstrip() + "\n"
    return f"{text}\n{MARK.format(_digest(text))}\n"


def data_license(data: DataConfig) -> str | None:
    """The licence of the training data, as configured or known for this source."""
    return data.license or LICENCES.get(data.source)


def is_as_rendered(card: str) -> bool:
    """Whether a card has not been edited since it was rendered."""
    text, _, mark = card.rstrip().rpartition("\n\n")
    return mark == MARK.format(_digest(text + "\n"))


def _license_so_far(run: Path) -> str | None:
    """The licence of the weights in the run's card."""
    try:
        license_id = ModelCard.load(run / "README.md").data.license
    except (OSError, ValueError):
        return None
    return license_id if isinstance(license_id, str) else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hub_id(data: DataConfig) -> str | None:
    return str(data.path) if data.source == "hub" and not Path(str(data.path)).exists() else None


def _data_words(data: DataConfig, dataset: str | None) -> str:
    if data.source == "procedural":
        words = "procedural faces rendered by halfface_pipeline"
    elif data.source == "digits":
        words = "the handwritten digits of scikit-learn"
    else:
        words = dataset or f"{data.source} folder {Path(str(data.path)).name}"
    return words if data.num_images is None else f"{words}, up to {data.num_images:,}"
