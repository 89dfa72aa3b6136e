"""Sealed months: receipts that an audit agreed with are not computed again; a change to their rows is noticed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.audit_finding import AuditFinding
from app.clock import now
from app.errors import AppError
from app.jobs.tables import ReceiptRow
from app.reports.tables import SealedMonth

# A month is closed a day after its end: by then no transaction of that month is still open.
CLOSED_AFTER = timedelta(days=1)
# The beginning of time, for an audit that leaves nothing out.
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)

# What must never change about a month: its receipts, what they are computed from, their events, and what was charged.
# Columns are named one by one, so that a later migration that adds one breaks no seal.
_DIGEST = text("""
    SELECT count(*) AS receipts,
           encode(sha256(convert_to(:before, 'UTF8')
               || coalesce(string_agg(rows.hash, ''::bytea ORDER BY rows.number), '')), 'hex') AS digest
    FROM (
        SELECT r.number, sha256(convert_to(json_build_array(
            r.job_id, r.number, r.account_id, r.project_id, r.outcome, r.currency, r.quoted, r.total, r.list_total,
            r.body, r.film_key, r.film_sha256, r.pricing_case, extract(epoch FROM r.priced_at), r.gpu_milliseconds,
            r.test, extract(epoch FROM r.settled_at),
            j.account_id, j.state, j.total, j.list_total, j.currency, j.quote_id, j.pricing, j.film, j.test,
            extract(epoch FROM j.started_at), extract(epoch FROM j.start_by), extract(epoch FROM j.finished_at),
            e.id, e.type, e.body, h.amount, h.state, h.captured_amount
        )::text, 'UTF8')) AS hash
        FROM receipts AS r
        LEFT JOIN jobs AS j ON j.id = r.job_id
        LEFT JOIN events AS e ON e.job_id = r.job_id
            AND e.type IN ('video.completed', 'video.failed', 'video.cancelled', 'video.expired')
        LEFT JOIN holds AS h ON h.job_id = r.job_id
        WHERE r.settled_at >= :first AND r.settled_at < :end
    ) AS rows
""")


@dataclass(frozen=True)
class Month:
    """A calendar month in UTC: its name such as `2026-05`, its first moment, and that of the next one."""

    name: str
    first: datetime
    end: datetime


def month_of(name: str) -> Month:
    """Return the month with this name. Raises AppError `invalid_request` for another format than `2026-05`."""
    try:
        first = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise AppError("invalid_request", "A month is written as 2026-05.", value=name) from None
    end = (first + timedelta(days=32)).replace(day=1)
    return Month(first.strftime("%Y-%m"), first, end)


def sealed_months(session: Session) -> Sequence[SealedMonth]:
    """Return the sealed months, the oldest first."""
    return session.scalars(select(SealedMonth).order_by(SealedMonth.month)).all()


def unsealed_since(session: Session) -> datetime:
    """Return the moment at which the first month without a seal begins; ALWAYS when none is sealed."""
    months = sealed_months(session)
    return month_of(months[-1].month).end if months else ALWAYS


def changed_months(session: Session) -> list[AuditFinding]:
    """Return the sealed months whose rows no longer say what they said: one pass over them in SQL, nothing computed."""
    findings, before = [], ""
    for sealed in sealed_months(session):
        count, digest = _digest(session, month_of(sealed.month), before)
        if (count, digest) != (sealed.receipts, sealed.digest):
            expected = f"{sealed.receipts} receipts with the digest {sealed.digest}"
            actual = f"{count} with {digest}"
            findings.append(AuditFinding.of_values("sealed_month_is_unchanged", sealed.month, expected, actual))
        before = sealed.digest
    # Receipts that were dated back before the first seal would be in no month at all.
    first = session.scalar(select(func.min(ReceiptRow.settled_at)))
    months = sealed_months(session)
    if months and first is not None and first < month_of(months[0].month).first:
        findings.append(
            AuditFinding("sealed_month_is_unchanged", months[0].month, f"a receipt is of {first}, before it")
        )
    return findings


def seal_months(session: Session) -> list[str]:
    """Seal every closed month that is not sealed yet, and return their names. The caller has audited them."""
    months = sealed_months(session)
    before = months[-1].digest if months else ""
    names = []
    for month in _closed_months(session, unsealed_since(session)):
        count, digest = _digest(session, month, before)
        session.add(SealedMonth(month=month.name, receipts=count, digest=digest, sealed_at=now(session)))
        before = digest
        names.append(month.name)
    session.flush()
    return names


def _closed_months(session: Session, since: datetime) -> Iterator[Month]:
    first = session.scalar(select(func.min(ReceiptRow.settled_at)).where(ReceiptRow.settled_at >= since))
    if first is None:
        return
    start = first if since == ALWAYS else since
    month = month_of(start.astimezone(UTC).strftime("%Y-%m"))
    while month.end + CLOSED_AFTER <= now(session):
        yield month
        month = month_of(month.end.strftime("%Y-%m"))


def _digest(session: Session, month: Month, before: str) -> tuple[int, str]:
    row = session.execute(_DIGEST, {"first": month.first, "end": month.end, "before": before}).one()
    return row.receipts, row.digest
