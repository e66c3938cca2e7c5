"""What test_push.py runs in processes of its own: huggingface_hub reads where the Hub is at import.

`python hub_client.py FOLDER NAME...` runs functions below in turn and prints a JSON of what each found.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.utils import disable_progress_bars

MODELS = ("unet2d", "report")


def drawn(pipe):
    """A hash of two completions: equal only if every bit is."""
    pipe.set_progress_bar_config(disable=True)
    half = torch.linspace(0, 1, 3 * 10 * 16).reshape(3, 10, 16)
    generator = torch.Generator().manual_seed(0)
    images = pipe(half, 2, num_inference_steps=3, generator=generator, output_type="pt").images
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()


def generic(model, **arguments):
    """A pipeline as one gets it without our package."""
    return DiffusionPipeline.from_pretrained(model, custom_pipeline=model, trust_remote_code=True, **arguments)


def refused(action, *arguments, **named):
    """The message of the ValueError that an action must end in."""
    try:
        return f"not refused: {action(*arguments, **named)}"
    except ValueError as error:
        return str(error)


def push_and_load(folder):
    """Models of both families by `push_to_hub`, loaded by class and generically, saved again."""
    from halfface_pipeline import HalfFaceInpaintPipeline

    found = {}
    for name in MODELS:
        pipe = HalfFaceInpaintPipeline.from_pretrained(folder / name)
        repo = f"someone/{name}"
        url = pipe.push_to_hub(repo, commit_message=f"Put up {name}")
        by_class = HalfFaceInpaintPipeline.from_pretrained(repo)
        by_code = generic(repo)
        by_code.save_pretrained(folder / f"{name} again")
        again = HalfFaceInpaintPipeline.from_pretrained(folder / f"{name} again")
        again_by_code = generic(str(folder / f"{name} again"))
        pipes = (pipe, by_class, by_code, again, again_by_code)
        modules = [type(each.unet).__module__.split(".")[0] for each in pipes]
        found[name] = {"url": url, "drawn": [drawn(each) for each in pipes], "modules": modules}

    # A push of what was loaded from the Hub brings its card along; one to the same place leaves the card there alone.
    loaded = HalfFaceInpaintPipeline.from_pretrained("someone/unet2d")
    schedulers = [type(loaded.scheduler).__name__]
    loaded.scheduler = DPMSolverMultistepScheduler.from_config(loaded.scheduler.config)
    loaded.push_to_hub("someone/copy", private=True)
    loaded.push_to_hub("someone/unet2d", revision="dpm", token="hf_standInWriteToken")
    loaded.save_pretrained(folder / "third", push_to_hub=True, commit_message="Third")
    on_branch = HalfFaceInpaintPipeline.from_pretrained("someone/unet2d", revision="dpm")
    by_code = generic("someone/unet2d", revision="dpm", custom_revision="dpm")
    loaded.push_to_hub("in-my-name")
    found["schedulers"] = schedulers + [type(each.scheduler).__name__ for each in (on_branch, by_code)]
    ModelCard.load("someone/unet2d").validate()
    return found


def commands(folder):
    """`halfface push`: exit codes and what it prints; what a missing model is answered with."""
    from halfface_pipeline.cli.main import main
    from halfface_pipeline.inference.load import load_pipeline

    def push(*words, token=None):
        before = os.environ["HF_TOKEN"]
        os.environ["HF_TOKEN"] = token or before
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            code = main(["push", str(folder / "run"), *words])
        os.environ["HF_TOKEN"] = before
        return {"code": code, "out": out.getvalue(), "err": err.getvalue()}

    return {
        "first": push("run", "--private", "--license", "apache-2.0"),
        "later": push("someone/run", "--revision", "later", "--message", "A later one", "--license", "mit"),
        "denied": push("someone/denied", token="hf_standInReadToken"),
        "wrong token": push("name", token="hf_wrongToken"),
        "public": push("someone/unet2d", "--private"),
        "no model": refused(load_pipeline, "someone/nothing"),
    }


def load_and_push(folder):
    """The same models in an environment that has no halfface_pipeline."""
    try:
        import halfface_pipeline  # noqa: F401

        return {"package": True}
    except ImportError:
        pass
    found = {"package": False}
    for name in MODELS:
        pipe = generic(f"someone/{name}")
        pipe.save_pretrained(folder / f"{name} elsewhere")
        again = generic(str(folder / f"{name} elsewhere"))
        url = pipe.push_to_hub(f"someone/{name}-elsewhere")
        pipes = (pipe, again, generic(f"someone/{name}-elsewhere"))
        untrusted = refused(DiffusionPipeline.from_pretrained, f"someone/{name}", custom_pipeline=f"someone/{name}")
        found[name] = {"drawn": [drawn(each) for each in pipes], "url": url, "untrusted": untrusted}
    return found


def prior_drawn(pipe):
    """A hash of two completions under a mask."""
    pipe.set_progress_bar_config(disable=True)
    face = torch.linspace(0, 1, 3 * 20 * 16).reshape(3, 20, 16)
    generator = torch.Generator().manual_seed(0)
    images = pipe(face, "left", "dps", 2, 3, generator, output_type="pt").images
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()


def push_prior(folder):
    """A prior pushed with the package, loaded by class and generically."""
    from halfface_pipeline import FacePriorPipeline

    pipe = FacePriorPipeline.from_pretrained(folder / "prior")
    pipe.push_to_hub("someone/prior")
    return [prior_drawn(each) for each in (pipe, FacePriorPipeline.from_pretrained("someone/prior"))]


def prior_elsewhere(folder):
    """The same prior where halfface_pipeline is not installed: loaded, saved, loaded and pushed again."""
    pipe = generic("someone/prior")
    pipe.save_pretrained(folder / "prior elsewhere")
    again = generic(str(folder / "prior elsewhere"))
    again.push_to_hub("someone/prior-elsewhere")
    return [prior_drawn(each) for each in (pipe, again, generic("someone/prior-elsewhere"))]


def run_card(folder):
    """The code of a card, as a stranger runs it who has the package or has not; sizes of the faces drawn."""
    import importlib.util

    card = Path(hf_hub_download("someone/run", "README.md")).read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    if importlib.util.find_spec("halfface_pipeline") is None:
        blocks = [block for block in blocks if "from halfface_pipeline" not in block]
    os.chdir(folder / "stranger")
    names, schedulers = {}, []
    for block in blocks:
        exec(block, names)
        schedulers += [type(names["pipe"].scheduler).__name__] if "pipe" in names else []
    same = [
        bytes(image.crop((0, 0, 16, 10)).tobytes()) == names["known_half"].tobytes() for image in names["out"].images
    ]
    return {"blocks": len(blocks), "schedulers": schedulers, "same": same}


def offline(folder):
    """From the cache, with HF_HUB_OFFLINE set."""
    from halfface_pipeline import HalfFaceInpaintPipeline

    found = {}
    for name in MODELS:
        by_class = HalfFaceInpaintPipeline.from_pretrained(f"someone/{name}")
        by_code = generic(str(Path(hf_hub_download(f"someone/{name}", "model_index.json")).parent))
        found[name] = [drawn(by_class), drawn(by_code)]
    return found


if __name__ == "__main__":
    disable_progress_bars()
    folder, *names = sys.argv[1:]
    print(json.dumps({name: globals()[name](Path(folder)) for name in names}))
