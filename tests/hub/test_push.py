"""Pushing to and loading from the Hub, against a stand-in that speaks its protocol (tests/hub_server.py)."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from diffusers import DiffusionPipeline
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from halfface_pipeline import HalfFaceInpaintPipeline, RespacedDDPMScheduler
from halfface_pipeline.cli.main import main
from halfface_pipeline.config.schema import (
    Config,
    DataConfig,
    NoiseConfig,
    OutputConfig,
    SamplingConfig,
    TrainingConfig,
)
from halfface_pipeline.diffusion.networks import build_network
from halfface_pipeline.diffusion.samplers import training_scheduler
from halfface_pipeline.hub.push import keep_license, refresh_card, run_files
from halfface_pipeline.inference.png_metadata import read_png
from halfface_pipeline.remote_code.model_files import readdress
from halfface_pipeline.training.loop import train
from tests.conftest import TINY_MODEL, TINY_REPORT_MODEL, tiny_prior
from tests.hub_server import READ_TOKEN, WRITE_TOKEN, HubServer

pytestmark = pytest.mark.slow  # several processes
CODE = {Path(file).name for file in HalfFaceInpaintPipeline.sources}


def tiny(model):
    torch.manual_seed(0)
    network = build_network(model, 20, 16).eval()
    return HalfFaceInpaintPipeline(network, training_scheduler(NoiseConfig(), "epsilon"), 20, 16)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with models of both families and a prior, a card with a picture beside one, and a stranger's photo."""
    folder = tmp_path_factory.mktemp("hub")
    tiny(TINY_MODEL).save_pretrained(folder / "unet2d")
    (folder / "unet2d" / "README.md").write_text(
        "---\ntags: [mine]\n---\n\n# Mine\n\n![a sheet](samples/a.png)\n\n"
        '```python\nHalfFaceInpaintPipeline.from_pretrained("runs/mine")\n```\n\n'
        "`halfface complete --model runs/mine`\n"
    )
    (folder / "unet2d" / "samples").mkdir()
    PIL.Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "unet2d" / "samples" / "a.png")
    report = tiny(TINY_REPORT_MODEL)
    report.scheduler = RespacedDDPMScheduler.from_config(report.scheduler.config)
    report.save_pretrained(folder / "report")
    tiny_prior().save_pretrained(folder / "prior")
    (folder / "stranger").mkdir()
    PIL.Image.effect_noise((90, 60), 50).save(folder / "stranger" / "face.jpg")  # grey, and of another shape
    return folder


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


def environment(hub, folder, **more):
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))},
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": WRITE_TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "hf"),
        **more,
    }


