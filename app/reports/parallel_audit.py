"""The audit of a large service: in parallel processes that see one moment, and without the months that are sealed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import get_context

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.audit_finding import AuditFinding
from app.audit_sums import ALWAYS
from app.db import allow_long, get_engine, transaction
from app.jobs.tables import ReceiptRow
from app.reports.audit import audit_rules
from app.reports.replay import replay_receipts
from app.reports.seals import (
    DayDigest,
    changed_months,
    closed_months,
    day_digest,
    month_of,
    seal_months,
    sealed_months,
    unsealed_since,
)

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
    """The receipts with the positions `first` to `last`, settled since a moment."""

    first: int
    last: int
    since: datetime


@dataclass(frozen=True)
class _Task:
    """A part to compute again, or the first moment of a day to digest, as a snapshot shows it."""

    snapshot: str
    work: _Part | datetime


@dataclass(frozen=True)
class _Result:
    """How many receipts of a part were computed and what differs, or the digest of a day."""

    receipts: int
    findings: list[AuditFinding]
    day: DayDigest | None = None


def audit_in_parallel(
    *, processes: int, since: str | None = None, everything: bool = False, trust_seals: bool = False
) -> AuditReport:
    """Audit the books and return what was found. All reads see one moment; beside live traffic nothing waits for them.

    Sealed months are compared with their digests and not computed again, unless `everything` is set; with `trust_seals`
    they are not read at all. `since` is the first month to compute, such as `2026-05`. When everything agrees and no
    month was left out, closed months are sealed. Raises AppError `invalid_request` for something else than a month.
    """
    with _snapshot() as session:
        snapshot = str(session.scalar(text("SELECT pg_export_snapshot()")))
        unsealed = unsealed_since(session)
        start = ALWAYS if everything else month_of(since).first if since else unsealed
        closing = closed_months(session) if start <= unsealed else []
        sealed = [] if trust_seals else list(sealed_months(session))
        days = [day for month in (*(month_of(each.month) for each in sealed), *closing) for day in month.days]
        count, parts = _parts(session, start)
        tasks = [_Task(snapshot, part) for part in parts] + [_Task(snapshot, day) for day in days]
        # Another process takes longer to start than a part takes to compute.
        is_small = count + sum(each.receipts for each in sealed) <= PART
        with _processes(1 if is_small else processes) as compute:
            results = compute(_work, tasks)
            findings = audit_rules(session, start)
            done = list(results)
        digests = {result.day.first: result.day for result in done if result.day is not None}
        findings += [finding for result in done for finding in result.findings]
        if not trust_seals:
            findings += changed_months(session, digests)
        names: list[str] = []
        if not findings and closing and session.scalar(_TURN):
            names = seal_months(session, closing, digests)
        return AuditReport(findings, start, sum(result.receipts for result in done), names)


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
def _processes(count: int) -> Iterator[Callable[[Callable[[_Task], _Result], Sequence[_Task]], Iterable[_Result]]]:
    """Yield a `map` that works in so many processes, and in this one when there would be only one."""
    if count <= 1:
        yield map
        return
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        yield pool.map


def _parts(session: Session, since: datetime) -> tuple[int, list[_Part]]:
    """Return how many receipts were settled since a moment, and the parts that they lie in."""
    # The count keeps the planner from walking through the numbers of sealed months to the first later one.
    columns = (func.count(), func.min(ReceiptRow.position), func.max(ReceiptRow.position))
    count, first, last = session.execute(select(*columns).where(ReceiptRow.settled_at >= since)).one()
    numbers = range(first or 0, (last or -1) + 1, PART)
    return count, [_Part(number, number + PART - 1, since) for number in numbers]


def _work(task: _Task) -> _Result:
    """Do one task in a process of its own."""
    with _snapshot(task.snapshot) as session:
        if isinstance(task.work, datetime):
            return _Result(0, [], day_digest(session, task.work))
        part = task.work
        mine = (ReceiptRow.position.between(part.first, part.last), ReceiptRow.settled_at >= part.since)
        return _Result(*replay_receipts(session, *mine))
