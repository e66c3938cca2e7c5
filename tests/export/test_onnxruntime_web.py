"""Where the runtime of the page comes from."""

import json

import pytest

from halfface_pipeline.export.onnxruntime_web import FILES, VERSION, download, runtime_files


def write_package(folder, version=VERSION):
    """A folder laid out as the npm package."""
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"version": version}))
    for name in {name.removesuffix(".gz") for names in FILES.values() for name in names.values()}:
        (folder / "dist" / name).write_bytes(name.encode() * 100)
    return str(folder)


def test_a_folder_gives_the_files_that_the_page_names(tmp_path):
    files = runtime_files(write_package(tmp_path / "package"))
    assert set(files) == {name for names in FILES.values() for name in names.values()}
    assert all(files[names["binary"]][:2] == b"\x1f\x8b" for names in FILES.values())
    assert files["ort.wasm.min.mjs"] == b"ort.wasm.min.mjs" * 100
    assert runtime_files(str(tmp_path / "package")) == files


def test_another_version_is_refused(tmp_path):
    with pytest.raises(ValueError, match=rf"version 1.29.0; it must be {VERSION}"):
        runtime_files(write_package(tmp_path / "package", "1.29.0"))


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="it is not the folder of that npm package"):
        runtime_files(str(tmp_path))


def test_an_archive_with_another_checksum_is_refused(tmp_path):
    (tmp_path / "a.tgz").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"a\.tgz is not the archive of onnxruntime-web .*SHA-512"):
        runtime_files(str(tmp_path / "a.tgz"))


def test_without_npm_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"npm is not installed; .* by --onnxruntime-web"):
        download()


def test_a_failing_npm_is_reported_and_nothing_is_kept(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"npm pack .* failed: no such package"):
        download()
    assert list((tmp_path / "cache" / "halfface_pipeline").iterdir()) == []
