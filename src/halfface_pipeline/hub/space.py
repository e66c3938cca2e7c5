"""Exports a folder that serves the page of `halfface app`, as a Space of the Hub or anywhere else."""

import importlib.metadata
import re
import shutil
from pathlib import Path

from ..inference.load import model_terms
from ..photo.faces import can_find_faces
from ..remote_code.pipeline import HalfFaceInpaintPipeline

PACKAGE = Path(__file__).parents[1]
APP = '''"""The page of `halfface app`, served by the package next to this file."""

from pathlib import Path

from halfface_pipeline.app import serve
from halfface_pipeline.inference.load import load_pipeline
from halfface_pipeline.inference.speed import prepare_for_sampling

if __name__ == "__main__":
    pipe = prepare_for_sampling(load_pipeline({model}), "auto")
    serve(pipe, {name!r}, upload_mb={upload_mb:g}, terms={terms!r})
'''
README = """---
title: Half faces
emoji: 🎭
colorFrom: yellow
colorTo: gray
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
license: apache-2.0
short_description: Generates the hidden half of a face
{models}---

# Half faces

Given half of a face, it generates many plausible other halves with the model {name}.

The hidden half is invented. It shows what could be there, not what is: the model identifies nobody and must not be
used to identify, verify or track people. Photos are deleted after half an hour and used for nothing else.

Made with halfface_pipeline, whose code is in `halfface_pipeline/`. The licence above applies to the code; the weights
have their own.
"""


def export_space(pipe: HalfFaceInpaintPipeline, name: str, model: str, out: Path, upload_mb: float) -> None:
    """Writes the folder: page, package, requirements, and the model unless it is on the Hub; other files are kept.

    ValueError if it has a README.md of something else.
    """
    local = Path(model).exists()
    readme = out / "README.md"
    if readme.exists() and "app_file: app.py" not in readme.read_text(encoding="utf-8"):
        raise ValueError(f"--export-space is {str(out)!r}; its README.md is not that of a Space: choose a new folder")
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / PACKAGE.name, ignore_errors=True)
    shutil.copytree(PACKAGE, out / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
    if local:
        pipe.save_pretrained(out / "model")
    where = 'str(Path(__file__).with_name("model"))' if local else repr(model)
    app = APP.format(model=where, name=name, upload_mb=upload_mb, terms=model_terms(model))
    (out / "app.py").write_text(app if local else app.replace("from pathlib import Path\n\n", ""), encoding="utf-8")
    (out / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")
    models = "" if local or model_terms(model) else f"models:\n  - {model}\n"
    text = README.format(gradio=importlib.metadata.version("gradio"), models=models, name=name)
    readme.write_text(text, encoding="utf-8")


def requirements() -> list[str]:
    """What the page needs besides gradio, which a Space has, at the versions installed here; `photo` if it is here."""
    photo, every = can_find_faces(), importlib.metadata.requires("halfface-pipeline") or []
    lines = [line for line in every if "extra ==" not in line or (photo and re.search("extra == .photo.", line))]
    names = sorted((re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines), key=str.lower)
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]
