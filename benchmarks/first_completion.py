"""From `pip install` to a first completion with a model folder at hand; prints JSON.

python benchmarks/first_completion.py --model runs/demo [--extra app] [--out RESULT.json] [--pip-args "-i ..."]

Counted: `pip install` of the built wheel and everything it needs, torch too, into a fresh virtual environment, and the
first `halfface complete` in it. Not counted, and told: making the empty environment, and downloading; all packages lie
in one folder when the clock starts. torch is the build that runs this script, the others are those of constraints.txt.
Other work on the machine makes the clock's seconds longer; the processor's seconds stand beside them.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import PIL.Image

from halfface_pipeline.data.procedural import faces

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Downloads, then takes the time of the two commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", required=True, help="run folder")
    parser.add_argument("--extra", help="extra to install as well, such as app")
    parser.add_argument("--completions", type=int, default=1, help="completions of the photo (default 1)")
    parser.add_argument("--packages", type=Path, help="folder of packages from an earlier run, to download nothing")
    parser.add_argument("--pip-args", default="", help="goes to `pip download`: a mirror, a folder of wheels")
    parser.add_argument("--out", type=Path, help="file for the result, beside standard output")
    options = parser.parse_args()
    if not Path(options.model, "model_index.json").is_file():
        parser.error(f"--model is {options.model!r}; it must be a run folder with model_index.json in it")
    model = str(Path(options.model).resolve())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        packages = options.packages or place / "packages"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
        _timed([*pip, "wheel", "--no-deps", "-w", place / "built", _copy(place / "source")])
        wheel = next((place / "built").glob("*.whl"))
        wanted = f"{wheel}[{options.extra}]" if options.extra else str(wheel)
        constraints = place / "constraints.txt"
        pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        pins = [line for line in pins if not line.startswith("torch==")]
        constraints.write_text("\n".join([*pins, f"torch=={importlib.metadata.version('torch')}", ""]))
        download = 0.0
        if not packages.is_dir() or not any(packages.iterdir()):
            words = shlex.split(options.pip_args)
            download = _timed([*pip, "download", *words, "-c", constraints, "-d", packages, wanted])
        environment = _timed([sys.executable, "-m", "venv", place / "venv"])
        photo = place / "photo.jpg"
        PIL.Image.fromarray(faces(1, 240, 200, seed=7)[0][0]).save(photo)

        own = [place / "venv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-q", "install"]
        busy = [_processor_seconds()]
        install = _timed([*own, "--no-index", "--find-links", packages, "-c", constraints, wanted])
        command = ["complete", photo, "--model", model, "-n", options.completions, "--out", place / "out"]
        busy.append(_processor_seconds())
        first = _timed([place / "venv" / "bin" / "halfface", *command], cwd=place)
        busy.append(_processor_seconds())
        again = _timed([place / "venv" / "bin" / "halfface", *command], cwd=place)
        drawn = len(list((place / "out").glob("photo-[0-9]*.png")))
        result = {
            "benchmark": "first_completion",
            "model": Path(model).name,
            "completions": drawn,
            "seconds_install": round(install, 1),
            "seconds_first_complete": round(first, 1),
            "seconds_counted": round(install + first, 1),
            "processor_seconds_install": round(busy[1] - busy[0], 1),
            "processor_seconds_first_complete": round(busy[2] - busy[1], 1),
            "load_average": round(os.getloadavg()[0], 1),
            "seconds_second_complete": round(again, 1),
            "not_counted": {
                "seconds_empty_environment": round(environment, 1),
                "seconds_download": round(download, 1),
            },
            "packages": len(list(packages.iterdir())),
            "packages_mb": round(sum(file.stat().st_size for file in packages.iterdir()) / 1e6),
            "cpus": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "torch": importlib.metadata.version("torch"),
        }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


def _processor_seconds() -> float:
    """Of all commands so far, in user and system mode."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _copy(folder: Path) -> Path:
    """What a wheel is built from, copied, so that no build folder is left in the checkout."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", folder / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def _timed(words: list[object], cwd: Path | None = None) -> float:
    """Seconds a command takes; ends this script where the command fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    start = time.monotonic()
    run = subprocess.run([str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{shlex.join(map(str, words))} failed:\n{run.stderr}")
    return time.monotonic() - start


if __name__ == "__main__":
    main()