def client(hub, folder, *names, python=sys.executable, source=True, **more):
    """Runs functions of tests/hub_client.py in a process of its own; what each found, by name."""
    paths = {"PYTHONPATH": str(Path(__file__).parents[2] / "src")} if source else {}
    command = [python, Path(__file__).parents[1] / "hub_client.py", folder, *names]
    done = subprocess.run(
        command, env=environment(hub, folder, **paths, **more), cwd=folder, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for token in (WRITE_TOKEN, READ_TOKEN, "hf_wrongToken"):
        assert token not in done.stderr + done.stdout
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def with_package(hub, place, run_folder):
    """What a process found that has the package: pushes by `push_to_hub` and by the command, and loads."""
    return client(hub, place, "push_and_load", "push_prior", "commands", "run_card")


@pytest.fixture(scope="module")
def without_package(with_package, hub, place, clean_python):
    """What a process found that has not, and has another cache of the Hub."""
    names = ("load_and_push", "prior_elsewhere", "run_card")
    return client(hub, place, *names, python=clean_python, source=False, HF_HOME=str(place / "hf elsewhere"))


@pytest.fixture(scope="module")
def pushed(with_package):
    return with_package["push_and_load"]


@pytest.fixture(scope="module")
def commands(with_package):
    return with_package["commands"]


@pytest.mark.parametrize("name", ["unet2d", "report"])
def test_a_pushed_model_loads_and_draws_the_same(pushed, hub, name):
    found = pushed[name]
    assert len(set(found["drawn"])) == 1, found
    own = ["halfface_pipeline", "halfface_pipeline", "diffusers_modules", "halfface_pipeline", "diffusers_modules"]
    assert found["modules"] == (["diffusers"] * 5 if name == "unet2d" else own)
    files = hub.repos[f"someone/{name}"].files()
    parts = {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json"}
    assert files.keys() >= CODE | parts | {"unet/diffusion_pytorch_model.safetensors", "README.md"}
    components = {"unet/report_network.py", "scheduler/respaced_ddpm.py"}
    assert components <= files.keys() if name == "report" else not components & files.keys()
    assert hub.repos[f"someone/{name}"].messages[:2] == ["initial commit", f"Put up {name}"]
    assert found["url"].startswith(f"{hub.url}/someone/{name}/commit/")


def test_weights_are_stored_as_large_files_once(pushed, hub):
    commits = hub.repos["someone/unet2d"].commits
    large = {path for path, (_, is_large) in next(reversed(commits.values())).items() if is_large}
    assert large == {"unet/diffusion_pytorch_model.safetensors"}
    assert hub.seen("PUT /lfs/someone/unet2d/") == 1  # the push to a branch sent them no second time


def test_the_card_follows_the_model(pushed, hub):
    card = hub.repos["someone/unet2d"].files()["README.md"].decode()
    assert "# Mine" in card and 'from_pretrained("someone/unet2d")' in card
    assert "--model someone/unet2d`" in card and "runs/mine" not in card
    copy = hub.repos["someone/copy"].files()
    assert copy["README.md"].decode() == card.replace("someone/unet2d", "someone/copy")
    assert copy["samples/a.png"] == hub.repos["someone/unet2d"].files()["samples/a.png"]
    assert hub.repos["someone/third"].files()["README.md"].decode() == card.replace("someone/unet2d", "someone/third")
    assert hub.repos["someone/third"].messages[-1] == "Third"
    plain = hub.repos["someone/report"].files()["README.md"].decode()
    assert "bottom half of a 20x16" in plain and 'from_pretrained("someone/report"' in plain
    assert "must not be used to identify" in plain


def test_a_push_can_be_private_or_to_a_branch(pushed, hub):
    assert hub.repos["someone/copy"].private and not hub.repos["someone/unet2d"].private
    assert pushed["schedulers"] == ["DDPMScheduler", "DPMSolverMultistepScheduler", "DPMSolverMultistepScheduler"]
    assert hub.repos["someone/unet2d"].files("dpm") != hub.repos["someone/unet2d"].files("main")


def test_no_path_of_this_machine_goes_along(pushed, hub, place):
    for name, repo in hub.repos.items():
        for path, content in repo.files().items():
            assert str(place).encode() not in content, (name, path)


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory):
    """The python of a new environment with all that is installed here, but for our package.

    It sees the installed packages as a folder on its path, so that the file by which ours is installed there, which
    names the source folder, is not read.
    """
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def test_models_work_without_the_package(pushed, without_package, hub):
    found = without_package["load_and_push"]
    assert found["package"] is False
    for name in ("unet2d", "report"):
        assert set(found[name]["drawn"]) == set(pushed[name]["drawn"])
        assert "trust_remote_code=True" in found[name]["untrusted"]
        there, first = (hub.repos[repo].files() for repo in (f"someone/{name}-elsewhere", f"someone/{name}"))
        assert there.keys() == first.keys()
        code = {path for path in first if path.endswith(".py")}
        assert {path: there[path] for path in code} == {path: first[path] for path in code}


def test_a_prior_is_pushed_and_works_without_the_package(with_package, without_package, hub):
    assert len({*with_package["push_prior"], *without_package["prior_elsewhere"]}) == 1
    files, again = (hub.repos[f"someone/{name}"].files() for name in ("prior", "prior-elsewhere"))
    assert files.keys() >= {"pipeline.py", "posterior.py", "masks.py", "README.md"} and again.keys() == files.keys()
    code = [path for path in files if path.endswith(".py")]
    assert [files[path] for path in code] == [again[path] for path in code]
    assert b'mask="bottom"' in files["README.md"]


def test_what_was_loaded_once_loads_offline(pushed, hub, place):
    seen = len(hub.requests)
    found = client(hub, place, "offline", HF_HUB_OFFLINE="1")["offline"]
    for name in ("unet2d", "report"):
        assert set(found[name]) == set(pushed[name]["drawn"])
    assert len(hub.requests) == seen


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, place):
    """A run of two steps with an evaluation, at place/run."""
    config = Config(
        data=DataConfig(height=20, width=16, num_images=24, num_eval_images=4, cache_dir=str(place / "private cache")),
        model=TINY_MODEL,
        training=TrainingConfig(steps=2, batch_size=4, log_every=1, sample_every=None),
        sampling=SamplingConfig(scheduler="unipc", num_inference_steps=3, num_faces=1, num_completions=1),
        output=OutputConfig(dir=str(place / "run"), tracker="none"),
    )
    run = train(config)
    (run / "evaluation").mkdir()
    shutil.copyfile(Path(__file__).parents[2] / "docs" / "results" / "demo.json", run / "evaluation" / "metrics.json")
    return run


