"""Cost of an evaluation and of a training step against image size, width and batch; prints JSON.

`python benchmarks/scaling.py [--rounds N]`. The network is that of configs/demo.yaml with one thing changed at a time.
"""

import argparse
import dataclasses
import json
import statistics

import torch
from timing import interleaved, machine, product_peak

from halfface_pipeline.config.files import parse_arguments
from halfface_pipeline.diffusion.networks import build_network, num_parameters, sample_shape, training_cost
from halfface_pipeline.remote_code.halves import predict, size_multiple

SIZES = ((48, 40), (64, 52), (112, 88), (218, 178))
WIDTHS = (0.5, 1, 2)
BATCHES = (1, 4, 16)
BATCH = 4


def main() -> None:
    """Times all cases in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = parse_arguments(["--config", "configs/demo.yaml"])[0]
    size, batch = (config.data.height, config.data.width), BATCH
    cases = {f"size {height}x{width}": (config.model, (height, width), batch) for height, width in SIZES}
    for factor in WIDTHS:
        widths = tuple(int(width * factor) for width in config.model.block_out_channels)
        cases[f"width x{factor}"] = (
            dataclasses.replace(config.model, block_out_channels=widths, **_heads(factor)),
            size,
            batch,
        )
    cases |= {f"batch {number}": (config.model, size, number) for number in BATCHES}

    peak, rows = product_peak(torch.float32), []
    runs, steps, costs = {}, {}, {}
    for name, (model, (height, width), number) in cases.items():
        torch.manual_seed(0)
        network = build_network(model, height, width)
        shown = torch.randn(number, *sample_shape(model, height, width))
        costs[name] = (num_parameters(network), training_cost(model, height, width)[1], number)

        def evaluate(network=network, shown=shown, layout=model.known_layout):
            with torch.inference_mode():
                predict(network, shown, shown, torch.tensor(500), layout, size_multiple(network))

        def step(network=network, shown=shown, layout=model.known_layout):
            prediction = predict(network, shown, shown, torch.tensor(500), layout, size_multiple(network))
            prediction.square().mean().backward()

        runs[name], steps[name] = evaluate, step
    evaluated, trained = interleaved(runs, options.rounds), interleaved(steps, options.rounds)
    for name, (parameters, operations, number) in costs.items():
        forward, both = (statistics.median(taken[name]) / number for taken in (evaluated, trained))
        rows.append(
            {
                "case": name,
                "parameters": parameters,
                "gflop": round(operations / 1e9, 2),
                "evaluation_ms": round(1e3 * forward, 2),
                "passes_ms": round(1e3 * both, 2),
                "share_of_product_peak": round(operations / forward / peak, 2),
            }
        )
    print(json.dumps({"benchmark": "scaling", **machine(), "rows": rows}, indent=1))


def _heads(factor: float) -> dict[str, int]:
    return {"norm_num_groups": 8, "attention_head_dim": 16 if factor < 1 else 32}


if __name__ == "__main__":
    main()
