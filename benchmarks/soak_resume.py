"""A training killed again and again (SIGKILL), then compared with one that never was; writes Markdown and JSON.

`python benchmarks/soak_resume.py [--kills 10] [--out FOLDER]`. Each life forks from a process that has imported
everything, so that it starts in a fraction of a second. A third of the kills aim at no particular moment, a third at
the writing of a checkpoint, a third at the deletion of an old one; where each one struck is read from what it left.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from forked import ended, start, wait_for
from timing import machine

from halfface_pipeline.run_folder.checkpoints import find_corruption
from halfface_pipeline.run_folder.files import PARTIAL
from halfface_pipeline.run_folder.log import LOG_FILE, read_log

CHECKPOINT_EVERY = 5
LONGEST_WAIT = 16
"""Steps of a life before its kill is aimed."""
STEPS_A_LIFE = LONGEST_WAIT + 3 * CHECKPOINT_EVERY
"""More than any life takes."""
SHORTEST_PAUSE = 1e-4
CONFIG = f"""
data: {{height: 20, width: 16, num_images: 24, num_eval_images: 2}}
model: {{block_out_channels: [8, 16], layers_per_block: 1, norm_num_groups: 4, attention_head_dim: 8}}
training: {{batch_size: 2, log_every: 1, checkpoint_every: {CHECKPOINT_EVERY}, keep_last: 1, sample_every: 50}}
sampling: {{num_inference_steps: 1, num_faces: 1, num_completions: 1}}
output: {{tracker: none}}
"""
LAST_BYTES = 2000
"""Of the log: more than its last line."""
AIMS = ("any moment", "writing", "deleting")


def soak(kills: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Kills a training over and over, lets it end, and compares it with one that was left alone.

    Args:
        kills: How often.
        folder: An empty folder to work in.
        seed: Of the moments.

    Returns:
        Where the kills struck, what was lost, and whether the two runs are equal.

    Raises:
        AssertionError: If a checkpoint is damaged, more is lost than the steps since the last one, or a run fails.
    """
    chance, began = random.Random(seed), time.perf_counter()
    (folder / "soak.yaml").write_text(CONFIG)
    steps = (kills + 1) * STEPS_A_LIFE
    words = ["--config", folder / "soak.yaml", "--training.steps", steps, "--output.dir"]
    whole, killed = folder / "whole" / "run", folder / "killed" / "run"  # a sheet tells the name of its folder
    assert ended(start(folder / "whole.txt", *words, whole), 3600) == 0, (folder / "whole.txt").read_text()
    struck: list[str] = []
    lost: list[int] = []
    newest = 0
    for life in range(kills):
        life_began = newest
        process = start(folder / "killed.txt", *words, killed)
        _aim(killed, chance, AIMS[life % len(AIMS)], newest, process)
        assert process.is_alive(), f"life {life} ended by itself: {(folder / 'killed.txt').read_text()}"
        process.kill()
        process.join()
        struck.append(_moment(killed, life_began))
        damaged = [path.name for path in _checkpoints(killed) if find_corruption(path)]
        assert not damaged, f"kill {life} left {damaged} damaged"
        newest = max((int(path.name.split("-")[1]) for path in _checkpoints(killed)), default=0)
        assert newest >= life_began, f"kill {life} lost the checkpoint of step {life_began}"
        lost.append(_last_step(killed) - newest)
        assert lost[-1] <= CHECKPOINT_EVERY, f"kill {life} lost {lost[-1]} steps"
    assert ended(start(folder / "killed.txt", *words, killed), 3600) == 0, (folder / "killed.txt").read_text()
    return {
        "benchmark": "soak_resume",
        **machine(),
        "kills": kills,
        "steps": steps,
        "checkpoint_every": CHECKPOINT_EVERY,
        "struck": dict(Counter(struck).most_common()),
        "damaged_checkpoints": 0,
        "lost_steps_mean": round(statistics.mean(lost), 2),
        "lost_steps_most": max(lost),
        "differing_files": _differing(whole, killed),
        "seconds": round(time.perf_counter() - began),
    }


