"""log.jsonl: good lines survive damaged ones."""

import json

from halfface_pipeline.run_folder.log import read_log, truncate_log


def test_lines_after_a_damaged_one_are_kept(tmp_path):
    file = tmp_path / "log.jsonl"
    good = [{"step": step, "loss": 1.0, "lr": 0.1} for step in (1, 2, 3, 4)]
    lines = [json.dumps(line) for line in good]
    damaged = [lines[0], '{"step": 2, "lo', lines[1], "null", '{"loss": 1}', '{"step": "x"}', "3", lines[2], lines[3]]
    file.write_text("\n".join(damaged) + "\n\0\0")
    assert read_log(file) == good
    with file.open("ab") as log:
        log.write(b"\0\xff\n")  # what a file system may leave after the power went
    truncate_log(file, 3)
    assert file.read_text().splitlines() == lines[:3]
    truncate_log(tmp_path / "new.jsonl", 0)
    assert (tmp_path / "new.jsonl").read_text() == ""
