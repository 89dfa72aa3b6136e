"""Statements: one account's month, of all its projects or of one, by the moment of settlement."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.billing_periods import month_window
from app.accounts.tables import Project
from app.clock import now
from app.errors import AppError, not_found
from app.prices.find import book_at
from app.reports.translations import Language, decimals
from app.wallet.transfer import wallet_side
from pricing.book import PriceBook
from pricing.exact import exact_number
from pricing.money import Money
from pricing.simulation_result import Case

PERIOD = """
    r.account_id = :account_id AND NOT r.test AND r.settled_at >= :since AND r.settled_at < :until
    AND (CAST(:project_id AS text) IS NULL OR r.project_id = :project_id)
"""
GROUPED = text(
    f"""
    SELECT r.project_id, r.pricing_case, count(*) AS videos, sum(r.list_total) AS list_total, sum(r.total) AS total,
           sum(r.gpu_milliseconds) AS gpu_milliseconds, min(coalesce(n.number, r.number)) AS first,
           max(coalesce(n.number, r.number)) AS last
    FROM receipts r LEFT JOIN receipt_numbers n ON n.job_id = r.job_id
    WHERE {PERIOD} GROUP BY r.project_id, r.pricing_case
    """
)
WAITS = text(
    f"""
    SELECT j.spec ->> 'service_tier' AS tier, count(*) AS started,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM j.started_at - j.created_at)) AS p50,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM j.started_at - j.created_at)) AS p95
    FROM receipts r JOIN jobs j ON j.id = r.job_id WHERE {PERIOD} AND j.started_at IS NOT NULL
    GROUP BY tier ORDER BY tier
    """
)
MOVED = text(
    """
    SELECT kind, count(*) AS transfers, sum(CASE WHEN credit = :wallet THEN amount ELSE -amount END) AS amount
    FROM transfers WHERE account_id = :account_id AND at >= :since AND at < :until GROUP BY kind ORDER BY kind
    """
)
OPENING = text(
    """
    SELECT coalesce(sum(CASE WHEN credit = :wallet THEN amount ELSE -amount END), 0)
    FROM transfers WHERE account_id = :account_id AND at < :since
    """
)


@dataclass
class Position:
    """One line of a statement: videos of a project that share model, resolution and service tier."""

    project: str
    model: str
    resolution: str
    tier: str
    videos: int = 0
    seconds: Fraction = field(default_factory=Fraction)
    gpu_milliseconds: int = 0
    list_total: int = 0
    total: int = 0


@dataclass(frozen=True)
class WaitTimes:
    """How long videos of a service tier waited for their start, in seconds: the median and the 95th percentile."""

    tier: str
    started: int
    median: Decimal
    p95: Decimal


@dataclass(frozen=True)
class Movement:
    """What one kind of transfer moved in the month, in minor units."""

    kind: str
    transfers: int
    amount: int


@dataclass(frozen=True)
class Statement:
    """An account's month. `opening`, `closing` and `moved` are the wallet's, so a project's statement has none."""

    account_id: str
    account: str
    currency: str
    zone: str
    month: str
    project_id: str | None
    project: str | None
    since: datetime
    until: datetime
    positions: tuple[Position, ...]
    numbers: tuple[int, int] | None  # the first and the last of its receipts
    waits: tuple[WaitTimes, ...]
    opening: int | None
    moved: tuple[Movement, ...]
    book: PriceBook | None  # the last one in force in the month; it has the names of memberships and tiers

    def tier(self, name: str, language: Language) -> str:
        """Return a service tier as customers read it."""
        tier = None if self.book is None else self.book.service_tiers.get(name)
        return name if tier is None else str(getattr(tier.title, language))

    def membership(self, name: str, language: Language) -> str:
        """Return a membership as customers read it."""
        membership = None if self.book is None else self.book.memberships.get(name)
        return name if membership is None else str(getattr(membership.title, language))

    @property
    def whole(self) -> Position:
        """All lines added up."""
        sums = Position("", "", "", "")
        for each in self.positions:
            sums.videos += each.videos
            sums.seconds += each.seconds
            sums.gpu_milliseconds += each.gpu_milliseconds
            sums.list_total += each.list_total
            sums.total += each.total
        return sums

    @property
    def closing(self) -> int | None:
        """What the wallet had at the end."""
        return None if self.opening is None else self.opening + sum(each.amount for each in self.moved)

    def content(self) -> dict[str, Any]:
        """Return the statement as plain values; money as decimal strings, seconds as decimals."""

        def money(minor: int | None) -> str | None:
            return None if minor is None else Money(minor, self.currency).text

        def position(each: Position) -> dict[str, Any]:
            return {
                "videos": each.videos,
                "seconds": decimals(each.seconds),
                "gpu_seconds": decimals(Fraction(each.gpu_milliseconds, 1000)),
                "list_total": money(each.list_total),
                "total": money(each.total),
            }

        named = ("project", "model", "resolution", "tier")
        return {
            "object": "statement",
            "account": self.account_id,
            "month": self.month,
            "currency": self.currency,
            "project": self.project_id,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "lines": [{name: getattr(each, name) for name in named} | position(each) for each in self.positions],
            **position(self.whole),
            "receipts": None if self.numbers is None else dict(zip(("first", "last"), self.numbers, strict=True)),
            "waits": [
                {"tier": each.tier, "started": each.started, "median": str(each.median), "p95": str(each.p95)}
                for each in self.waits
            ],
            "opening": money(self.opening),
            "transfers": [
                {"kind": each.kind, "count": each.transfers, "amount": money(each.amount)} for each in self.moved
            ],
            "closing": money(self.closing),
        }


