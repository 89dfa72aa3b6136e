"""Processes that read files have as long as they need: only what they compute is limited in these tests."""

import pytest


@pytest.fixture(autouse=True)
def _long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READ_SECONDS", "SEEK_SECONDS"):
        monkeypatch.setattr(f"app.verification.file_reading.{name}", 400.0)
