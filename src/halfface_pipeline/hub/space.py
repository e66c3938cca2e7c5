"""A Space of the Hub: a folder that shows the page of `halfface app` wherever it is put up."""

import importlib.metadata
import re
import shutil
from pathlib import Path

from ..remote_code.pipeline import HalfFaceInpaintPipeline

PACKAGE = Path(__file__).parents[1]
APP = '''"""The page of `halfface app`; the package beside this file draws it."""

from pathlib import Path

from halfface_pipeline.app import serve
from halfface_pipeline.inference.load import load_pipeline
from halfface_pipeline.inference.speed import prepare_for_sampling

if __name__ == "__main__":
    pipe = prepare_for_sampling(load_pipeline({model}), "auto")
    serve(pipe, {name!r}, upload_mb={upload_mb:g})
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
short_description: Draws the hidden half of a face
{models}---

# Half faces

Show it half of a face; it draws many plausible other halves with the model {name}.

The hidden half is invented. It shows what could be there, not what is: the model identifies nobody and must not be
used to identify, verify or track people. Photos are deleted after half an hour and used for nothing else.

Made with halfface_pipeline, whose code is in `halfface_pipeline/`. The licence above is that of the code; that of the
weights is the model's own.
"""


def export_space(pipe: HalfFaceInpaintPipeline, name: str, model: str, out: Path, upload_mb: float) -> None:
    """Writes the folder: page, package, what to install, and the model unless it is on the Hub already.

    Args:
        pipe: The model.
        name: What it is called on the page.
        model: Run folder, or Hub id.
        out: Where to write; what is there already is kept, except these files.
        upload_mb: Largest upload in megabytes.

    Raises:
        ValueError: If a file that is not ours stands where one must be written.
    """
    local = Path(model).exists()
    readme = out / "README.md"
    if readme.exists() and "app_file: app.py" not in readme.read_text(encoding="utf-8"):
        raise ValueError(f"--export-space is {str(out)!r}; there is another README.md in it: name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / PACKAGE.name, ignore_errors=True)
    shutil.copytree(PACKAGE, out / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
    if local:
        pipe.save_pretrained(out / "model")
    where = 'str(Path(__file__).with_name("model"))' if local else repr(model)
    app = APP.format(model=where, name=name, upload_mb=upload_mb)
    (out / "app.py").write_text(app if local else app.replace("from pathlib import Path\n\n", ""), encoding="utf-8")
    (out / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")
    models = "" if local else f"models:\n  - {model}\n"
    text = README.format(gradio=importlib.metadata.version("gradio"), models=models, name=name)
    readme.write_text(text, encoding="utf-8")


def requirements() -> list[str]:
    """What the page needs beside gradio, which a Space brings, at the versions that run here."""
    core = [line for line in importlib.metadata.requires("halfface-pipeline") or [] if "extra ==" not in line]
    names = sorted((re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in core), key=str.lower)
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]
