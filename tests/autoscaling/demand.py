"""A day of orders that come in bursts: nothing at night, a busy day, and some films of many shots at once."""

import math
from dataclasses import dataclass
from random import Random

DAY = 86_400.0
# Membership → its part of the accounts, and the segments that one of them may have running; as in the shipped book.
MEMBERSHIPS = {"free": (50, 2), "professional": (30, 6), "studio": (15, 12), "enterprise": (5, 32)}
TIERS = {0: 0.1, 1: 0.7, 2: 0.2}
# Orders from 7 to 23 o'clock, most at 15 o'clock.
MORNING, EVENING = 7 * 3600.0, 23 * 3600.0
# So many times a day an account orders a storyboard of many shots, or many films, within some minutes.
BURSTS, BURST_ORDERS = 12, 25
SHOTS = (1, 1, 1, 2, 3, 4, 6, 8, 12)
# A take's length varies by this standard deviation of its logarithm.
SPREAD = 0.25


@dataclass(frozen=True)
class Order:
    """An order: when it comes, of whom, its class, and how long each of its units takes."""

    at: float
    account: str
    priority: int
    units: tuple[float, ...]


@dataclass(frozen=True)
class Demand:
    """The orders of a day in order of time, the concurrency of each account, and the mean seconds of a unit."""

    orders: tuple[Order, ...]
    concurrency: dict[str, int]
    unit_seconds: float

    @property
    def work(self) -> float:
        """The seconds of one worker that all units take."""
        return sum(seconds for order in self.orders for seconds in order.units)


def make_day(*, seed: int, orders: int, unit_seconds: float, accounts: int = 200) -> Demand:
    """Return a seeded day with about so many orders outside bursts."""
    random = Random(seed)
    names = [name for name, (part, _) in MEMBERSHIPS.items() for _ in range(part)]
    concurrency = {f"account-{n}": MEMBERSHIPS[names[n * 37 % len(names)]][1] for n in range(accounts)}
    known = list(concurrency)

    def order(at: float, account: str) -> Order:
        priority = random.choices(list(TIERS), list(TIERS.values()))[0]
        lengths = tuple(
            unit_seconds * random.lognormvariate(-(SPREAD**2) / 2, SPREAD) for _ in range(random.choice(SHOTS))
        )
        return Order(at, account, priority, lengths)

    made = []
    for _ in range(orders):
        # By rejection from half a sine over the hours of the day.
        while True:
            at = random.uniform(MORNING, EVENING)
            if random.random() < math.sin(math.pi * (at - MORNING) / (EVENING - MORNING)):
                break
        made.append(order(at, random.choice(known)))
    large = [account for account, limit in concurrency.items() if limit >= 12]
    for _ in range(BURSTS):
        begin, account = random.uniform(0, DAY - 3600), random.choice(large)
        made += [order(begin + random.expovariate(1 / 60), account) for _ in range(BURST_ORDERS)]
    return Demand(tuple(sorted(made, key=lambda each: each.at)), concurrency, unit_seconds)
