"""Rows as a Markdown table."""

from halfface_pipeline.run_folder.tables import markdown_table


def test_rows_become_a_markdown_table():
    rows = [{"step_size": 40, "noise": 0.08612345}, {"step_size": "exact", "noise": None}]
    assert markdown_table(rows) == "| step size | noise |\n| --- | --- |\n| 40 | 0.08612 |\n| exact |  |"
    assert markdown_table([]) == ""
