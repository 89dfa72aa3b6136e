"""Simulate what a draft price book would have charged for past jobs.

Past jobs are grouped by what their price depends on, and `price` is called once per group: the result is exact by
construction, because it is the same function that charges, and a million jobs cost a few thousand calls.
Promotion budgets count as unspent for every job: `promotions` shows what each would have given, and `over_budget`
names those that would have run dry. Free seconds count as they were used: who had none left then has none now, and
`free_seconds_changed` names the memberships for which the book gives another number of them.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from pricing.book import PriceBook, PriceError
from pricing.contract import Contract
from pricing.exact import Exact, exact_number, parse_exact
from pricing.money import Money, round_to_minor
from pricing.price import Price, price
from pricing.simulation_result import AccountChange, Bucket, Case, RefusedJob, Simulation
from pricing.usage import Customer, Usage
from pricing.window import Epochs

# How many accounts that win, and that lose, are named.
NAMED_ACCOUNTS = 10


class PastJob(NamedTuple):
    """Past jobs of one account that share a case and a moment of pricing, at least one.

    `charged` is the sum of their charges in minor units of the book's currency, and `gpu_milliseconds` the GPU time
    of all their takes, failed ones included; `gpu_cost` is what that time cost, in whole currency units, where it is
    known, else None.
    """

    case: Case
    at: datetime
    account: str
    jobs: int
    charged: int
    gpu_milliseconds: int
    gpu_cost: Decimal | None = None


class _Group:
    """Past jobs that the book gives one and the same price, each; `each` is None where the book would not sell."""

    __slots__ = (
        *("case", "charged", "each", "gpu_cost", "gpu_milliseconds", "jobs", "minor", "refusal", "uncosted", "usage"),
    )

    def __init__(self, book: PriceBook, case: Case, at: datetime, contracts: Mapping[str, Contract]) -> None:
        self.case = case
        self.usage, customer = _inputs(book, case, contracts)
        self.each: Price | None = None
        self.refusal = ""
        try:
            self.each = price(book, self.usage, customer, at, tier_kept=case.tier_kept)
        except PriceError as error:
            self.refusal = error.message
        self.minor = self.each.total.minor if self.each else 0
        self.jobs = self.charged = self.gpu_milliseconds = self.uncosted = 0
        self.gpu_cost = Decimal(0)


def simulate(
    book: PriceBook,
    past: Iterable[PastJob],
    *,
    contracts: Mapping[str, Contract] | None = None,
    cost_per_gpu_second: Exact = 0,
    in_force: PriceBook | None = None,
) -> Simulation:
    """Price past jobs by `book` and compare the sums with the charges.

    `past` is read once, as a stream. `contracts` gives the contract of each key that a case names;
    `cost_per_gpu_second` is in whole currency units, for past jobs without a cost of their own; `in_force` is the book
    whose free seconds were used.
    Raises TypeError for a float among the numbers, KeyError for a contract that is missing.
    """
    groups, accounts = _grouped(book, past, contracts or {})
    sums = _Sums(book.currency, groups)
    limits = {promotion.id: promotion.budget for promotion in book.promotions if promotion.budget is not None}
    discounts = {name: Money(minor, book.currency) for name, minor in sorted(sums.promotions.items())}
    gpu_seconds = Fraction(sums.gpu_milliseconds, 1000)
    ranked = sorted(accounts, key=lambda item: (item.after.minor - item.before.minor, item.account))
    return Simulation(
        book_name=book.name,
        book_hash=book.content_hash,
        currency=book.currency,
        whole=sums.whole,
        by_membership=sums.by_membership,
        by_model=sums.by_model,
        by_resolution=sums.by_resolution,
        winners=tuple(item for item in ranked if item.after < item.before)[:NAMED_ACCOUNTS],
        losers=tuple(item for item in reversed(ranked) if item.after > item.before)[:NAMED_ACCOUNTS],
        refused=tuple(sums.refused),
        promotions=discounts,
        over_budget=tuple(name for name, amount in discounts.items() if name in limits and amount > limits[name]),
        free_seconds_changed=_free_seconds_changed(book, in_force) if in_force else (),
        gpu_seconds=gpu_seconds,
        cost=round_to_minor(
            Fraction(sums.uncosted, 1000) * parse_exact(cost_per_gpu_second, "cost_per_gpu_second")
            + parse_exact(sums.gpu_cost, "gpu_cost"),
            book.currency,
        ),
        groups=len(groups),
    )


def _grouped(
    book: PriceBook, past: Iterable[PastJob], contracts: Mapping[str, Contract]
) -> tuple[list[_Group], list[AccountChange]]:
    """Fold past jobs into groups of one price and into accounts. The loop sees every row, so it only adds."""
    epochs = Epochs([*(item.window for item in book.promotions), *(item.window for item in contracts.values())])
    groups: dict[tuple[Case, datetime], _Group] = {}
    accounts: dict[str, list[int]] = {}
    for case, at, account, jobs, charged, gpu_milliseconds, gpu_cost in past:
        key = (case, epochs.of(at))
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(book, case, key[1], contracts)
        group.jobs += jobs
        group.charged += charged
        group.gpu_milliseconds += gpu_milliseconds
        if gpu_cost is None:
            group.uncosted += gpu_milliseconds
        else:
            group.gpu_cost += gpu_cost
        if group.each is not None:
            sums = accounts.get(account)
            if sums is None:
                sums = accounts[account] = [0, 0, 0]
            sums[0] += jobs
            sums[1] += charged
            sums[2] += group.minor * jobs
    for group in groups.values():
        # A float anywhere in a column makes its sum a float, so one look at the sums finds it.
        for name in ("jobs", "charged", "gpu_milliseconds"):
            if type(getattr(group, name)) is not int:
                raise TypeError(f"{name} counts in whole units (int), not {type(getattr(group, name)).__name__}")
    changes = [
        AccountChange(account, jobs, Money(before, book.currency), Money(after, book.currency))
        for account, (jobs, before, after) in accounts.items()
    ]
    return list(groups.values()), changes


class _Sums:
    """The groups of a simulation, added up in every way that is reported."""

    def __init__(self, currency: str, groups: Iterable[_Group]) -> None:
        self.whole = Bucket(currency)
        self.by_membership: dict[str, Bucket] = {}
        self.by_model: dict[str, Bucket] = {}
        self.by_resolution: dict[str, Bucket] = {}
        self.promotions: dict[str, int] = {}
        self.gpu_milliseconds = self.uncosted = 0
        self.gpu_cost = Decimal(0)
        self.refused: list[RefusedJob] = []
        for group in groups:
            if group.each is None:
                self.refused.append(RefusedJob(group.case, group.refusal, group.jobs, Money(group.charged, currency)))
            else:
                self._add(group, group.each)

    def _add(self, group: _Group, each: Price) -> None:
        case, currency = group.case, self.whole.currency
        places = (
            self.whole,
            self.by_membership.setdefault(case.membership, Bucket(currency)),
            self.by_model.setdefault(case.key.model, Bucket(currency)),
            self.by_resolution.setdefault(case.key.resolution, Bucket(currency)),
        )
        for bucket in places:
            bucket.jobs += group.jobs
            bucket.seconds += group.usage.seconds * group.jobs
            bucket.before += Money(group.charged, currency)
            bucket.after += Money(group.minor * group.jobs, currency)
        for name, minor in each.promotions.items():
            self.promotions[name] = self.promotions.get(name, 0) + minor * group.jobs
        self.gpu_milliseconds += group.gpu_milliseconds
        self.uncosted += group.uncosted
        self.gpu_cost += group.gpu_cost


def _free_seconds_changed(book: PriceBook, in_force: PriceBook) -> tuple[str, ...]:
    def free(each: PriceBook, name: str) -> int:
        return each.membership(each.known_membership(name)).free_seconds_per_month

    return tuple(sorted(name for name in in_force.memberships if free(book, name) != free(in_force, name)))


def _inputs(book: PriceBook, case: Case, contracts: Mapping[str, Contract]) -> tuple[Usage, Customer]:
    usage = Usage(case.key, exact_number(case.seconds), exact_number(case.input_seconds), case.service_tier)
    contract = contracts[case.contract] if case.contract else None
    # As at an order: whose membership the book no longer has is charged like an account without one.
    return usage, Customer(book.known_membership(case.membership), contract, exact_number(case.free_seconds))
