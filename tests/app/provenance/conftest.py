"""A home for the development certificate, and a folder for what the verifier keeps of its user."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import get_settings
from tests.app.provenance.marked_films import silence_verifier


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CINEMETER_HOME", str(tmp_path / "home"))
    silence_verifier(monkeypatch, tmp_path)
    get_settings.cache_clear()
    yield tmp_path / "home"
    monkeypatch.undo()
    get_settings.cache_clear()
