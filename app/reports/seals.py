"""Sealed months: rows that an audit agreed with are not computed again; a change to them is noticed."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.audit_finding import AuditFinding
from app.audit_sums import ALWAYS, AuditSum
from app.clock import now
from app.errors import AppError
from app.prices.audit import SUMS as PRICE_SUMS
from app.reports.tables import SealedMonth
from app.wallet.audit import SUMS as WALLET_SUMS

# A month is closed a day after its end: by then no transaction of that month is still open.
CLOSED_AFTER = timedelta(days=1)
SUMS: tuple[AuditSum, ...] = (*WALLET_SUMS, *PRICE_SUMS)

# What must never change about a day: its receipts, what they are computed from, their events, and the money and the
# allowances that moved. Columns are named one by one, so that a later migration that adds one breaks no seal. What was
# added since is part of the text only where it has a value: older rows have none, and their seals hold. A film that got
# its marks later counts as it was, where its file is exactly the recorded successor.
# What can name a person, the bodies of events and the reasons of transfers, is covered by a hash that is salted for its
# account. An erasure leaves this hash in the place of the value, and removes the salt.
_DAY = text("""
    SELECT count(*) FILTER (WHERE kind = 'receipt') AS receipts,
           encode(sha256(coalesce(string_agg(hash, ''::bytea ORDER BY kind, key COLLATE "C"), '')), 'hex') AS digest
    FROM (
        SELECT 'receipt' AS kind, r.job_id AS key, sha256(convert_to(json_build_array(
            r.job_id, r.number, r.account_id, r.project_id, r.outcome, r.currency, r.quoted, r.total, r.list_total,
            r.body, r.film_key, r.film_sha256, r.pricing_case, extract(epoch FROM r.priced_at), r.gpu_milliseconds,
            r.test, extract(epoch FROM r.settled_at),
            j.account_id, j.state, j.total, j.list_total, j.currency, j.quote_id, j.pricing,
            coalesce(m.old_film, j.film), j.test,
            extract(epoch FROM j.started_at), extract(epoch FROM j.start_by), extract(epoch FROM j.finished_at),
            e.id, e.type, coalesce(e.erased_hash, encode(sha256(convert_to(
                coalesce(a.salt, '') || e.id || e.body, 'UTF8')), 'hex')), h.amount, h.state, h.captured_amount
        )::text || coalesce(r.gpu_cost::text, ''), 'UTF8')) AS hash
        FROM receipts AS r
        LEFT JOIN jobs AS j ON j.id = r.job_id
        LEFT JOIN film_successors AS m ON m.film_id = j.id AND m.new_key = j.film_key
            AND m.old_film || jsonb_build_object('sha256', m.new_sha256, 'bytes', m.new_bytes) = j.film
        LEFT JOIN events AS e ON e.job_id = r.job_id
            AND e.type IN ('video.completed', 'video.failed', 'video.cancelled', 'video.expired')
        LEFT JOIN holds AS h ON h.job_id = r.job_id
        LEFT JOIN accounts AS a ON a.id = r.account_id
        WHERE r.settled_at >= :first AND r.settled_at < :end
        UNION ALL
        SELECT 'transfer', t.id, sha256(convert_to(json_build_array(
            t.id, t.account_id, t.debit, t.credit, t.amount, t.currency, t.kind, t.job_id, t.reference,
            CASE WHEN t.reason = '' OR t.reason ~ '^erased:[0-9a-f]{64}$' THEN t.reason ELSE 'erased:' || encode(
                sha256(convert_to(coalesce(a.salt, '') || t.id || t.reason, 'UTF8')), 'hex') END,
            extract(epoch FROM t.at)
        )::text, 'UTF8'))
        FROM transfers AS t LEFT JOIN accounts AS a ON a.id = t.account_id
        WHERE t.at >= :first AND t.at < :end
        UNION ALL
        SELECT 'hold', h.id, sha256(convert_to(json_build_array(
            h.id, h.job_id, h.account_id, h.project_id, h.key_id, h.month, h.amount, h.state, h.captured_amount,
            extract(epoch FROM h.created_at), extract(epoch FROM h.resolved_at),
            (SELECT json_agg(json_build_array(s.lot_id, s.amount, s.used) ORDER BY s.lot_id COLLATE "C")
             FROM hold_slices AS s WHERE s.hold_id = h.id)
        )::text, 'UTF8'))
        FROM holds AS h WHERE h.resolved_at >= :first AND h.resolved_at < :end
        UNION ALL
        SELECT 'reservation', quote_id, sha256(convert_to(json_build_array(
            quote_id, account_id, month, state, free, free_used, promotions, promotions_used,
            extract(epoch FROM created_at), extract(epoch FROM resolved_at)
        )::text, 'UTF8'))
        FROM reservations WHERE resolved_at >= :first AND resolved_at < :end
        UNION ALL
        -- Only receipts that are newer than these numbers have one, so the digests of older days stay.
        SELECT 'receipt_number', n.job_id, sha256(convert_to(json_build_array(
            n.job_id, n.account_id, n.test, n.number
        )::text, 'UTF8'))
        FROM receipts AS r JOIN receipt_numbers AS n ON n.job_id = r.job_id
        WHERE r.settled_at >= :first AND r.settled_at < :end
    ) AS rows
""")
_FIRST = text("""
    SELECT least((SELECT min(settled_at) FROM receipts), (SELECT min(at) FROM transfers),
                 (SELECT min(resolved_at) FROM holds), (SELECT min(resolved_at) FROM reservations))
