"""Trains a model that draws the hidden half of a face: `accelerate launch train_halfface.py --config FILE`."""

import signal
import sys
from collections.abc import Sequence

import torch

from halfface_pipeline.config.files import parse_arguments
from halfface_pipeline.training.distributed import PeerProcessDied, TrainingStopped, ignore_broken_pipe
from halfface_pipeline.training.dry_run import describe
from halfface_pipeline.training.loop import train


@ignore_broken_pipe()
def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the words, the process's own if none are given, trains and gives the exit status."""
    try:
        config, dry_run = parse_arguments(arguments)
        if dry_run:
            print(describe(config))
        else:
            print(f"model saved in {train(config)}")
    except (ValueError, OSError, FloatingPointError, PeerProcessDied) as error:
        print(f"train_halfface.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (torch.OutOfMemoryError, MemoryError) as error:
        print(
            f"train_halfface.py: error: {str(error).splitlines()[0]} "
            "A larger training.gradient_accumulation_steps needs less memory and takes the same steps",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("train_halfface.py: stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130
    except TrainingStopped as stopped:
        print(f"train_halfface.py: {stopped}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    # While a step is taken it means more; before and after, it is a Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
