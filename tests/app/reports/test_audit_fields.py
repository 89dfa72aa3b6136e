"""Whatever field of a receipt, a transfer or a hold is changed: the database refuses it, or an audit names it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from app.accounts.keys import issue_key
from app.accounts.projects import create_project
from app.clock import now
from app.reports.audit import audit_books
from app.reports.seals import day_digest
from app.wallet.funds import refund
from tests.ledger_simulation import Line

# The row of each table that is changed: those of a film that was paid for and partly refunded.
ROWS = {
    "receipts": "job_id = :job",
    "receipt_numbers": "job_id = :job",
    "transfers": "job_id = :job AND kind = 'capture'",
    "holds": "job_id = :job",
    "hold_slices": "hold_id = (SELECT id FROM holds WHERE job_id = :job)",
    "reservations": "quote_id = :job",
}
CHANGES = {
    "text": "coalesce({0}, '') || 'x'",
    "bigint": "coalesce({0}, 0) + 1",
    "numeric": "coalesce({0}, 0) + 1",
    "boolean": "NOT {0}",
    "timestamp with time zone": "{0} + interval '1 second'",
    "jsonb": "{0} || jsonb_build_object('x', 1)",
}
# What nothing else follows from. Only a seal notices that it was changed.
ONLY_SEALED = {
    ("receipts", "number"),
    ("receipts", "gpu_milliseconds"),
    ("receipts", "gpu_cost"),
    ("transfers", "id"),
    ("transfers", "reason"),
    ("hold_slices", "amount"),
    *(("reservations", name) for name in ("free", "promotions", "promotions_used", "created_at", "resolved_at")),
}
# A refund of an old film changes it, so it is in no seal; its rule reads all refunds.
NEVER_SEALED = {("hold_slices", "refunded")}


@pytest.fixture
def film(session: Session) -> str:
    """The id of a film with a bit of everything: free seconds, a price, a project, a key, a refund."""
    line = Line(session)
    alice = line.open(membership="studio", credit=50_000)
    project = line.act(lambda: create_project(session, alice.account_id, "Trailer"))
    key = line.act(lambda: issue_key(session, alice.account_id, scopes=["videos"])[0])
    alice = type(alice)(alice.account, alice.scopes, alice.roles, test=False, key_id=key.id)
    line.order(alice, seconds=40)
    job = line.order(alice, seconds=40, project=project.id)
    line.work()
    line.act(lambda: refund(session, job.id, 100, reference="flicker", reason="flicker"))
    line.order(alice, seconds=3)
    line.check()
    return job.id


def bends(session: Session, job: str) -> Iterator[tuple[str, str]]:
    """Change each column in turn, and yield it while it is changed. A change that the database refuses is left out."""
    columns = text(
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name = ANY (:tables) ORDER BY 1, ordinal_position"
    )
    session.execute(text("SET LOCAL session_replication_role = replica"))
    for table, column, kind in session.execute(columns, {"tables": list(ROWS)}).all():
        change = f"UPDATE {table} SET {column} = {CHANGES[kind].format(column)} WHERE {ROWS[table]}"
        bending = session.begin_nested()
        try:
            changed = session.execute(text(change), {"job": job}).rowcount  # type: ignore[attr-defined]
        except (IntegrityError, DataError):
            bending.rollback()
            continue
        assert changed == 1, (table, column)
        session.expire_all()
        yield table, column
        bending.rollback()
        session.expire_all()


def test_the_audit_checks_every_field_that_another_row_repeats(session: Session, film: str) -> None:
    unseen = {bent for bent in bends(session, film) if audit_books(session) == []}
    assert unseen == ONLY_SEALED
    assert audit_books(session) == []


def test_a_seal_covers_every_field(session: Session, film: str) -> None:
    day = now(session).replace(hour=0, minute=0, second=0, microsecond=0)
    # The film may have ended a moment before midnight.
    days = (day - timedelta(days=1), day)
    before = [day_digest(session, each) for each in days]
    unseen = {bent for bent in bends(session, film) if [day_digest(session, each) for each in days] == before}
    assert unseen == NEVER_SEALED
