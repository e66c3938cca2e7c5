"""ONNX Runtime Web from npm, at one version: what the page needs of it."""

import base64
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the package's archive, in base64, as npm states it."""
FILES = {
    backend: {"module": f"ort.{backend}.min.mjs", "loader": f"{binary}.mjs", "binary": f"{binary}.wasm.gz"}
    for backend, binary in (("wasm", "ort-wasm-simd-threaded"), ("webgpu", "ort-wasm-simd-threaded.asyncify"))
}
"""Files of each backend by their part: the module, and the loader of its WebAssembly."""
SECONDS = 300


def runtime_files(source: str | None = None) -> dict[str, bytes]:
    """The files of the runtime by name: for each backend a module, and WebAssembly (gzip) with its loader.

    Args:
        source: The package's archive (.tgz) or the folder `node_modules/onnxruntime-web`; None takes the archive that
            was downloaded before, or downloads it by npm.

    Returns:
        Contents by file name.

    Raises:
        ValueError: If the source is another version or damaged, or npm is missing or fails.
    """
    if source is not None and Path(source).is_dir():
        return _select(_folder_files(Path(source)))
    return _select(_archive_files(Path(source) if source is not None else download()))


def download() -> Path:
    """The package's archive in the cache folder, downloaded once by `npm pack`.

    Returns:
        The archive; its checksum is compared when it is read.

    Raises:
        ValueError: If npm is missing or fails.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "halfface_pipeline"
    archive = cache / f"{PACKAGE}-{VERSION}.tgz"
    if archive.exists():
        return archive
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            f"npm is not installed; the page needs {PACKAGE} {VERSION} from it: install npm, or give the archive or "
            f"folder of that package by --{PACKAGE}"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"]
        try:
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise ValueError(f"npm pack {PACKAGE}@{VERSION} gave nothing within {SECONDS} s") from None
        packed = Path(folder, archive.name)
        if result.returncode or not packed.exists():
            raise ValueError(f"npm pack {PACKAGE}@{VERSION} failed: {result.stderr.strip()[-500:]}")
        _check_sum(packed)
        os.replace(packed, archive)
    return archive


def _select(files: dict[str, bytes]) -> dict[str, bytes]:
    # Most static servers compress nothing; 14 MB of WebAssembly become 4 MB. mtime 0: same input, same bytes.
    packed = {f"{name}.gz": gzip.compress(files[name], 6, mtime=0) for name in files if name.endswith(".wasm")}
    return {name: data for name, data in files.items() if not name.endswith(".wasm")} | packed


def _needed() -> list[str]:
    return [name.removesuffix(".gz") for names in FILES.values() for name in names.values()]


def _check_sum(archive: Path) -> None:
    if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != SHA512:
        raise ValueError(f"{archive} is not the archive of {PACKAGE} {VERSION}: its SHA-512 is another one; delete it")


def _archive_files(archive: Path) -> dict[str, bytes]:
    if not archive.is_file():
        raise ValueError(f"--{PACKAGE} is {str(archive)!r}; it must be the .tgz or the folder of that npm package")
    _check_sum(archive)
    with tarfile.open(archive) as tar:
        members = {name: tar.extractfile(f"package/dist/{name}") for name in _needed()}
        return {name: member.read() for name, member in members.items() if member is not None}


def _folder_files(folder: Path) -> dict[str, bytes]:
    try:
        version = json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"]
        if version != VERSION:
            raise ValueError(f"--{PACKAGE} is {str(folder)!r}, version {version}; it must be {VERSION}")
        return {name: (folder / "dist" / name).read_bytes() for name in _needed()}
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"--{PACKAGE} is {str(folder)!r}; it is not the folder of that npm package: {error}"
        ) from error
