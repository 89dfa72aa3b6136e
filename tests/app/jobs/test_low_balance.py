"""The owner is told once when the wallet runs low, and again after money came in and was spent."""

import json

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.events.tables import Event
from app.wallet.balance import set_low_balance
from app.wallet.funds import top_up
from tests.line import Line


def told(line: Line, caller: Caller) -> list[str]:
    bodies = line.session.scalars(
        select(Event.body)
        .where(Event.account_id == caller.account_id, Event.type == "wallet.low")
        .order_by(Event.occurred_at)
    )
    return [json.loads(body)["data"]["available"] for body in bodies]


def test_a_low_balance_is_told_once_a_fall(session: Session) -> None:
    line = Line(session)
    alice = line.open(membership="free", credit=1_000)
    line.act(lambda: set_low_balance(session, alice.account_id, 600))
    line.order(alice, seconds=3)
    assert told(line, alice) == []
    line.order(alice, seconds=3)
    assert told(line, alice) == ["4.60"]
    line.order(alice, seconds=1)
    assert told(line, alice) == ["4.60"]
    line.act(lambda: top_up(session, alice.account_id, 1_000, kind="purchased", reference="more"))
    line.order(alice, seconds=10)
    assert told(line, alice) == ["4.60", "4.70"]
    line.check()
