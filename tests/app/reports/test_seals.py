"""A month that is over and agrees is sealed: its receipts are not computed again, and no change to them goes unseen."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.clock import now
from app.db import get_engine, transaction
from app.errors import AppError
from app.jobs.tables import ReceiptRow
from app.reports import parallel_audit
from app.reports.audit import audit_books
from app.reports.parallel_audit import AuditReport, audit_in_parallel
from app.wallet.funds import refund
from tests.ledger_simulation import Line

OLD_FILMS, NEW_FILMS = 3, 2


@pytest.fixture
def books(engine: Engine, session: Session) -> list[str]:
    """The ids of films of ten weeks ago, in a service that makes some today, too."""
    session.info["clock_at"] = now(session) - timedelta(days=70)
    line = Line(session)
    alice = line.open()
    old = [line.order(alice, seconds=2).id for _ in range(OLD_FILMS)]
    line.work()
    line.wait(days=70)
    for _ in range(NEW_FILMS):
        line.order(alice, seconds=2)
    line.work()
    return old


def audit(**options: object) -> AuditReport:
    return audit_in_parallel(processes=2, **options)  # type: ignore[arg-type]


def bend(statement: str, **values: object) -> None:
    """Change rows as a hand in the database can: without the triggers that keep them."""
    with transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(text(statement), values)


def rules(report: AuditReport) -> set[str]:
    return {finding.rule for finding in report.findings}


@pytest.mark.timeout(240)
def test_a_sealed_month_is_not_computed_again_and_a_change_to_it_is_noticed(
    books: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # Each receipt is a part, so that two processes compute them.
        patch.setattr(parallel_audit, "PART", 1)
        first = audit()
    assert (first.findings, first.receipts) == ([], OLD_FILMS + NEW_FILMS)
    with transaction() as session:
        oldest = session.scalars(select(ReceiptRow.settled_at).order_by(ReceiptRow.settled_at)).first()
    assert oldest is not None
    assert first.sealed[0] == oldest.strftime("%Y-%m")
    again = audit()
    assert (again.findings, again.receipts, again.sealed) == ([], NEW_FILMS, [])
    assert audit(everything=True).receipts == OLD_FILMS + NEW_FILMS
    assert audit(since=first.sealed[0]).receipts == OLD_FILMS + NEW_FILMS

    bend("UPDATE jobs SET film = jsonb_set(film, '{frames}', '16') WHERE id = :job", job=books[0])
    changed = audit()
    assert (rules(changed), changed.receipts) == ({"sealed_month_is_unchanged"}, NEW_FILMS)
    assert rules(audit(everything=True)) == {"sealed_month_is_unchanged", "receipt_replays"}


BENT = (
    "UPDATE receipts SET settled_at = settled_at - interval '400 days' WHERE job_id = :job",
    "UPDATE receipts SET gpu_milliseconds = gpu_milliseconds + 1 WHERE job_id = :job",
    "UPDATE events SET body = replace(body, '\"total\":', '\"sum\":') WHERE job_id = :job",
    "UPDATE holds SET captured_amount = captured_amount - 1 WHERE job_id = :job",
    "DELETE FROM receipts WHERE job_id = :job",
    "UPDATE transfers SET reason = 'another' WHERE job_id = :job",
    "UPDATE hold_slices SET used = used - 1 WHERE hold_id = (SELECT id FROM holds WHERE job_id = :job)",
)


def test_any_change_to_a_sealed_month_breaks_its_seal(books: list[str]) -> None:
    assert audit().sealed
    for statement in BENT:
        with Session(get_engine()) as session:
            session.execute(text("SET LOCAL session_replication_role = replica"))
            assert session.execute(text(statement), {"job": books[1]}).rowcount > 0, statement  # type: ignore[attr-defined]
            assert "sealed_month_is_unchanged" in {finding.rule for finding in audit_books(session)}, statement
            session.rollback()
    with Session(get_engine()) as session:
        assert audit_books(session) == []


@pytest.mark.timeout(120)
def test_nothing_is_sealed_while_a_row_disagrees_or_a_month_was_left_out(books: list[str]) -> None:
    with transaction() as session:
        month = now(session).strftime("%Y-%m")
    assert audit(since=month).sealed == []
    bend("UPDATE wallets SET posted = posted + 1")
    disagreeing = audit()
    assert disagreeing.findings
    assert disagreeing.sealed == []
    with pytest.raises(AppError, match="2026-05"):
        audit(since="May")


@pytest.mark.timeout(240)
def test_no_rule_reads_a_sealed_month_again(books: list[str]) -> None:
    assert audit().sealed
    with transaction() as fresh:
        # Money still moves about old films.
        refund(fresh, books[0], 50, reference="flicker", reason="flicker")
    assert rules(audit()) == set()
    # Rules would name each of these. Only the digest does, and `--trust-seals` reads nothing of it.
    bend("UPDATE transfers SET amount = amount + 1 WHERE job_id = :job AND kind = 'capture'", job=books[0])
    bend("UPDATE holds SET captured_amount = captured_amount - 1 WHERE job_id = :job", job=books[1])
    bend("UPDATE receipts SET total = total - 1 WHERE job_id = :job", job=books[2])
    assert rules(audit()) == {"sealed_month_is_unchanged"}
    trusting = audit(trust_seals=True)
    assert (trusting.findings, trusting.receipts) == ([], NEW_FILMS)
    assert {"wallet_posted_is_sum_of_transfers", "captured_hold_has_its_transfer", "receipt_equals_capture"} <= rules(
        audit(everything=True)
    )


@pytest.mark.timeout(240)
def test_a_changed_sum_over_sealed_months_is_noticed(books: list[str]) -> None:
    assert audit().sealed
    bend("UPDATE sealed_sums SET amount = amount + 1 WHERE kind = 'posted'")
    bend("UPDATE wallets SET posted = posted + 1")
    assert rules(audit(trust_seals=True)) == {"sealed_sums_are_unchanged", "lots_hold_what_is_posted"}
    assert "sealed_sum_is_that_of_its_rows" in rules(audit(everything=True))


def test_a_seal_cannot_be_deleted(books: list[str]) -> None:
    assert audit().sealed
    with pytest.raises(IntegrityError, match="sealed month"), transaction() as session:
        session.execute(text("DELETE FROM sealed_months"))
