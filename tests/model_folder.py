"""An operator's folder of models, which a test may change while the service uses it."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from app.catalog.models import load_catalog
from app.settings import get_settings

_SYNTHETIC = files("app.catalog").joinpath("synthetic.toml").read_text(encoding="utf-8")


class ModelFolder:
    """Models like the synthetic one, and aliases."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, model_id: str, *lines: str) -> None:
        """Write a model with these lines at the top of its file."""
        text = _SYNTHETIC.replace('id = "synthetic"', "\n".join([f'id = "{model_id}"', *lines]))
        (self.path / f"{model_id}.toml").write_text(text, encoding="utf-8")
        load_catalog.cache_clear()

    def alias(self, **targets: str) -> None:
        """Write the aliases; there are no others."""
        lines = [f'"{name}" = "{target}"' for name, target in targets.items()]
        (self.path / "aliases.toml").write_text("\n".join(["[alias]", *lines]), encoding="utf-8")
        load_catalog.cache_clear()


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelFolder]:
    """The folder of this test, with the models `first` and `second`."""
    monkeypatch.setenv("CINEMETER_CATALOG_DIR", str(tmp_path))
    get_settings.cache_clear()
    folder = ModelFolder(tmp_path)
    folder.write("first")
    folder.write("second")
    yield folder
    monkeypatch.undo()
    get_settings.cache_clear()
    load_catalog.cache_clear()
