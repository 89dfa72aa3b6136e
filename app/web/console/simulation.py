"""Simulation of a price book on past films: what it would have charged, and which accounts pay less or more."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.clock import now
from app.prices.find import book_by_id
from app.reports.display_names import display_names
from app.reports.simulation import simulate_stored
from app.web.auth import AdminDep, SessionDep
from app.web.formats import words
from app.web.language import gettext, title_text
from app.web.render import page
from pricing.simulation_result import AccountChange, Bucket, Simulation

router = APIRouter(include_in_schema=False)

SPANS = (7, 30, 90, 365)


@router.get("/admin/price-books/{book_id}/simulation")
def show_simulation(
    request: Request,
    session: SessionDep,
    visitor: AdminDep,
    book_id: str,
    days: Annotated[int, Query(ge=1, le=366)] = 30,
) -> Response:
    """Show the simulation of a book on the films settled in the last days."""
    stored, moment = book_by_id(session, book_id), now(session)
    since = moment - timedelta(days=days)
    simulation = simulate_stored(session, Actor.of(visitor.caller), book_id, since=since, until=moment)
    context: dict[str, Any] = {
        "book": {"id": stored.id, "title": title_text(stored.book.title)},
        "days": days,
        "spans": SPANS,
    }
    return page(
        request, "console/simulation.html", title=gettext("Simulation"), **context, **show_figures(session, simulation)
    )


def show_figures(session: Session, simulation: Simulation) -> dict[str, Any]:
    """Return a simulation as templates show it: amounts as text, accounts with their names."""
    names = display_names(session, [each.account for each in (*simulation.winners, *simulation.losers)])
    return {
        "currency": simulation.currency,
        "total": _bucket(gettext("All films"), simulation.whole),
        "margin_before": simulation.margin_before.text,
        "margin_after": simulation.margin_after.text,
        "cost": simulation.cost.text,
        "by": {
            gettext("Membership"): _buckets(simulation.by_membership, words),
            gettext("Model"): _buckets(simulation.by_model),
            gettext("Resolution"): _buckets(simulation.by_resolution),
        },
        "winners": [_account(each, names) for each in simulation.winners],
        "losers": [_account(each, names) for each in simulation.losers],
        "refused": [
            {"message": each.message, "jobs": each.jobs, "charged": each.charged.text} for each in simulation.refused
        ],
        "promotions": {name: amount.text for name, amount in simulation.promotions.items()},
        "over_budget": simulation.over_budget,
        "free_seconds_changed": simulation.free_seconds_changed,
    }


def _buckets(buckets: Mapping[str, Bucket], title: Callable[[str], str] = str) -> list[dict[str, Any]]:
    return [_bucket(title(name), bucket) for name, bucket in sorted(buckets.items())]


def _bucket(name: str, bucket: Bucket) -> dict[str, Any]:
    change = bucket.after - bucket.before
    percent = f"{100 * change.minor / bucket.before.minor:+.1f}".replace("-", "−") if bucket.before.minor else None
    return {
        "name": name,
        "jobs": bucket.jobs,
        "seconds": round(float(bucket.seconds), 1),
        "before": bucket.before.text,
        "after": bucket.after.text,
        "change": change.text,
        "percent": percent,
    }


def _account(each: AccountChange, names: dict[str, str]) -> dict[str, Any]:
    return {
        "id": each.account,
        "name": names.get(each.account, each.account),
        "jobs": each.jobs,
        "before": each.before.text,
        "after": each.after.text,
        "change": (each.after - each.before).text,
    }
