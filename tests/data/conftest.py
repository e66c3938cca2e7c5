"""Small folders of pictures and a configuration whose cache is the test's own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halfface_pipeline.config.schema import DataConfig
from tests.fixtures import write_celeba


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., DataConfig]:
    """DataConfig with 16x16 images and a cache in the test's folder."""

    def make(source: str, path: Path | str | None = None, **changes: object) -> DataConfig:
        settings: dict = {"height": 16, "width": 16, "cache_dir": str(tmp_path / "cache")} | changes
        return DataConfig(source=source, path=None if path is None else str(path), **settings)

    return make


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """Writes one-colour PNG pictures; the colour of the i-th is (i, 100, 200)."""

    def write(names: list[str], folder: str = "pictures") -> Path:
        for number, name in enumerate(names):
            place = tmp_path / folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (number, 100, 200)).save(place, format="PNG")
        return tmp_path / folder

    return write


@pytest.fixture(scope="session")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """An official-looking CelebA folder of 3 x 8 pictures, for reading only, and its attributes as written."""
    folder = tmp_path_factory.mktemp("celeba")
    return folder, write_celeba(folder, 8)
