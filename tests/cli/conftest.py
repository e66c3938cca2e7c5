"""A model as --model takes it."""

import pytest


@pytest.fixture
def model(tiny_pipeline, tmp_path):
    """The folder of a saved tiny model, 20x16."""
    tiny_pipeline().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")
