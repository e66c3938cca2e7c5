"""What is kept and for how long: `halfface_pipeline.app.kept`."""

import os
import time

import pytest

from halfface_pipeline.app.kept import nothing_kept, sweep


def test_everything_is_gone_at_the_end_also_after_an_error(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "theirs")
    with pytest.raises(RuntimeError), nothing_kept() as kept:
        assert os.environ["GRADIO_TEMP_DIR"] == str(kept)
        (kept / "photo").mkdir()
        (kept / "photo" / "me.jpg").write_bytes(b"x")
        raise RuntimeError
    assert not kept.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == "theirs"
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    with nothing_kept():
        pass
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_what_is_old_is_swept_and_what_is_young_or_an_example_stays(tmp_path):
    old = time.time() - 100
    for name in ("examples/a.png", "old/b.png", "both/old.png", "both/young.png", "upload"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
        if name != "both/young.png":
            os.utime(tmp_path / name, (old, old))
    sweep(tmp_path, 99)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"examples/a.png", "both/young.png"}
    sweep(tmp_path, -1)
    assert {path.name for path in tmp_path.iterdir()} == {"examples"}
