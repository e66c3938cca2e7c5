"""The model card of a run, rendered from `model_card.md`."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .config import Config
from .halves import KNOWN_HALF, half_size

TEMPLATE = Path(__file__).with_name("model_card.md")
WHOLE_TEMPLATE = Path(__file__).with_name("model_card_whole.md")
"""Of models that draw whole images."""


def write_card(run: Path, config: Config, step: int, parameters: int, loss: float | None, samples: str) -> None:
    """Writes the card of a run as its README.md.

    Args:
        run: The run folder.
        config: The run's configuration.
        step: Optimizer steps done.
        parameters: Of the network.
        loss: Last logged loss.
        samples: Sample sheet to show, relative to the run folder.
    """
    data, model, noise, training = config.data, config.model, config.noise, config.training
    whole = model.hidden_half == "all"
    half_height, half_width = (None, None) if whole else half_size(data.height, data.width, model.hidden_half)
    gamma = config.objective.min_snr_gamma
    from_hub = data.source == "hub" and not Path(str(data.path)).exists()
    if data.source == "procedural":
        source = "procedural faces drawn by halfface_pipeline"
    elif data.source == "digits":
        source = "the handwritten digits of scikit-learn"
    else:
        source = str(data.path) if from_hub else f"{data.source} folder {Path(str(data.path)).name}"
    card = ModelCard.from_template(
        ModelCardData(
            library_name="diffusers",
            pipeline_tag="unconditional-image-generation" if whole else "image-to-image",
            tags=["halfface", "diffusion"] if whole else ["halfface", "inpainting", "faces", "diffusion"],
            datasets=[str(data.path)] if from_hub else None,
        ),
        template_path=str(WHOLE_TEMPLATE if whole else TEMPLATE),
        title=f"{'Image generation' if whole else 'Half-face completion'}, {run.resolve().name}",
        known=None if whole else KNOWN_HALF[model.hidden_half],
        hidden=model.hidden_half,
        height=data.height,
        width=data.width,
        half_height=half_height,
        half_width=half_width,
        samples=samples,
        model_id=run.as_posix() if not run.is_absolute() else run.name,
        steps=config.sampling.num_inference_steps,
        parameters=f"{parameters / 1e6:.1f}",
        colours="colour" if data.channels == 3 else "grey",
        family=model.family,
        network="`UNet2DModel`" if model.family == "unet2d" else "`ReportNetwork` of halfface_pipeline",
        channels=", ".join(map(str, model.block_out_channels)),
        data=source,
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
        loss="none" if loss is None else f"{loss:.4f}",
        weights="as trained"
        if training.ema_decay is None
        else f"exponential moving average, decay {training.ema_decay}",
    )
    card.save(run / "README.md")


def add_evaluation(run: Path, out: Path, metrics: dict[str, Any]) -> bool:
    """Puts the figures of an evaluation into the model-index of a run's card.

    Args:
        run: The run folder.
        out: Where the evaluation was written; only one inside the run belongs to its card.
        metrics: What metrics.json holds.

    Returns:
        Whether the card was changed.
    """
    if not (run / "README.md").is_file() or run.resolve() not in out.resolve().parents:
        return False
    data = metrics["data"]
    card = ModelCard.load(run / "README.md")
    card.data.model_name = run.resolve().name
    card.data.eval_results = [
        EvalResult(
            task_type="image-to-image",
            task_name="Half-face completion",
            dataset_type=data["source"],
            dataset_name=f"{data['name'] or data['source']}, {data['height']}x{data['width']}",
            dataset_split="held out",
            metric_type=name,
            metric_name=f"{name.replace('_', ' ')}: {measure['meaning']}",
            metric_value=round(measure["rows"]["model"]["value"], 5),
            metric_args={
                "interval": [measure["rows"]["model"]["low"], measure["rows"]["model"]["high"]],
                "num_faces": measure["rows"]["model"]["num_faces"],
                "num_completions": metrics["num_completions"],
                "features": metrics["features"]["name"],
                "schema_version": metrics["schema_version"],
            },
        )
        for name, measure in metrics["measures"].items()
        if measure["group"] != "shift" and measure["rows"]["model"]["value"] is not None
    ]
    card.save(run / "README.md")
    return True
