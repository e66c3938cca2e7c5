"""Fair timings on a noisy machine: cases take turns in one process, medians are compared, ratios reported."""

import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

PEAK_SIZES = (1024, 2048)
PEAK_CONVOLUTION = (8, 256, 32, 3)
"""Images, channels, side and side of the kernel."""


def interleaved(
    cases: Mapping[str, Callable[[], object]], rounds: int = 5, warmups: int = 1
) -> dict[str, list[float]]:
    """Seconds of each case in each round; a round runs every case once."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(warmups + rounds):
        for name, case in cases.items():
            synchronize()
            start = time.perf_counter()
            case()
            synchronize()
            if number >= warmups:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def taking_turns(
    makers: Mapping[str, Callable[[], Callable[[], Any]]], rounds: int = 5, warmups: int = 2
) -> dict[str, list[tuple[float, Any, int]]]:
    """As `interleaved`, with each case made and run in a process of its own, whose memory no other case arranges.

    Args:
        makers: By name, what makes a case; must be picklable.
        rounds: Counted runs of each case.
        warmups: Runs before them.

    Returns:
        By name and round, the seconds, what the case returned, and the peak memory of its process in MiB.
    """
    context = multiprocessing.get_context("spawn")
    lines, processes = {}, []
    for name, maker in makers.items():
        lines[name], other = context.Pipe()
        processes.append(context.Process(target=_serve, args=(maker, other), daemon=True))
        processes[-1].start()
    taken: dict[str, list[tuple[float, Any, int]]] = {name: [] for name in makers}
    for number in range(warmups + rounds):
        for name, line in lines.items():
            line.send(True)
            answer = line.recv()
            if number >= warmups:
                taken[name].append(answer)
    for line in lines.values():
        line.send(False)
    for process in processes:
        process.join()
    return taken


def _serve(maker: Callable[[], Callable[[], Any]], line: Any) -> None:
    """Runs a case as often as it is told to."""
    case = maker()
    while line.recv():
        start = time.perf_counter()
        result = case()
        synchronize()
        line.send((time.perf_counter() - start, result, peak_memory_mib()))


def compared(seconds: Mapping[str, list[float]], base: str, images: Mapping[str, int] | int = 1) -> dict[str, Any]:
    """Median milliseconds an image, and how many times faster than the base each case is."""
    count = images if isinstance(images, Mapping) else dict.fromkeys(seconds, images)
    each = {name: statistics.median(taken) / count[name] for name, taken in seconds.items()}
    return {
        name: {
            "ms_per_image": round(1e3 * value, 2),
            "times_faster": round(each[base] / value, 2),
            "slowest_over_fastest": round(max(seconds[name]) / min(seconds[name]), 2),
        }
        for name, value in each.items()
    }


def product_peak(dtype: torch.dtype, device: torch.device | str = "cpu", rounds: int = 5) -> float:
    """Floating-point operations a second of the best matrix product here.

    A convolution is one too, and on some CPUs torch multiplies float32 matrices at a third of its rate.
    """
    rates = []
    for size in PEAK_SIZES:
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        rates.append(2 * size**3 / _fastest(lambda left=left, right=right: left @ right, rounds))
    batch, channels, side, kernel = PEAK_CONVOLUTION
    image, weight = (
        torch.randn(shape, device=device).to(dtype, memory_format=torch.channels_last)
        for shape in [(batch, channels, side, side), (channels, channels, kernel, kernel)]
    )
    seconds = _fastest(lambda: torch.nn.functional.conv2d(image, weight, padding=kernel // 2), rounds)
    return max(*rates, 2 * image.numel() * channels * kernel**2 / seconds)


def _fastest(case: Callable[[], object], rounds: int) -> float:
    return min(interleaved({"": case}, rounds, warmups=2)[""])


def synchronize() -> None:
    """Waits for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def peak_memory_mib() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