def _aim(run: Path, chance: random.Random, aim: str, step: int, process: Any) -> None:
    """Returns at the moment to kill."""
    if aim == "any moment" and chance.random() < 0.3:
        time.sleep(chance.uniform(0, 1))  # before the first step, most of the time
        return
    goal = step + chance.randrange(1, LONGEST_WAIT)
    wait_for(lambda: not process.is_alive() or _last_step(run) >= goal)
    if aim == "any moment":
        time.sleep(chance.uniform(0, 0.05))
        return

    def at_hand() -> bool:
        writes = aim == "writing" and any(run.glob(f"checkpoints/{PARTIAL}step-*"))
        deletes = aim == "deleting" and len(_checkpoints(run)) > 1
        return writes or deletes

    # A fast disk may hide the moment from who looks every now and then; any other will do.
    last = goal + 2 * CHECKPOINT_EVERY
    wait_for(lambda: not process.is_alive() or at_hand() or _last_step(run) >= last, pause=SHORTEST_PAUSE)
    time.sleep(chance.uniform(0, 0.01 if aim == "writing" else 0.001))


def _moment(run: Path, step: int) -> str:
    """What the process was doing, told by what it left behind."""
    if any(run.glob(f"checkpoints/{PARTIAL}old-*")) or len(_checkpoints(run)) > 1:
        return "deleting a checkpoint"
    if any(run.glob(f"checkpoints/{PARTIAL}step-*")):
        return "writing a checkpoint"
    if any(run.rglob(f"{PARTIAL}*")):
        return "publishing the model"
    return "stepping" if _last_step(run) > step else "starting"


def _checkpoints(run: Path) -> list[Path]:
    return list(run.glob("checkpoints/step-*"))


def _last_step(run: Path) -> int:
    try:
        lines = (run / LOG_FILE).read_bytes()[-LAST_BYTES:].split(b"\n")
    except FileNotFoundError:
        return 0
    return int(json.loads(lines[-2])["step"]) if len(lines) > 1 else 0


def _differing(one: Path, other: Path) -> list[str]:
    """Files of two runs that are not the same to the bit; of the log, all but the speed is compared."""
    names = {path.relative_to(run) for run in (one, other) for path in run.rglob("*") if path.is_file()}
    # The configuration and the card name their folder.
    names -= {Path(name) for name in ("config.yaml", "README.md", LOG_FILE)}
    same = [name for name in names if _bytes(one / name) == _bytes(other / name)]
    logs = [[{**line, "images_per_second": 0} for line in read_log(run / LOG_FILE)] for run in (one, other)]
    return sorted(str(name) for name in names - set(same)) + ([LOG_FILE] if logs[0] != logs[1] else [])


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def as_markdown(result: dict[str, Any]) -> str:
    """The table of docs/results."""
    struck = "\n".join(f"| killed while {moment} | {number} |" for moment, number in result["struck"].items())
    equal = "none" if not result["differing_files"] else ", ".join(result["differing_files"])
    return f"""# {result["kills"]} SIGKILLs and a training that does not mind

`python benchmarks/soak_resume.py --kills {result["kills"]}`: {result["steps"]} optimizer steps, a checkpoint every
{result["checkpoint_every"]}, one kept, {result["seconds"]} s in all.

| | |
| --- | --- |
{struck}
| damaged checkpoints | {result["damaged_checkpoints"]} |
| steps lost by a kill, mean | {result["lost_steps_mean"]} |
| steps lost by a kill, most | {result["lost_steps_most"]} |
| files that differ from those of a run never killed | {equal} |

Compared, to the bit, are weights, moving average, optimizer state, logged losses and learning rates, the published
model, sample sheets and loss.png.
"""


def main(words: Sequence[str] | None = None) -> None:
    """Runs the soak and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="folder of soak_resume.md and soak_resume.json; none prints only")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        result = soak(options.kills, Path(folder), options.seed)
    if options.out:
        out = Path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "soak_resume.json").write_text(json.dumps(result, indent=1) + "\n")
        (out / "soak_resume.md").write_text(as_markdown(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