def test_the_command_pushes_a_run_with_its_card(commands, hub, place):
    assert (commands["first"]["code"], commands["later"]["code"]) == (0, 0)
    repo = hub.repos["someone/run"]
    assert repo.private and repo.messages == ["initial commit", "Upload run", "A later one"]
    files = repo.files()
    assert files.keys() >= CODE | {"config.yaml", "log.jsonl", "loss.png", "evaluation/metrics.json"}
    assert "samples/step-0000002.png" in files and not any("checkpoint" in path for path in files)
    card = ModelCard(files["README.md"].decode())
    later = ModelCard(repo.files("later")["README.md"].decode())
    assert (card.data.license, later.data.license) == ("apache-2.0", "mit")
    model_name, results = model_index_to_eval_results(yaml.safe_load(card.data.to_yaml())["model-index"])
    assert model_name == "Half-face completion, run"
    errors = {result.metric_type: result for result in results}
    measured = json.loads(files["evaluation/metrics.json"])["measures"]["determined_pixel_error"]["rows"]["model"]
    assert errors["determined_pixel_error"].metric_value == pytest.approx(measured["value"], rel=1e-5)
    assert errors["determined_pixel_error"].metric_args["num_faces"] == 64
    assert 'from_pretrained("someone/run", custom_pipeline="someone/run", trust_remote_code=True)' in card.content
    assert (
        "cache_dir: private cache" in files["config.yaml"].decode() and str(place).encode() not in files["config.yaml"]
    )
    assert read_png(place / "run" / "samples" / "step-0000002.png")["model"] == "run step 2"
    assert f"{hub.url}/someone/run/commit/" in commands["first"]["out"]
    assert "command" not in json.loads(files["evaluation/metrics.json"])


def test_the_code_of_a_card_runs(with_package, without_package):
    here, there = with_package["run_card"], without_package["run_card"]
    assert (here["blocks"], there["blocks"]) == (4, 3)
    for found in (here, there):
        assert found["same"] == [True] * 8
        solvers = ["DPMSolverMultistepScheduler"]
        assert found["schedulers"] == ["UniPCMultistepScheduler"] * (found["blocks"] - 2) + solvers


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("denied", "The token may not write to someone/denied (403)"),
        ("wrong token", "REPO_ID is 'name', without a user. The Hub does not accept the token (401)"),
        ("public", "--private is given, and someone/unet2d exists and is public"),
    ],
)
def test_a_refused_push_ends_in_one_line(commands, name, reason):
    assert commands[name]["code"] == 2
    assert commands[name]["err"].splitlines()[-1].startswith(f"halfface push: error: {reason}")
    assert "Traceback" not in commands[name]["err"] and "hf_" not in commands[name]["err"]


def test_a_missing_model_is_named(commands):
    assert commands["no model"].endswith("from the Hub: it does not exist or you have no access to it")


def test_a_push_of_unlicensed_data_says_so(run_folder, tmp_path, capsys):
    run = shutil.copytree(run_folder, tmp_path / "run")
    assert main(["push", str(run), "someone/run", "--dry-run"]) == 0
    assert "data.license" not in capsys.readouterr().out
    config = (
        (run / "config.yaml").read_text().replace("source: procedural", f"source: imagefolder\n  path: {tmp_path}")
    )
    (run / "config.yaml").write_text(config.replace("  path: null\n", ""))
    assert main(["push", str(run), "someone/run", "--dry-run"]) == 0
    assert "data.license is not set: the card says" in capsys.readouterr().out
    assert f"path: {tmp_path.name}\n" in run_files(run, "someone/run")["config.yaml"].decode()


