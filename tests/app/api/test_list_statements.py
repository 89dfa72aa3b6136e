"""A page of a list costs the same number of statements however long it is."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, event

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.db import transaction
from app.dispatch import waiting_work
from tests.api_client import World

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


def statements(engine: Engine, act: Callable[[], object]) -> int:
    """Return how many statements an action sends."""
    count = [0]

    def record(*_: object) -> None:
        count[0] += 1

    event.listen(engine, "before_cursor_execute", record)
    try:
        act()
    finally:
        event.remove(engine, "before_cursor_execute", record)
    return count[0]


def test_a_page_of_films_asks_for_their_receipts_and_forecasts_at_once(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What other accounts have waiting is read again after a few seconds.
    monkeypatch.setattr(waiting_work, "KEPT_SECONDS", 1000.0)
    for number in range(6):
        video = world.post("/v1/videos", ORDER).json()["id"]
        if number % 2:
            assert world.post(f"/v1/videos/{video}/cancel").json()["status"] == "cancelled"

    def page(limit: int) -> Callable[[], object]:
        return lambda: world.get("/v1/videos", params={"limit": limit}).raise_for_status()

    # Both pages have films that wait and films that ended.
    statements(engine, page(2))
    assert statements(engine, page(2)) == statements(engine, page(6))
    listed = world.get("/v1/videos", params={"limit": 6}).json()["data"]
    assert [video["charged"] for video in listed] == ["0.00", None] * 3


def test_a_page_of_accounts_asks_for_their_memberships_at_once(world: World, engine: Engine) -> None:
    with transaction(engine) as session:
        operator = create_account(session, "Operator")
        key = issue_key(session, operator.id, scopes=["admin"], roles=["operator"])[1]

    def page(limit: int) -> Callable[[], object]:
        return lambda: world.get("/v1/admin/accounts", key=key, params={"limit": limit}).raise_for_status()

    statements(engine, page(1))
    assert statements(engine, page(1)) == statements(engine, page(3))
    listed = world.get("/v1/admin/accounts", key=key).json()["data"]
    assert sorted(account["membership"] for account in listed) == ["free", "professional", "professional"]
