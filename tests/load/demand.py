"""What a busy day asks for: accounts of every membership, and a seeded, open-loop stream of their orders.

Open loop: orders come when they come, however slowly the service answers. Their rate swings around its mean as a day's
does, so that there are hours above what the GPUs can render; one account orders far more than its part.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from app.accounts.accounts import create_account, set_limits
from app.accounts.caller import Caller
from app.accounts.keys import issue_key
from app.accounts.memberships import grant_membership
from app.clock import now
from app.db import transaction
from app.prices.find import book_at
from app.prices.seed import seed_book
from app.wallet.balance import open_wallet
from app.wallet.funds import top_up

# Membership → how many of a hundred accounts have it.
MEMBERSHIPS = {"free": 50, "professional": 30, "studio": 15, "enterprise": 5}
# Service tier → its part of the orders.
TIERS = {"standard": 0.7, "flex": 0.2, "priority": 0.1}
SECONDS = (2, 4, 5, 5, 5, 8, 10)
# The first account orders this part of everything.
FLOOD_PART = 0.1
# It may run enough segments at once for its orders to end with the day.
FLOOD_MEMBERSHIP = "studio"
# The rate swings by so much around its mean, over so many seconds.
SWING, SWING_SECONDS = 0.4, 7_200.0
CANCEL_PART = 0.03
MONEY = 10**11
SCOPES = frozenset({"videos", "webhooks"})


@dataclass(frozen=True)
class Customer:
    """An account that orders: its caller, its key, and the weight of its share."""

    caller: Caller
    key: str
    weight: int

    @property
    def account_id(self) -> str:
        """The account's id."""
        return self.caller.account_id


@dataclass(frozen=True)
class Arrival:
    """An order: how many seconds after the beginning it comes, and after how many more it is cancelled, if ever."""

    at: float
    customer: int  # its number among the customers
    seconds: int
    tier: str
    cancelled_after: float | None

    def body(self) -> dict[str, object]:
        """Return the order as the API takes it."""
        return {
            "model": "synthetic",
            "prompt": "a busy day",
            "seconds": self.seconds,
            "resolution": "720P",
            "service_tier": self.tier,
        }


def open_customers(count: int) -> list[Customer]:
    """Open so many accounts with money and a key each, and the shipped price book if there is none."""
    names = [name for name, part in MEMBERSHIPS.items() for _ in range(part)]
    customers = []
    with transaction() as session:
        seed_book(session)
        book = book_at(session, now(session)).book
        for number in range(count):
            # Spread evenly: each part of the accounts has all memberships.
            membership = names[number * 37 % len(names)] if number else FLOOD_MEMBERSHIP
            account = create_account(session, f"Busy {number}")
            open_wallet(session, account.id)
            top_up(session, account.id, MONEY, kind="purchased", reference=f"busy {number}")
            if membership != "free":
                grant_membership(session, account.id, membership, starts_at=now(session) - timedelta(days=1))
            set_limits(session, account.id, concurrency=None, queue_limit=10_000_000)
            key = issue_key(session, account.id, scopes=SCOPES)[1]
            weight = int(book.membership(membership).share_weight)
            customers.append(Customer(Caller(account, SCOPES, frozenset()), key, weight))
    return customers


def arrivals(random: Random, customers: int, rate: float, *, swing_seconds: float = SWING_SECONDS) -> Iterator[Arrival]:
    """Yield orders without end, in order of time; `rate` is their mean number a second."""
    at = 0.0
    tiers, parts = list(TIERS), list(TIERS.values())
    while True:
        at += random.expovariate(rate * (1 + SWING * math.sin(2 * math.pi * at / swing_seconds)))
        is_flood = random.random() < FLOOD_PART
        customer = 0 if is_flood else random.randrange(customers)
        cancelled_after = random.expovariate(1 / 20) if random.random() < CANCEL_PART else None
        yield Arrival(at, customer, random.choice(SECONDS), random.choices(tiers, parts)[0], cancelled_after)
