"""An operator's pools.toml, which a test may write while the service uses it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.catalog.models import load_catalog
from app.catalog.pools import load_pools
from app.settings import get_settings

WritePools = Callable[[str], None]


@pytest.fixture
def write_pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WritePools]:
    """Return a function that writes the pools of this test; models may be written beside them."""
    monkeypatch.setenv("CINEMETER_CATALOG_DIR", str(tmp_path))
    caches = (get_settings, load_catalog, load_pools)
    for each in caches:
        each.cache_clear()

    def write(text: str) -> None:
        (tmp_path / "pools.toml").write_text(text, encoding="utf-8")
        load_pools.cache_clear()

    yield write
    monkeypatch.undo()
    for each in caches:
        each.cache_clear()
