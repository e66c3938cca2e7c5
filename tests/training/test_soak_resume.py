"""A short form of benchmarks/soak_resume.py."""

import json
from pathlib import Path

import pytest
from soak_resume import CHECKPOINT_EVERY, as_markdown, soak


@pytest.mark.slow
def test_a_training_killed_three_times_ends_as_one_never_killed(tmp_path):
    """Once at any moment, once while a checkpoint is written, once while an old one is deleted."""
    result = soak(3, tmp_path)
    assert result["differing_files"] == [] and sum(result["struck"].values()) == 3
    assert result["lost_steps_most"] <= CHECKPOINT_EVERY
    assert "| files that differ from those of a run never killed | none |" in as_markdown(result)


def test_the_table_of_the_docs_is_that_of_its_figures():
    results = Path(__file__).parents[2] / "docs" / "results"
    figures = json.loads((results / "soak_resume.json").read_text())
    assert (results / "soak_resume.md").read_text() == as_markdown(figures)
    assert figures["kills"] == 100 and figures["differing_files"] == []
