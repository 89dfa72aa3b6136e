"""All worked examples of the price book in force, estimated over HTTP as a customer does."""

from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil, floor
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.accounts.memberships import grant_membership
from app.clock import local_now, now
from app.db import transaction
from app.settings import get_settings
from app.wallet.balance import open_wallet
from app.wallet.funds import top_up
from pricing.book import Example, parse_book
from pricing.books import read_shipped
from tests.api_client import World

BOOK = parse_book(read_shipped())
BEFORE = min(each.at for each in BOOK.examples) - timedelta(days=40)


def set_clock(moment: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the service's clock, which is shifted by whole seconds: at the end of a minute a little early, else late."""
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", "0")
    get_settings.cache_clear()
    shift = (moment - local_now()).total_seconds()
    offset = floor(shift) if moment.second == 59 else ceil(shift)
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", str(offset))
    get_settings.cache_clear()


@pytest.fixture
def keys(world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A key of an account of each membership, new, so that no free second is used.

    The book takes effect before its first example does.
    """
    set_clock(BEFORE, monkeypatch)
    keys_by_membership = {}
    with transaction(engine) as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(text("UPDATE price_books SET effective_at = :at"), {"at": BEFORE})
        for name in BOOK.memberships:
            account = create_account(session, name)
            open_wallet(session, account.id)
            top_up(session, account.id, 100_000, kind="purchased", reference=f"seed {name}")
            if name != "free":
                grant_membership(session, account.id, name, starts_at=now(session) - timedelta(days=900))
            keys_by_membership[name] = issue_key(session, account.id, scopes=["videos"])[1]
    return keys_by_membership


def length(example: Example) -> dict[str, object]:
    """How a customer asks for so many seconds: whole ones by their number, half ones by shots that fade."""
    if example.seconds.denominator == 1:
        return {"prompt": "bars", "seconds": int(example.seconds)}
    assert example.seconds.denominator == 2
    half = (example.seconds + Fraction(1, 2)) / 2
    assert half.denominator == 1
    shot = {"prompt": "bars", "seconds": int(half)}
    return {"shots": [shot, {**shot, "transition": "crossfade"}]}


def edited(world: World, order: dict[str, str], example: Example, key: str) -> dict[str, Any]:
    """The price of an edit, which is as long as its source: a film that is ordered, made, and edited."""
    assert example.seconds == example.input_seconds
    # The book's rates name no model, so the quickest one makes the film.
    body = {**order, **length(example), "model": "synthetic"}
    film = world.post("/v1/videos", body, key=key).json()
    world.work()
    edit = world.post("/v1/videos/edits", {"prompt": "as snow", "video": film["id"]}, key=key).json()
    return edit.get("price", edit)


def test_every_worked_example_is_priced_as_the_book_says(
    world: World, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for example in BOOK.examples:
        # The clock stands where the example says, so that promotions of its day hold.
        set_clock(example.at, monkeypatch)
        key = keys[example.membership]
        order = {
            "model": example.key.model,
            "resolution": example.key.resolution,
            "service_tier": example.service_tier,
        }
        month = BOOK.membership(example.membership).free_seconds_per_month
        if month:
            # All but the example's free seconds of the month are promised to a quote.
            spent = {**order, "prompt": "bars", "seconds": int(month - example.free_seconds)}
            assert world.post("/v1/videos/quotes", spent, key=key).status_code == 200
        if example.key.mode == "edit":
            estimate = edited(world, order, example, key)
        else:
            estimate = world.post("/v1/videos/estimates", {**order, **length(example)}, key=key).json()
        assert estimate.get("total") == example.total.text, (example.name, estimate)
        assert sum(Fraction(line["amount"]) for line in estimate["lines"]) == Fraction(estimate["total"])
