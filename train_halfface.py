"""Trains a model that draws the hidden half of a face: `accelerate launch train_halfface.py --config FILE`."""

import os
import signal
import sys
from collections.abc import Sequence

from halfface_pipeline.config.files import parse_arguments
from halfface_pipeline.config.schema import Config


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains as the arguments say, by default those of the process, and returns the exit status."""
    try:
        config, dry_run = parse_arguments(arguments)
    except (ValueError, OSError) as error:
        return _end(2, f"error: {' '.join(str(error).split())}")
    return _train(config, dry_run)


def _train(config: Config, dry_run: bool) -> int:
    """Trains, or says what would be trained, and returns the exit status."""
    # These imports take seconds; a mistyped option has been reported before.
    import torch

    from halfface_pipeline.training.distributed import PeerProcessDied, TrainingStopped, ignore_broken_pipe
    from halfface_pipeline.training.dry_run import describe
    from halfface_pipeline.training.loop import train

    with ignore_broken_pipe():
        try:
            print(describe(config) if dry_run else f"model saved in {train(config)}")
            return 0
        except (ValueError, OSError, FloatingPointError, PeerProcessDied) as error:
            return _end(2, f"error: {' '.join(str(error).split())}")
        except (torch.OutOfMemoryError, MemoryError) as error:
            advice = "A larger training.gradient_accumulation_steps needs less memory and takes the same steps"
            return _end(2, f"error: {str(error).splitlines()[0]} {advice}")
        except TrainingStopped as stopped:
            return _end(130, str(stopped))
        except KeyboardInterrupt:
            return _end(130, "stopped; the same command resumes from the last checkpoint")


def _end(status: int, message: str) -> int:
    """Prints the message as the last line of this process, and returns the exit status."""
    if "ACCELERATE_DYNAMO_BACKEND" in os.environ:  # set by the launcher, whose traceback follows and is longer
        print("(a traceback below the next line is accelerate's, of the launcher; --quiet omits it)", file=sys.stderr)
    print(f"train_halfface.py: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    # The training handles SIGTERM itself; before and after it, SIGTERM acts as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