def test_two_local_models_use_their_own_code(place, tmp_path):
    """diffusers names the modules of all local models alike; the code of one must not serve the other."""
    mine, theirs = (shutil.copytree(place / "unet2d", tmp_path / name) for name in ("mine", "theirs"))
    changed = (theirs / "halves.py").read_text() + "\n\nCHANGED = True\n"
    (theirs / "halves.py").write_text(changed)
    pipeline = (theirs / "pipeline.py").read_text()
    (theirs / "pipeline.py").write_text(pipeline + "\n\nfrom .halves import CHANGED\n")
    first = DiffusionPipeline.from_pretrained(mine, custom_pipeline=str(mine), trust_remote_code=True)
    second = DiffusionPipeline.from_pretrained(theirs, custom_pipeline=str(theirs), trust_remote_code=True)
    assert "CHANGED" not in type(first).__call__.__globals__ and second.unet is not first.unet
    first.save_pretrained(tmp_path / "again")
    second.save_pretrained(tmp_path / "second")
    assert (tmp_path / "again" / "halves.py").read_text() == (mine / "halves.py").read_text()
    assert (tmp_path / "second" / "halves.py").read_text() == changed


def test_the_code_beside_the_weights_is_short(place):
    assert sum(len(file.read_text().splitlines()) for file in (place / "unet2d").glob("*.py")) <= 750


def test_an_incomplete_run_is_refused(run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "copy")
    whole = run_files(run, "someone/run")
    (run / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (run / "halves.py").unlink()
    with pytest.raises(ValueError, match=r"copy is incomplete: unet/\*.safetensors, halves.py missing"):
        run_files(run, "someone/run")
    run = shutil.copytree(run_folder, tmp_path / "second")
    (run / "loss.png").unlink()
    with pytest.raises(ValueError, match=r"README.md shows a picture that is not in second: loss.png"):
        run_files(run, "someone/run")
    with pytest.raises(ValueError, match=r"nowhere'; it must be a run folder"):
        run_files(tmp_path / "nowhere", "someone/run")
    with pytest.raises(ValueError, match=r"evaluation is not a saved model: model_index.json is missing"):
        run_files(run / "evaluation", "someone/run")
    run = shutil.copytree(run_folder, tmp_path / "third")
    index = (
        (run / "model_index.json")
        .read_text()
        .replace('"diffusers"', '"halfface_pipeline.remote_code.report_network"', 1)
    )
    (run / "model_index.json").write_text(index)
    with pytest.raises(
        ValueError, match=r"halfface_pipeline.remote_code.report_network.py missing; load it and save it again"
    ):
        run_files(run, "someone/run")
    assert b"rendered by halfface_pipeline" in whole["README.md"]


def test_an_evaluation_renders_an_unedited_card_again(run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "run")
    shutil.rmtree(run / "evaluation")
    (run / "README.md").unlink()
    assert not refresh_card(run, run / "evaluation")
    keep_license(run, "mit")
    words = ["evaluate", "--model", str(run), "--num-faces", "2", "-n", "2", "--steps", "1", "--out"]
    assert main([*words, str(tmp_path / "elsewhere")]) == 0
    assert "Not measured." in (run / "README.md").read_text()
    assert main([*words, str(run / "evaluation")]) == 0
    card = ModelCard.load(run / "README.md")
    assert card.data.eval_results and card.data.license == "mit" and "| seam gradient |" in card.content
    (run / "README.md").write_text("# My own\n")
    assert not refresh_card(run, run / "evaluation")
    assert (run / "README.md").read_text() == "# My own\n"


def test_an_edited_card_is_pushed_as_it_is(run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "run")
    card = (run / "README.md").read_text()
    (run / "README.md").write_text(card.replace("## Limits and misuse", "## My own words\n\n## Limits and misuse"))
    sent = run_files(run, "someone/run")["README.md"].decode()
    assert "## My own words" in sent and 'from_pretrained("someone/run")' in sent
    with pytest.raises(ValueError, match=r"--license is 'mit'; write it into README.md, which has been edited"):
        run_files(run, "someone/run", "mit")


def test_only_the_name_of_the_model_in_a_card_changes():
    card = 'P.from_pretrained("runs/demo")\n--model runs/demo -n 8; see runs/demo2, xruns/demo and runs/demo/a'
    expected = 'P.from_pretrained("a/b")\n--model a/b -n 8; see runs/demo2, xruns/demo and runs/demo/a'
    assert readdress(card, "a/b") == expected
    assert readdress("no code", "a/b") == "no code"