""")
_SUMS_DIGEST = text("""
    SELECT encode(sha256(convert_to(coalesce(string_agg(kind || ' ' || subject || ' ' || amount, chr(10)
        ORDER BY kind, subject COLLATE "C"), ''), 'UTF8')), 'hex') FROM sealed_sums
""")


@dataclass(frozen=True)
class Month:
    """A calendar month in UTC: its name such as `2026-05`, its first moment, and that of the next one."""

    name: str
    first: datetime
    end: datetime

    @property
    def days(self) -> Iterator[datetime]:
        """The first moment of each day."""
        return (self.first + timedelta(days=number) for number in range((self.end - self.first).days))


@dataclass(frozen=True)
class DayDigest:
    """The first moment of a day, the number of its receipts, and one SHA-256 (hexadecimal) over its rows."""

    first: datetime
    receipts: int
    digest: str


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


def closed_months(session: Session) -> list[Month]:
    """Return the months that are over and not sealed yet, the oldest first."""
    since = unsealed_since(session)
    first = session.scalar(_FIRST)
    if first is None:
        return []
    month = month_of((first if since == ALWAYS else since).astimezone(UTC).strftime("%Y-%m"))
    months = []
    while month.end + CLOSED_AFTER <= now(session):
        months.append(month)
        month = month_of(month.end.strftime("%Y-%m"))
    return months


def day_digest(session: Session, day: datetime) -> DayDigest:
    """Return the digest of the rows of a day, which begins at `day`: one pass over them in SQL, nothing computed."""
    row = session.execute(_DAY, {"first": day, "end": day + timedelta(days=1)}).one()
    return DayDigest(day, row.receipts, row.digest)


def day_digests(session: Session, months: Iterable[Month]) -> dict[datetime, DayDigest]:
    """Return the digests of the days of these months, by the first moment of the day."""
    return {day: day_digest(session, day) for month in months for day in month.days}


def changed_months(session: Session, days: Mapping[datetime, DayDigest]) -> list[AuditFinding]:
    """Return the sealed months whose rows no longer have the content that was sealed. `days` has their digests."""
    findings, before = [], ""
    months = sealed_months(session)
    for sealed in months:
        count, digest = _month_digest(month_of(sealed.month), days, before)
        if (count, digest) != (sealed.receipts, sealed.digest):
            expected = f"{sealed.receipts} receipts with the digest {sealed.digest}"
            actual = f"{count} with {digest}"
            findings.append(AuditFinding.of_values("sealed_month_is_unchanged", sealed.month, expected, actual))
        before = sealed.digest
    # Rows that were dated back before the first seal would be in no month at all.
    first = session.scalar(_FIRST)
    if months and first is not None and first < month_of(months[0].month).first:
        findings.append(AuditFinding("sealed_month_is_unchanged", months[0].month, f"a row is of {first}, before it"))
    return findings


def changed_sums(session: Session) -> list[AuditFinding]:
    """Return a finding when the sums over sealed months are others than when the last one was sealed."""
    months = sealed_months(session)
    expected, actual = months[-1].sums_digest if months else None, session.scalar(_SUMS_DIGEST)
    if expected is None or expected == actual:
        return []
    return [AuditFinding.of_values("sealed_sums_are_unchanged", months[-1].month, expected, actual)]


def wrong_sums(session: Session) -> list[AuditFinding]:
    """Return the sums over sealed months that are not what their rows come to. It reads all these rows."""
    until = unsealed_since(session)
    if until == ALWAYS:
        return []
    return [
        AuditFinding.of_values("sealed_sum_is_that_of_its_rows", f"{each.kind} {subject}", expected, actual)
        for each in SUMS
        for subject, expected, actual in session.execute(
            text(f"""
                SELECT subject, coalesce(r.amount, 0), coalesce(s.amount, 0)
                FROM (SELECT * FROM sealed_sums WHERE kind = '{each.kind}') AS s
                FULL JOIN ({each.rows}) AS r USING (subject)
                WHERE coalesce(r.amount, 0) <> coalesce(s.amount, 0)"""),
            {"since": ALWAYS, "until": until},
        )
    ]


def seal_months(session: Session, months: Sequence[Month], days: Mapping[datetime, DayDigest]) -> list[str]:
    """Seal these closed months, and return their names. The caller has audited them; `days` has their digests."""
    if not months:
        return []
    since, sealed = unsealed_since(session), sealed_months(session)
    for each in SUMS:
        session.execute(
            text(f"""
                INSERT INTO sealed_sums AS s (kind, subject, amount)
                SELECT '{each.kind}', subject, amount FROM ({each.rows}) AS rows
                ON CONFLICT (kind, subject) DO UPDATE SET amount = s.amount + excluded.amount"""),
            {"since": since, "until": months[-1].end},
        )
    sums_digest = session.scalars(_SUMS_DIGEST).one()
    before = sealed[-1].digest if sealed else ""
    for month in months:
        count, digest = _month_digest(month, days, before)
        session.add(
            SealedMonth(
                month=month.name, receipts=count, digest=digest, sums_digest=sums_digest, sealed_at=now(session)
            )
        )
        before = digest
    session.flush()
    return [month.name for month in months]


def _month_digest(month: Month, days: Mapping[datetime, DayDigest], before: str) -> tuple[int, str]:
    """Return the number of a month's receipts, and a digest over its days and the digest of the month before."""
    digests = [days[day] for day in month.days]
    content = "".join([before, *(each.digest for each in digests)])
    return sum(each.receipts for each in digests), hashlib.sha256(content.encode()).hexdigest()
