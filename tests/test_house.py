"""The rules of the house: which module may import which, how long files are, what must agree with what."""

import ast
import fnmatch
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "halfface_pipeline"
NAME = PACKAGE.name

# Imports go one way: a folder may import from folders named before it, and from itself.
ORDER = (
    "remote_code",
    "config",
    "run_folder",
    "diffusion",
    "data",
    "photo",
    "inference",
    "hub",
    "training",
    "evaluation",
    "experiments",
    "export",
    "app",
    "cli",
)
# What is copied into a model folder must work there, without this package.
REMOTE_IMPORTS = {"torch", "diffusers", "numpy", "PIL", "huggingface_hub"}
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:work|root|farm)/")


# ---------------------------------------------------------------------------------------------------------- imports


def imports_of(path: Path, package: Path) -> list[tuple[str, bool]]:
    """Everything a file imports, at any depth: (dotted module from the top, whether the import is relative)."""
    place = (package.name, *path.relative_to(package).parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = place[: len(place) - node.level] if node.level else ()
            found.append((".".join((*parent, *filter(None, [node.module]))), node.level > 0))
    return found


def import_faults(package: Path) -> list[str]:
    """Imports against the order of folders, and imports of shipped code that would fail beside the weights."""
    faults = []
    for path in sorted(package.rglob("*.py")):
        where = path.relative_to(package)
        folder = where.parts[0]
        for name, relative in imports_of(path, package):
            top, *rest = name.split(".")
            if folder == "remote_code":
                sibling = relative and len(rest) == 2 and rest[0] == "remote_code" and where.name != "__init__.py"
                if not sibling and top not in REMOTE_IMPORTS and top not in sys.stdlib_module_names:
                    faults.append(f"{where.as_posix()} imports {name}")
            elif top == package.name and rest and rest[0] in ORDER and folder in ORDER[: ORDER.index(rest[0])]:
                faults.append(f"{where.as_posix()} imports {name}")
    return faults


def test_imports_go_one_way():
    assert import_faults(PACKAGE) == []
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == set(ORDER)
    assert len(list(PACKAGE.glob("*.py"))) <= 4


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("data/sources.py", "from ..training.loop import train"),
        ("data/sources.py", "def f():\n    from halfface_pipeline.app import page"),
        ("remote_code/halves.py", "from ..config.schema import Config"),
        ("remote_code/halves.py", "import matplotlib.pyplot as plt"),
        ("remote_code/halves.py", "from halfface_pipeline.remote_code.image_io import to_rgb"),
    ],
)
def test_imports_the_other_way_are_reported(tmp_path, file, source):
    path = tmp_path / NAME / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert len(import_faults(tmp_path / NAME)) == 1


def test_the_card_template_of_the_package_is_the_one_at_the_top():
    assert (PACKAGE / "hub" / "model_card.md").read_bytes() == (ROOT / "model_card.md").read_bytes()


# ------------------------------------------------------------------------------------------------------------ files


def ignored_names(root: Path) -> list[str]:
    lines = (root / ".gitignore").read_text(encoding="utf-8").splitlines() if (root / ".gitignore").exists() else []
    return [".git", ".venv", "runs", *(line.strip().strip("/") for line in lines if line.strip() and line[0] != "#")]


def our_files(root: Path, patterns: list[str] | None = None) -> list[Path]:
    """What a commit would hold: everything under `root` that .gitignore does not name."""
    patterns, found = patterns or ignored_names(root), []
    for entry in sorted(root.iterdir()):
        if entry.is_symlink() or any(fnmatch.fnmatch(entry.name, pattern) for pattern in patterns):
            continue
        found += our_files(entry, patterns) if entry.is_dir() else [entry]
    return found


def machine_paths(root: Path) -> list[str]:
    """file:line of every absolute path of somebody's machine in a text file."""
    found = []
    for path in our_files(root):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not a text file
        lines = enumerate(text.splitlines(), 1)
        found += [f"{path.relative_to(root)}:{number}" for number, line in lines if MACHINE_PATH.search(line)]
    return found


def test_no_file_names_a_path_of_a_machine():
    assert machine_paths(ROOT) == []


def test_no_file_holds_the_marks_of_an_unfinished_merge():
    marks = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
    assert [file for file in our_files(ROOT) if marks.search(file.read_bytes())] == []


def test_every_file_that_is_not_code_is_package_data():
    patterns = project_file()["tool"]["setuptools"]["package-data"][NAME]
    for path in PACKAGE.rglob("*.*"):
        inside = path.relative_to(PACKAGE)
        if path.suffix not in (".py", ".pyc"):
            assert any(inside.match(pattern) for pattern in patterns), inside


# ------------------------------------------------------------------------------------- version, changelog, pins


def project_file() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def plain_name(requirement: str) -> str:
    """`PyYAML>=6.0` -> `pyyaml`, `huggingface_hub==2.4.0` -> `huggingface-hub`."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]*\w", requirement)[0]).lower()


def test_the_version_is_the_same_everywhere():
    version = project_file()["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version
    assert getattr(importlib.import_module(NAME), "__version__", version) == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{version}]" in changelog or "## [Unreleased]" in changelog


def test_every_dependency_is_pinned_exactly_and_none_is_torchvision():
    project = project_file()["project"]
    wanted = {plain_name(line) for lines in project["optional-dependencies"].values() for line in lines}
    wanted = (wanted | {plain_name(line) for line in project["dependencies"]}) - {plain_name(project["name"])}
    lines = [
        line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    ]
    pins = [line for line in lines if line]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    pinned = {plain_name(pin) for pin in pins}
    assert wanted - pinned == set()
    assert "torchvision" not in wanted | pinned


@pytest.mark.parametrize("page", ["reliability.md", "distributed.md"])
def test_the_tests_that_a_page_names_are_there(page):
    """A name may be cut short by three dots, and its file may stand before it."""
    defined = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        names = re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
        defined |= {file.stem, *names, *(f"{file.stem}::{name}" for name in names)}
    named = set(re.findall(r"\b(test_\w+(?:::test_\w+)?)(\.\.\.)?", (ROOT / "docs" / page).read_text()))
    assert named
    missing = [
        name for name, cut in named if name not in defined and not (cut and any(d.startswith(name) for d in defined))
    ]
    assert not missing


@pytest.mark.slow
def test_the_commands_start_without_any_extra():
    """`make demo` installs the core alone."""
    extras = ("mtcnn", "lz4", "joblib", "onnx", "onnxscript", "onnxruntime", "sklearn", "gradio", "transformers")
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in extras)
    script = f"import sys; {blocked}; from halfface_pipeline.cli.main import command_line; command_line()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_and_mistakes_do_not_wait_for_torch():
    script = """
import contextlib, sys
from halfface_pipeline.cli.main import main
from train_halfface import main as train
for command, words in ((main, ["--help"]), (main, ["compelte"]), (train, ["--help"]), (train, ["--data.x", "3"])):
    with contextlib.suppress(SystemExit):
        command(words)
print({"torch", "diffusers", "numpy"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr
