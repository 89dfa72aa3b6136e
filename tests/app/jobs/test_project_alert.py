"""An order that takes a project's month to the amount of its alert writes one event; those before and after do not."""

import json

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.projects import create_project, set_alert
from app.errors import AppError
from app.events.tables import Event
from tests.ledger_simulation import Line


def test_an_alert_is_sent_by_the_order_that_comes_to_it(session: Session) -> None:
    line = Line(session)
    alice = line.open(membership="free", credit=10_000)
    project = line.act(lambda: create_project(session, alice.account_id, "Trailer"))
    line.act(lambda: set_alert(session, alice.account_id, project.id, 500))
    first = line.order(alice, seconds=3, project=project.id)
    used = first.total
    assert used < 500

    def alerts() -> list[dict[str, str]]:
        bodies = session.scalars(select(Event.body).where(Event.type == "project.alert").order_by(Event.occurred_at))
        return [json.loads(body)["data"] for body in bodies]

    assert alerts() == []
    used += line.order(alice, seconds=3, project=project.id).total
    assert used >= 500
    (alert,) = alerts()
    assert (alert["id"], alert["name"], alert["used"], alert["alert"]) == (
        project.id,
        "Trailer",
        f"{used / 100:.2f}",
        "5.00",
    )
    line.order(alice, seconds=3, project=project.id)
    line.order(alice, seconds=9)
    # What is released and ordered again is told once, until the alert is set anew or the month ends.
    last = line.order(alice, seconds=9, project=project.id)
    line.cancel(alice, last.id)
    line.order(alice, seconds=9, project=project.id)
    assert len(alerts()) == 1
    line.act(lambda: set_alert(session, alice.account_id, project.id, 400))
    line.order(alice, seconds=1, project=project.id)
    assert len(alerts()) == 2
    line.wait(days=32)
    line.order(alice, seconds=9, project=project.id)
    assert len(alerts()) == 3
    line.check()


def test_an_alert_at_nothing_is_refused(session: Session) -> None:
    line = Line(session)
    alice = line.open()
    project = line.act(lambda: create_project(session, alice.account_id, "Trailer"))
    with pytest.raises(AppError) as refused:
        line.act(lambda: set_alert(session, alice.account_id, project.id, 0))
    assert (refused.value.code, refused.value.field) == ("invalid_request", "alert")