def make_statement(session: Session, account_id: str, month: str, project_id: str | None = None) -> Statement:
    """Return the statement of a billing month such as `2026-05`, of all projects or of one, archived ones too.

    Raises AppError `not_found`, for another account's project too; `invalid_request` for a text that is not a month.
    """
    account = get_account(session, account_id)
    since, until = month_window(account.billing_zone, month)
    names = project_names(session, account_id)
    if project_id is not None and project_id not in names:
        raise not_found("project", project_id)
    facts = {"account_id": account_id, "since": since, "until": until, "project_id": project_id}
    wallet = facts | {"wallet": wallet_side(account_id)}
    groups = session.execute(GROUPED, facts).all()
    waits = [
        WaitTimes(row.tier, row.started, tenths(row.p50), tenths(row.p95)) for row in session.execute(WAITS, facts)
    ]
    moved = [] if project_id else [Movement(*row) for row in session.execute(MOVED, wallet)]
    return Statement(
        account_id=account_id,
        account=account.name,
        currency=account.currency,
        zone=account.billing_zone,
        month=month,
        project_id=project_id,
        project=names.get(project_id or ""),
        since=since,
        until=until,
        positions=tuple(_positions(groups, names)),
        numbers=(min(each.first for each in groups), max(each.last for each in groups)) if groups else None,
        waits=tuple(waits),
        opening=None if project_id else int(session.execute(OPENING, wallet).scalar_one()),
        moved=tuple(Movement(each.kind, each.transfers, int(each.amount)) for each in moved),
        book=_book(session, min(until, now(session))),
    )


def _book(session: Session, at: datetime) -> PriceBook | None:
    """Return the book in force at a moment; None before the first one."""
    try:
        return book_at(session, at).book
    except AppError:
        return None


def project_names(session: Session, account_id: str) -> dict[str, str]:
    """Return the names of an account's projects by id, archived ones too."""
    return {each.id: each.name for each in session.query(Project).filter_by(account_id=account_id)}


def _positions(rows: Any, names: dict[str, str]) -> list[Position]:
    positions: dict[tuple[str, ...], Position] = {}
    for row in rows:
        case = Case.from_json(row.pricing_case)
        key = (names.get(row.project_id or "", ""), case.key.model, case.key.resolution, case.service_tier)
        line = positions.setdefault(key, Position(*key))
        line.videos += row.videos
        line.seconds += exact_number(case.seconds) * row.videos
        line.gpu_milliseconds += int(row.gpu_milliseconds)
        line.list_total += int(row.list_total)
        line.total += int(row.total)
    return [positions[key] for key in sorted(positions)]


def tenths(seconds: Any) -> Decimal:
    """Return a number of seconds with one digit after the point."""
    return Decimal(str(seconds)).quantize(Decimal("0.1"))
