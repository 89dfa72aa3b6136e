"""A store whose uploads tests can delay or fail, set as the configured one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workers.worker_processes import GatedStorage

Gate = Callable[[Callable[[str], None]], GatedStorage]


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Return a function that opens a store which calls `at_upload` before each upload."""

    def opened(at_upload: Callable[[str], None]) -> GatedStorage:
        storage = GatedStorage(tmp_path / "files", at_upload)
        # The one place that opens the configured store.
        monkeypatch.setattr("app.storage._opened", lambda url: storage)
        return storage

    return opened
