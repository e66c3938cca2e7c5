"""The rules of the house: which module may import which, how long files are, what must agree with what."""

import ast
import fnmatch
import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "halfface_pipeline"
NAME = PACKAGE.name

# A module may import modules of its own floor and of the floors below. A package such as data/ stands on one floor.
FLOORS = (
    {
        "halves",
        "pictures",
        "schedules",
        "config",
        "model_config",
        "config_files",
        "lr_schedule",
        "files",
        "freed_memory",
        "draws",
        "respacing",
        "respaced_scheduler",
        "seeds",
        "shipping",
        "provenance",
    },
    {"pipeline", "hub", "data", "networks", "report_network", "objectives", "processes", "speed", "upsampling"},
    {
        "training",
        "training_state",
        "runs",
        "run_folder",
        "checkpoints",
        "experiments",
        "evaluation",
        "card",
        "card_figures",
        "completions",
        "plots",
        "sharing",
        "space",
    },
    {
        "cli",
        "cli_app",
        "cli_inputs",
        "cli_experiment",
        "cli_features",
        "cli_complete",
        "cli_parser",
        "cli_push",
        "app",
    },
    {"__init__"},  # the door: it may show everything, and no module comes in through it
)
# What is copied into a model folder must work there, without this package.
SHIPPED = {
    "halves": {"torch"},
    "pictures": {"halves", "torch", "numpy", "PIL"},
    "seeds": {"torch"},
    "shipping": set(),
    "hub": {"shipping", "huggingface_hub"},
    "pipeline": {"halves", "pictures", "seeds", "shipping", "hub", "torch", "diffusers", "numpy", "PIL"},
    "report_network": {"torch", "diffusers"},
    "respacing": {"torch", "diffusers"},
    "respaced_scheduler": {"respacing", "torch", "diffusers"},
}
LONGEST_FILE = 330  # 300 is the aim; the rest is for the last docstring
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:work|root|farm)/")


# ---------------------------------------------------------------------------------------------------------- imports


def top_module(path: Path, package: Path) -> str:
    """`experiments/step_size.py` -> `experiments`, `cli.py` -> `cli`."""
    return path.relative_to(package).with_suffix("").parts[0]


