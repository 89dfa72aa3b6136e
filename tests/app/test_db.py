"""Sessions over lines that die without a word."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.db import forget_engines, get_engine, transaction
from app.settings import get_settings
from tests.faults.tcp_proxy import Wire


@pytest.fixture
def wire(database_url: str) -> Iterator[Wire]:
    with closing(Wire(make_url(database_url).port or 5432)) as proxy:
        yield proxy
    forget_engines()


def test_a_line_whose_other_end_is_silent_is_left_for_a_new_one(
    database_url: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CINEMETER_DATABASE_PING_SECONDS", "0.1")
    get_settings.cache_clear()
    url = make_url(database_url).set(host="127.0.0.1", port=wire.own_port, query={})
    engine = get_engine(url.render_as_string(hide_password=False))
    with transaction(engine) as session:
        session.execute(text("SELECT 1"))
    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    assert wire.vanish() == 1
    with transaction(engine) as session:
        assert session.scalar(text("SELECT 2")) == 2
    monkeypatch.undo()
    get_settings.cache_clear()
