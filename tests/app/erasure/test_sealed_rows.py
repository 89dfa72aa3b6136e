"""A month that an audit has sealed is as it was sealed after an erasure, too."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session

from app.accounts.tables import Account
from app.admin.erasures import erase_subject
from app.audit_log.actor import Actor
from app.clock import now
from app.db import transaction
from app.erasure.tables import ErasureKind
from app.events.tables import Event
from app.jobs.tables import Job
from app.reports.parallel_audit import AuditReport, audit_in_parallel
from app.roles import Role
from app.wallet.funds import refund
from app.wallet.tables import Transfer
from tests.ledger_simulation import Line

OPERATOR = Actor("member_operator", "page", frozenset({Role.OPERATOR}))


@pytest.fixture
def account_id(engine: Engine, session: Session) -> str:
    """An account with films and a refund of ten weeks ago."""
    session.info["clock_at"] = now(session) - timedelta(days=70)
    line = Line(session)
    alice = line.open()
    films = [line.order(alice, seconds=2).id for _ in range(2)]
    line.work()
    line.act(lambda: refund(session, films[0], 1, reference="refund-1", reason="Alice saw a flicker"))
    line.wait(days=70)
    return alice.account_id


def audit(**options: bool) -> AuditReport:
    return audit_in_parallel(processes=1, **options)  # type: ignore[arg-type]


@pytest.mark.timeout(120)
def test_a_seal_outlives_an_erasure(account_id: str) -> None:
    first = audit()
    assert (first.findings, bool(first.sealed)) == ([], True)
    list(erase_subject(OPERATOR, ErasureKind.ACCOUNT, account_id))
    with transaction() as session:
        reason = session.scalars(select(Transfer.reason).where(Transfer.kind == "refund")).one()
        assert reason.startswith("erased:")
        assert session.scalars(select(Account.salt).where(Account.id == account_id)).one() is None
        assert set(session.scalars(select(Job.prompt))) == {""}
        assert all("prompt" not in body for body in session.scalars(select(Event.body)))
    assert audit().findings == []
    assert audit(everything=True).findings == []
    # What was left of the rows is sealed as before.
    with transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(update(Transfer).where(Transfer.kind == "refund").values(reason="erased:by hand"))
    assert "sealed_month_is_unchanged" in {each.rule for each in audit().findings}
