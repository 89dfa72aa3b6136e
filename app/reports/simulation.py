"""Simulate a price book on the real jobs of a period: grouped in the database, priced once a group, exact."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.db import long_work
from app.errors import AppError
from app.prices.find import book_at, book_by_id, contracts_by_hash
from app.roles import ADMIN_ROLES, require_role
from app.settings import get_settings
from pricing.book import PriceBook
from pricing.contract import Contract
from pricing.simulate import PastJob, simulate
from pricing.simulation_result import Case, Simulation

# Jobs with the same inputs are priced alike unless a window opens or closes between them, so the period is cut at
# the edges of all windows, and one job of each piece represents all.
GROUPED = text(
    """
    SELECT pricing_case, account_id, width_bucket(priced_at, CAST(:edges AS timestamptz[])) AS piece,
           min(priced_at) AS at, count(*) AS jobs, sum(total) AS charged, sum(gpu_milliseconds) AS gpu_milliseconds,
           sum(coalesce(gpu_cost, gpu_milliseconds * CAST(:gpu_second_cost AS numeric) / 1000)) AS gpu_cost
    FROM receipts
    WHERE settled_at >= :since AND settled_at < :until AND NOT test AND currency = :currency
    GROUP BY pricing_case, account_id, piece
    """
)
ROWS_PER_FETCH = 10_000
# How long the statement that groups past jobs may run, and how long the computation between two fetches.
SIMULATION_SECONDS = 600


def simulate_book(session: Session, book: PriceBook, *, since: datetime, until: datetime) -> Simulation:
    """Return what a book would have charged for the live jobs settled in [since, until), beside what was charged.

    Jobs in another currency than the book's are left out. The margin counts every GPU-second of the jobs, of failed
    and lost takes too, at what it cost when its take ended: by the worker's pool and class of GPU; where that was not
    recorded yet, at settings.gpu_second_cost. What the book would not sell is reported as refused. Free seconds
    count as they were used then.

    Raises AppError `invalid_request` for a period that ends before it begins.
    """
    if until <= since:
        raise AppError("invalid_request", "The period ends after it begins.", field="until")
    contracts = contracts_by_hash(session)
    in_force = book_at(session, now(session)).book
    with long_work(session, statement_seconds=SIMULATION_SECONDS, idle_seconds=SIMULATION_SECONDS):
        rows = session.execute(
            GROUPED,
            {
                "since": since,
                "until": until,
                "currency": book.currency,
                "edges": edges(book, contracts),
                "gpu_second_cost": Decimal(get_settings().gpu_second_cost),
            },
            execution_options={"stream_results": True},
        )
        return simulate(
            book,
            _past(rows.yield_per(ROWS_PER_FETCH)),
            contracts=contracts,
            in_force=in_force,
        )


def simulate_stored(session: Session, actor: Actor, book_id: str, *, since: datetime, until: datetime) -> Simulation:
    """Simulate a stored book, and record the text, the period and the outcome in the audit log.

    Raises AppError `not_found`, `forbidden`, `invalid_request`.
    """
    require_role(actor, *ADMIN_ROLES)
    stored = book_by_id(session, book_id)
    simulation = simulate_book(session, stored.book, since=since, until=until)
    record_action(
        session,
        actor,
        "book.simulated",
        book_id,
        content_hash=simulation.book_hash,
        since=since.isoformat(),
        until=until.isoformat(),
        jobs=simulation.whole.jobs,
        before=simulation.whole.before.text,
        after=simulation.whole.after.text,
        margin_after=simulation.margin_after.text,
    )
    return simulation


def edges(book: PriceBook, contracts: Mapping[str, Contract]) -> list[datetime]:
    """Return the moments at which a promotion of the book or a contract begins or ends, in order."""
    windows = [each.window for each in book.promotions] + [each.window for each in contracts.values()]
    moments = {moment for window in windows for moment in (window.starts_at, window.ends_at) if moment is not None}
    return sorted(moments)


def _past(rows: Iterable[Row[Any]]) -> Iterator[PastJob]:
    # Thousands of accounts share a case, so each is read once.
    cases: dict[str, Case] = {}
    for row in rows:
        case = cases.get(row.pricing_case)
        if case is None:
            case = cases[row.pricing_case] = Case.from_json(row.pricing_case)
        yield PastJob(case, row.at, row.account_id, row.jobs, int(row.charged), int(row.gpu_milliseconds), row.gpu_cost)
