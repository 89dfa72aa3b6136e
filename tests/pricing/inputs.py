"""Inputs of the pricing tests: the default book, small books, and Hypothesis strategies for whole books."""

from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from hypothesis import strategies as st

from pricing.book import PriceBook, parse_book
from pricing.books import read_shipped
from pricing.contract import Contract
from pricing.exact import exact_text
from pricing.rate_key import MODES, READING_MODES, RateKey
from pricing.usage import Customer, Usage

DEFAULT_TEXT = read_shipped()
DEFAULT = parse_book(DEFAULT_TEXT)
AT = datetime.fromisoformat("2026-06-01T12:00:00+08:00")


def title(name):
    return {"en": name, "zh": name}


def membership(name, factor="1", **limits):
    values = {
        "id": name,
        "title": title(name),
        "factor": factor,
        "share_weight": 1,
        "concurrency": 1,
        "queue_limit": 10,
        "retention_days": 7,
        "free_seconds_per_month": 0,
        "requests_per_minute": 60,
        "jobs_per_minute": 6,
    }
    return values | limits


def promotion(name, factor, priority=10, **rest):
    return {"id": name, "title": title(name), "factor": factor, "priority": priority, **rest}


def tier(name, factor, **rest):
    return {"id": name, "title": title(name), "factor": factor, **rest}


def book_content(**changes):
    values = {
        "format": 1,
        "name": "test",
        "title": title("test"),
        "currency": "CNY",
        "tax_rate": "0.06",
        "rates": [{"id": "all", "per_second": "0.90", "input_per_second": "0.30"}],
        "memberships": [membership("free"), membership("professional", "0.65")],
        "promotions": [],
        "service_tiers": [
            tier("standard", "1"),
            tier("flex", "0.5", deadline_hours=24),
            tier("priority", "1.5", start_within_minutes=10),
        ],
        "examples": [
            {
                "name": "one",
                "at": AT.isoformat(),
                "membership": "free",
                "resolution": "720P",
                "seconds": 1,
                "total": "0.90",
            }
        ],
    }
    return values | changes


def book(**changes):
    return PriceBook.from_content(book_content(**changes))


def contract(per_second="0.50", **changes):
    values = {
        "format": 1,
        "name": "acme",
        "title": title("Acme"),
        "currency": "CNY",
        "rates": [{"id": "agreed", "per_second": per_second, "input_per_second": "0.10"}],
    }
    return Contract.from_content(values | changes)


def usage(seconds=5, resolution="720P", mode="t2v", audio=False, model="demo", **rest):
    return Usage(RateKey(model, resolution, mode, audio), seconds, **rest)


# --- strategies ---------------------------------------------------------------------------------------------------

seconds = st.one_of(
    st.integers(0, 120).map(Fraction),
    st.builds(Fraction, st.integers(0, 3000), st.sampled_from([16, 24, 25, 30, Fraction(30000, 1001)])),
)
factors = st.integers(0, 10_000).map(lambda n: exact_text(Decimal(n) / 10_000))
amounts = st.integers(0, 500_000).map(lambda n: exact_text(Decimal(n) / 100_000))
caps = st.integers(0, 2000).map(lambda n: exact_text(Decimal(n) / 100))


@st.composite
def promotions(draw, count):
    entries = []
    for index in range(count):
        values = promotion(f"promo-{index}", draw(factors), draw(st.integers(0, 5)))
        values |= draw(st.sampled_from([{}, {"memberships": ["member"]}, {"service_tiers": ["priority", "flex"]}]))
        for key in ("cap_per_account", "budget"):
            if draw(st.booleans()):
                values[key] = draw(caps)
        entries.append(values)
    return entries


@st.composite
def books(draw):
    rates = [{"id": "all", "per_second": draw(amounts), "input_per_second": draw(amounts)}]
    if draw(st.booleans()):
        rates.append({"id": "demo", "model": "demo", "per_second": draw(amounts), "input_per_second": draw(amounts)})
    return book(
        rates=rates,
        memberships=[membership("free", draw(factors)), membership("member", draw(factors))],
        promotions=draw(promotions(draw(st.integers(0, 3)))),
        service_tiers=[
            tier("standard", "1"),
            tier("flex", draw(factors)),
            tier("priority", exact_text(1 + Decimal(draw(factors))), start_within_minutes=10),
        ],
    )


@st.composite
def usages(draw):
    mode = draw(st.sampled_from(MODES))
    return usage(
        draw(seconds),
        mode=mode,
        audio=draw(st.booleans()),
        resolution=draw(st.sampled_from(["480P", "720P", "1080P"])),
        service_tier=draw(st.sampled_from(["standard", "flex", "priority"])),
        input_seconds=draw(seconds) if mode in READING_MODES else 0,
    )


@st.composite
def contracts(draw):
    return contract(
        draw(amounts),
        membership_applies=draw(st.booleans()),
        promotions_apply=draw(st.booleans()),
    )


@st.composite
def customers(draw):
    left = st.dictionaries(
        st.sampled_from(["promo-0", "promo-1", "promo-2"]), st.one_of(st.none(), st.integers(0, 2000)), max_size=3
    )
    return Customer(
        membership=draw(st.sampled_from(["free", "member"])),
        contract=draw(st.one_of(st.none(), contracts())),
        free_seconds=draw(seconds),
        promotions_left=draw(st.one_of(st.none(), left)),
    )
