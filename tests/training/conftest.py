"""Each training of these tests starts as in a new process."""

import pytest
from accelerate.state import AcceleratorState


@pytest.fixture(autouse=True)
def new_accelerator():
    """accelerate keeps one state per process; each run here starts with a new one."""
    AcceleratorState._reset_state(reset_partial_state=True)
