"""All worked examples of the book in force, asked over HTTP as a customer asks."""

from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil, floor

import pytest
from sqlalchemy import Engine

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.accounts.memberships import grant_membership
from app.clock import local_now, now
from app.db import transaction
from app.settings import get_settings
from app.wallet.balance import open_wallet
from pricing.book import parse_book
from pricing.books import read_shipped
from tests.world import World

BOOK = parse_book(read_shipped())
# A door sells whole seconds, and reads only clips that were uploaded; what is left is exact fractions and edits.
ASKED = [each for each in BOOK.examples if each.seconds.denominator == 1 and not each.input_seconds]
BEFORE = min(each.at for each in BOOK.examples) - timedelta(days=40)


def stand_at(moment: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the service's clock, which is shifted by whole seconds: at the end of a minute a little early, else late."""
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", "0")
    get_settings.cache_clear()
    shift = (moment - local_now()).total_seconds()
    offset = floor(shift) if moment.second == 59 else ceil(shift)
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", str(offset))
    get_settings.cache_clear()


@pytest.fixture(autouse=True)
def before_all_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The book takes effect before its first example does."""
    stand_at(BEFORE, monkeypatch)


@pytest.fixture
def keys(world: World, engine: Engine) -> dict[str, str]:
    """A key of an account of each membership, new, so that no free second is used."""
    found = {}
    with transaction(engine) as session:
        for name in BOOK.memberships:
            account = create_account(session, name)
            open_wallet(session, account.id)
            if name != "free":
                grant_membership(session, account.id, name, starts_at=now(session) - timedelta(days=900))
            found[name] = issue_key(session, account.id, scopes=["videos"])[1]
    return found


def test_every_worked_example_comes_out_of_the_door(
    world: World, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(ASKED) == len(BOOK.examples) - 2
    for example in ASKED:
        # The clock stands where the example says, so that promotions of its day hold.
        stand_at(example.at, monkeypatch)
        key = keys[example.membership]
        order = {
            "model": example.model,
            "prompt": "bars",
            "resolution": example.resolution,
            "service_tier": example.service_tier,
        }
        month = BOOK.membership(example.membership).free_seconds_per_month
        if month:
            # All but the example's free seconds of the month are promised to a quote.
            spent = {**order, "seconds": int(month - example.free_seconds)}
            assert world.post("/v1/videos/quotes", spent, key=key).status_code == 200
        found = world.post("/v1/videos/estimates", {**order, "seconds": int(example.seconds)}, key=key).json()
        assert found.get("total") == example.total.text, (example.name, found)
        assert sum(Fraction(line["amount"]) for line in found["lines"]) == Fraction(found["total"])
