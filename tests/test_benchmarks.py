"""The GPU benchmark also runs where there is no GPU."""

import importlib.util
import json
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("gpu_benchmark", BENCHMARKS / "gpu.py")
    gpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu)
    monkeypatch.setattr("timing.PEAK_SIZES", (64,))
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "data: {height: 20, width: 16}\n"
        "model: {block_out_channels: [8, 16], layers_per_block: 1, norm_num_groups: 4, attention_head_dim: 8}\n"
    )
    few = ["--batches", "2", "--completions", "2", "--steps", "2", "--forms", "eager", "--rounds", "1"]
    out = tmp_path / "gpu.json"
    result = gpu.main(["--config", str(config), "--out", str(out), *few])
    assert json.loads(out.read_text()) == result
    assert [row["batch"] for row in result["training"]] == [2] and [row["steps"] for row in result["sampling"]] == [2]
    assert all(row["images_per_second"] > 0 for row in result["training"]) and not result["left_out"]
    late = gpu.main(["--config", str(config), "--out", str(out), *few, "--minutes", "0"])
    assert late["left_out"] == ["training 2 eager: no time left", "sampling 2 eager: no time left"]
