"""A policy whose server sees pictures."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import get_settings
from tests.app.moderation.servers import ModerationServer, moderation_server

PolicyWriter = Callable[..., ModerationServer]


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PolicyWriter]:
    """Return what writes a policy whose server sees pictures, and returns the server."""
    with moderation_server() as server:
        count = 0

        def write(path: str = "/eyes", more: str = "", **fields: Any) -> ModerationServer:
            nonlocal count
            count += 1
            fields = {"pictures": True, "timeout_seconds": 10, **fields}
            lines = [
                f"{name} = {str(value).lower() if value is True else repr(value)}" for name, value in fields.items()
            ]
            file = tmp_path / f"policy-{count}.toml"
            file.write_text("\n".join(["[http]", f"url = {server.url(path)!r}", *lines, more]))
            monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(file))
            get_settings.cache_clear()
            return server

        yield write
    get_settings.cache_clear()