def imports_of(path: Path, package: Path) -> list[tuple[int, str, bool]]:
    """Everything a file imports, wherever in the file: (line, dotted name from the top, was it relative)."""
    place = (package.name, *path.relative_to(package).with_suffix("").parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = place[: len(place) - node.level] if node.level else ()
            base = ".".join((*parent, *filter(None, [node.module])))
            # `from . import x` names a module in x; elsewhere the module is what stands after `from`.
            own = base.split(".")[0] == package.name
            names = [f"{base}.{alias.name}" for alias in node.names] if own else [base]
            found += [(node.lineno, name, node.level > 0) for name in names]
    return found


def house_faults(package: Path) -> list[str]:
    """Imports that go up a floor, modules without a floor, and shipped modules that need more than they may."""
    floor_of = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
    modules = floor_of.keys() | {top_module(path, package) for path in package.rglob("*.py")}
    faults = []
    for path in sorted(package.rglob("*.py")):
        here, where = top_module(path, package), path.relative_to(package).as_posix()
        if here not in floor_of:
            faults.append(f"{where}: `{here}` has no floor; give it one in tests/test_house.py")
            continue
        for line, name, relative in imports_of(path, package):
            top, *rest = name.split(".")
            if top != package.name:
                if here in SHIPPED and top not in SHIPPED[here] and top not in sys.stdlib_module_names:
                    faults.append(f"{where}:{line}: ships with a model and imports {top}")
                continue
            if rest == ["__version__"]:
                continue
            there = rest[0] if rest and rest[0] in modules else "__init__"
            if floor_of.get(there, 0) > floor_of[here]:  # one without a floor is reported where it is defined
                faults.append(
                    f"{where}:{line}: {here} (floor {floor_of[here]}) imports {there} (floor {floor_of[there]})"
                )
            if here in SHIPPED and there != here and there not in SHIPPED[here]:
                faults.append(f"{where}:{line}: ships with a model and imports {there}")
            elif here in SHIPPED and not relative:
                faults.append(f"{where}:{line}: ships with a model and must import {there} relatively")
    return list(dict.fromkeys(faults))


def build(folder: Path, **files: str) -> Path:
    """A package with these modules; `data__sources` stands for data/sources.py."""
    package = folder / NAME
    for module, source in {"__init__": "", **files}.items():
        path = package / (module if module.startswith("__") else module.replace("__", "/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(source, encoding="utf-8")
    return package


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("config", "from .training import train", "config (floor 0) imports training (floor 2)"),
        ("config", "from . import training", "config (floor 0) imports training (floor 2)"),
        ("networks", "import halfface_pipeline.cli as cli", "networks (floor 1) imports cli (floor 3)"),
        ("networks", "from halfface_pipeline import plots", "networks (floor 1) imports plots (floor 2)"),
        ("data__sources", "from ..card import card", "data (floor 1) imports card (floor 2)"),
        ("experiments__unseen", "def f():\n    from ..app import page", "experiments (floor 2) imports app (floor 3)"),
        ("cli", "from . import SomeClass", "cli (floor 3) imports __init__ (floor 4)"),
        ("cli", "import halfface_pipeline", "cli (floor 3) imports __init__ (floor 4)"),
        ("helpers", "", "`helpers` has no floor"),
        ("pipeline", "from .config import Config", "ships with a model and imports config"),
        ("pipeline", "from .config import Config, Other", "ships with a model and imports config"),
        ("pipeline", "import matplotlib.pyplot as plt", "ships with a model and imports matplotlib"),
        ("pipeline", "from halfface_pipeline.halves import join", "must import halves relatively"),
        ("halves", "import numpy as np", "ships with a model and imports numpy"),
        ("halves", "from .config import Config", "ships with a model and imports config"),
    ],
)
def test_each_kind_of_fault_is_reported_once(tmp_path, module, source, fault):
    faults = house_faults(build(tmp_path, **{module: source}))
    assert len(faults) == 1 and fault in faults[0], faults


def test_imports_that_go_down_or_across_are_no_fault(tmp_path):
    package = build(
        tmp_path,
        __init__="from .pipeline import HalfFaceInpaintPipeline\nfrom .cli import main\n__version__ = '1'",
        halves="import math\nfrom dataclasses import dataclass\nimport torch.nn.functional as F",
        pipeline="import torch\nfrom diffusers import DiffusionPipeline\nfrom .halves import join",
        data__sources="from ..config import DataConfig\nfrom .procedural import render\nfrom . import dataset",
        experiments__variance="from ..evaluation import measure\nfrom halfface_pipeline.plots import curve",
        cli="from halfface_pipeline import __version__, training\nfrom . import app\nimport rich",
    )
    assert house_faults(package) == []


def test_the_package_keeps_its_floors():
    assert house_faults(PACKAGE) == []


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


def test_machine_paths_are_found_and_ordinary_text_is_not(tmp_path):
    (tmp_path / ".gitignore").write_text("runs/\n*.log\n")
    (tmp_path / "runs").mkdir()
    path = "/" + "work" + "/main/x.py"
    for name in ("docs.md", "train.log", "runs/config.yaml"):
        (tmp_path / name).write_text(f"a line\nsee {path}\n")
    (tmp_path / "fine.md").write_text("frame/work/flow, ~/work/, ../root/x and https://example.org/root/x\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff" + path.encode())
    assert machine_paths(tmp_path) == ["docs.md:2"]


def test_no_file_names_a_path_of_a_machine():
    assert machine_paths(ROOT) == []


def test_no_file_of_the_package_is_too_long_to_read():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_torchvision_is_imported_nowhere():
    for path in our_files(ROOT):
        if path.suffix == ".py":
            modules = [name.split(".")[0] for _, name, _ in imports_of(path, ROOT)]
            assert "torchvision" not in modules, path


def test_every_file_that_is_not_code_is_package_data():
    patterns = project_file()["tool"]["setuptools"]["package-data"][NAME]
    for path in our_files(PACKAGE, ignored_names(ROOT)):
        inside = path.relative_to(PACKAGE).as_posix()
        assert path.suffix == ".py" or any(Path(inside).match(pattern) for pattern in patterns), inside


# ------------------------------------------------------------------------------------------------------- docstrings


def documented_fields(docstring: str) -> list[str]:
    """The names in the Args or Attributes section of a Google docstring whose own indentation is removed."""
    section = re.search(r"^(?:Args|Attributes):\n((?:[ ]{4}.*(?:\n|$)|\n)+)", docstring, flags=re.MULTILINE)
    return re.findall(r"^ {4}(\w+)(?: \(.*?\))?:", section[1], flags=re.MULTILINE) if section else []


def field_faults(source: str) -> list[str]:
    """Dataclasses whose docstring names other fields than they have; pydoclint leaves these out."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or not any("dataclass" in ast.unparse(d) for d in node.decorator_list):
            continue
        told = documented_fields(ast.get_docstring(node) or "")
        fields = [item.target.id for item in node.body if isinstance(item, ast.AnnAssign)]
        if told and told != fields:
            faults.append(f"{node.name}: documents {told}, has {fields}")
    return faults


def test_a_field_that_the_docstring_does_not_name_is_reported():
    docstring = '"""A.\n\n    Args:\n        x: One,\n            it: goes on.\n    """'
    source = f"@dataclass(frozen=True)\nclass A:\n    {docstring}\n\n    x: int\n"
    assert field_faults(source) == []
    assert field_faults(source + "    y: int = 2\n") == ["A: documents ['x'], has ['x', 'y']"]
    assert field_faults(source.replace("        x:", "        z:")) == ["A: documents ['z'], has ['x']"]


def test_docstrings_of_dataclasses_name_their_fields():
    assert [f"{p.name}: {fault}" for p in PACKAGE.rglob("*.py") for fault in field_faults(p.read_text("utf-8"))] == []


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
