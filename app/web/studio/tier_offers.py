"""The service tiers of the form: each with the price of this film and with its expected start."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy.orm import Session

from app.dispatch.tier_start import expected_starts
from app.jobs.plan import CLASS_OF_TIER, TEST_POOL
from app.jobs.priced import Priced
from app.web.auth import Visitor
from app.web.language import gettext, title_text
from app.web.studio.film_card import span
from pricing.price import price
from pricing.rules import ServiceTier

_STANDARD = 1


@dataclass(frozen=True)
class TierOffer:
    """A service tier as the form offers it: `total` is a decimal string, empty where the film has no price."""

    id: str
    title: str
    total: str
    start: str
    promise: str


def tier_offers(
    session: Session, visitor: Visitor, tiers: Iterable[ServiceTier], priced: Priced | None
) -> list[TierOffer]:
    """Return the offers of the book's service tiers for a film; `priced` is None while the form has no price."""
    tiers = list(tiers)
    totals, starts = dict.fromkeys([each.id for each in tiers], ""), dict.fromkeys([each.id for each in tiers], "")
    if priced is not None:
        classes = {each.id: CLASS_OF_TIER.get(each.id, _STANDARD) for each in tiers}
        pool = TEST_POOL if visitor.test else priced.model.pool
        seconds = expected_starts(
            session, pool=pool, account_id=visitor.caller.account_id, priorities=set(classes.values())
        )
        for each in tiers:
            usage = replace(priced.usage, service_tier=each.id)
            totals[each.id] = price(priced.book, usage, priced.customer, priced.at).total.text
            starts[each.id] = _start_text(seconds[classes[each.id]])
    return [
        TierOffer(each.id, title_text(each.title), totals[each.id], starts[each.id], _promise(each)) for each in tiers
    ]


def _start_text(seconds: int | None) -> str:
    if seconds is None:
        return gettext("waits for a worker")
    if seconds < 3:
        return gettext("starts now")
    return gettext("starts in about %(span)s", span=span(seconds, seconds))


def _promise(tier: ServiceTier) -> str:
    """Return what a service tier promises, as text; empty for the normal queue."""
    if tier.deadline is not None:
        hours = _hours(tier.deadline)
        return gettext("starts within %(hours)s hours, or expires free of charge", hours=hours)
    if tier.start_within is not None:
        minutes = int(tier.start_within.total_seconds() // 60)
        return gettext("starts within %(minutes)s minutes, or you pay the standard price", minutes=minutes)
    return ""


def _hours(length: timedelta) -> int:
    return int(length.total_seconds() // 3600)
