"""The audit of a large service: in parallel processes that see one moment, and without the months that are sealed."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import get_context

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.audit_finding import AuditFinding
from app.db import allow_long, get_engine, transaction
from app.jobs.tables import ReceiptRow
from app.reports.audit import audit_rules, replay_receipts
from app.reports.seals import ALWAYS, changed_months, month_of, seal_months, unsealed_since

# Receipts that one process computes again before it gets the next ones.
PART = 5_000
# Only one audit seals at a time; the others leave it to that one.
_TURN = text("SELECT pg_try_advisory_xact_lock(hashtextextended('cinemeter.audit', 0))")


@dataclass(frozen=True)
class AuditReport:
    """What an audit read, what it found, and which months it sealed."""

    findings: list[AuditFinding]
    since: datetime
    receipts: int
    sealed: list[str]


@dataclass(frozen=True)
class _Part:
    """The receipts with the numbers `first` to `last`, settled since a moment, as a snapshot shows them."""

    snapshot: str
    first: int
    last: int
    since: datetime


def audit_in_parallel(*, processes: int, since: str | None = None, everything: bool = False) -> AuditReport:
    """Audit the books and return what was found. All reads see one moment; beside live traffic nothing waits for them.

    Sealed months are compared with their digests and not computed again, unless `everything` is set. `since` is the
    first month to compute, such as `2026-05`. When everything agrees and no month was left out, closed months are
    sealed. Raises AppError `invalid_request` for something else than a month.
    """
    with _snapshot() as session:
        snapshot = str(session.scalar(text("SELECT pg_export_snapshot()")))
        start = month_of(since).first if since else unsealed_since(session)
        start = ALWAYS if everything else start
        parts = list(_parts(session, snapshot, start))
        with _processes(min(processes, len(parts))) as compute:
            replays = compute(_replay, parts)
            findings = [*audit_rules(session, start), *changed_months(session)]
            results = list(replays)
        findings += [finding for _, found in results for finding in found]
        sealed: list[str] = []
        if not findings and start <= unsealed_since(session) and session.scalar(_TURN):
            sealed = seal_months(session)
        return AuditReport(findings, start, sum(count for count, _ in results), sealed)


@contextmanager
def _snapshot(name: str | None = None) -> Iterator[Session]:
    """Open a transaction without time-outs that sees one moment: now, or that of an exported snapshot."""
    with transaction(get_engine().execution_options(isolation_level="REPEATABLE READ")) as session:
        if name is not None:
            # Before the first query; names are of our own server.
            session.execute(text(f"SET TRANSACTION SNAPSHOT '{name}'"))
        allow_long(session)
        yield session


@contextmanager
def _processes(count: int) -> Iterator[Callable[..., Iterable[tuple[int, list[AuditFinding]]]]]:
    """Yield a `map` that works in so many processes, and in this one when there would be only one."""
    if count <= 1:
        yield map
        return
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        yield pool.map


def _parts(session: Session, snapshot: str, since: datetime) -> Iterator[_Part]:
    numbers = select(func.min(ReceiptRow.number), func.max(ReceiptRow.number)).where(ReceiptRow.settled_at >= since)
    first, last = session.execute(numbers).one()
    for number in range(first or 0, (last or -1) + 1, PART):
        yield _Part(snapshot, number, number + PART - 1, since)


def _replay(part: _Part) -> tuple[int, list[AuditFinding]]:
    """Compute the receipts of a part again, in a process of its own. Returns how many, and what differs."""
    mine = (ReceiptRow.number.between(part.first, part.last), ReceiptRow.settled_at >= part.since)
    with _snapshot(part.snapshot) as session:
        count = session.scalar(select(func.count()).select_from(ReceiptRow).where(*mine)) or 0
        return count, replay_receipts(session, *mine)
