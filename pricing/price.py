"""The price of one film: an exact running product, rounded once, explained line by line.

    total = rate(key) x seconds x membership x promotions x service tier

`price` is a pure function of its arguments. Each line is the difference that one rule makes to the running amount;
the lines are then split by largest remainder, so that they sum to the total that was rounded once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from pricing.book import PriceBook, PriceError
from pricing.contract import Contract
from pricing.exact import exact_text, fraction_of
from pricing.labels import label_text
from pricing.money import Money, minor_per_major, only_money, round_to_minor, split
from pricing.rate import Rate
from pricing.rules import Membership, Promotion, ServiceTier
from pricing.usage import Customer, Usage
from pricing.window import Epochs, Title, moment


@dataclass(frozen=True)
class Line:
    """One line of a price: the difference that one rule makes.

    `words` renders `key` and `facts` in a language, `label` in English. `rule` names the rule in the book
    (`rate:list-720p`, `promotion:launch-2026`), `exact` is the amount before the split, in whole currency units.
    """

    key: str
    rule: str
    amount: Money
    exact: Fraction
    facts: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """The line in English."""
        return self.words("en")

    def words(self, language: str) -> str:
        """Return the line in `en` or `zh`."""
        return label_text(self.key, self.facts, language)

    def content(self) -> dict[str, Any]:
        """Return the line as plain values. No sentence is among them: it is made from key and facts when shown."""
        exact, amount = exact_text(self.exact), self.amount.text
        return {"key": self.key, "rule": self.rule, "amount": amount, "exact": exact, "facts": dict(self.facts)}


@dataclass(frozen=True)
class Price:
    """A price and its lines, which sum to `total`.

    `list_total` is the list price alone, settled. `free_seconds_used` is what the free line used up. `promotions`
    says, per promotion id, how many minor units of discount it gave. `tax_included` is the tax inside `total`.
    """

    currency: str
    list_total: Money
    lines: tuple[Line, ...]
    total: Money
    tax_included: Money
    free_seconds_used: Fraction
    promotions: Mapping[str, int] = field(hash=False)

    def content(self) -> dict[str, Any]:
        """Return the price as plain values; amounts are decimal strings, promotions minor units."""
        return {
            "currency": self.currency,
            "list_total": self.list_total.text,
            "lines": [line.content() for line in self.lines],
            "total": self.total.text,
            "tax_included": self.tax_included.text,
            "free_seconds_used": exact_text(self.free_seconds_used),
            "promotions": dict(self.promotions),
        }


class _Running:
    """The running amount, and the line of each rule."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.amount = Fraction(0)
        self.lines: list[Line] = []

    def move(self, key: str, rule: str, difference: Fraction, facts: Mapping[str, str]) -> None:
        """Add the difference that one rule makes; a rule that makes none leaves no line, save the list price."""
        if difference or key == "list":
            self.amount += difference
            self.lines.append(Line(key, rule, Money.zero(self.currency), difference, facts))

    def settled(self) -> tuple[Money, tuple[Line, ...]]:
        """Round once, and split the lines so that they sum to the total."""
        total = round_to_minor(self.amount, self.currency)
        shares = split(total, [line.exact for line in self.lines])
        lines = zip(self.lines, shares, strict=True)
        return total, tuple(Line(each.key, each.rule, share, each.exact, each.facts) for each, share in lines)


def price(book: PriceBook, usage: Usage, customer: Customer, at: datetime, *, tier_kept: bool = True) -> Price:
    """Price one film for one customer at one moment (with an offset from UTC).

    `tier_kept` False drops the service tier's line: its promise was missed. Raises PriceError when the book has no
    rate, membership or tier for it, or when the contract is in another currency.
    """
    return _price(book, usage, customer, _stretches(book, customer.contract).of(moment(at)), tier_kept)


@lru_cache(maxsize=64)
def _stretches(book: PriceBook, contract: Contract | None) -> Epochs:
    """Return the stretches of time in which the same promotions and contract are in force."""
    windows = [promotion.window for promotion in book.promotions]
    return Epochs(windows if contract is None else [*windows, contract.window])


# Most films are ordered in a few shapes. A price is never changed, so equal arguments may share one.
@lru_cache(maxsize=4096)
def _price(book: PriceBook, usage: Usage, customer: Customer, instant: datetime, tier_kept: bool) -> Price:
    membership, tier = book.membership(customer.membership), book.tier(usage.service_tier)
    running = _Running(book.currency)
    listed = book.rate_for(usage.key)
    free = _list_and_free(running, listed, usage, customer.free_seconds)
    list_total = round_to_minor(
        sum((line.exact for line in running.lines if line.exact.numerator > 0), Fraction(0)), book.currency
    )

    contract = _contract(running, book, listed, usage, usage.seconds - free, customer.contract, instant)
    if contract is None or contract.membership_applies:
        discount = running.amount * (1 - fraction_of(membership.factor))
        running.move("membership", f"membership:{membership.id}", -discount, _factor(membership))
    if contract is None or contract.promotions_apply:
        for promotion in book.promotions_at(instant):
            _promotion(running, promotion, usage, customer, instant)
    if tier_kept:
        surcharge = running.amount * (fraction_of(tier.factor) - 1)
        running.move("service_tier", f"tier:{tier.id}", surcharge, _factor(tier))

    total, lines = running.settled()
    return Price(
        currency=book.currency,
        list_total=list_total,
        lines=lines,
        total=total,
        tax_included=tax_inside(book, total),
        free_seconds_used=free,
        promotions={
            line.rule.removeprefix("promotion:"): -line.amount.minor for line in lines if line.key == "promotion"
        },
    )


def per_second(book: PriceBook, usage: Usage, customer: Customer, at: datetime) -> Fraction:
    """Return the exact price of one second of such a film, without free seconds, in whole currency units.

    This is for display and comparison (0.43875; settled, it shows as 0.44). A film is never priced from it: its total
    is rounded once, from the exact product. Raises what `price` raises.
    """
    one = usage.delivering(Fraction(1), Fraction(0))
    lines = price(book, one, replace(customer, free_seconds=Fraction(0)), at).lines
    return sum((line.exact for line in lines), Fraction(0))


def tax_inside(book: PriceBook, total: Money) -> Money:
    """Return how much of a total is tax: prices include it, at the book's rate."""
    rate = fraction_of(book.tax_rate)
    amount = Fraction(only_money(total).minor, minor_per_major(total.currency))
    return round_to_minor(amount * rate / (1 + rate), total.currency)


def _titles(title: Title) -> dict[str, str]:
    return {"title_en": title.en, "title_zh": title.zh}


def _factor(rule: Membership | Promotion | ServiceTier) -> dict[str, str]:
    return {"factor": exact_text(rule.factor), **_titles(rule.title)}


def _list_and_free(running: _Running, rate: Rate, usage: Usage, free_seconds: Fraction) -> Fraction:
    """Add the list price of all seconds, then take off the first delivered ones that are free; return how many."""
    per_second = fraction_of(rate.per_second)
    reads = fraction_of(rate.input_per_second or Decimal(0))
    rule, free = f"rate:{rate.id}", min(free_seconds, usage.seconds)
    facts = {"currency": running.currency, **usage.key.facts()}
    film = {"seconds": exact_text(usage.seconds), "per_second": exact_text(per_second)}
    running.move("list", rule, per_second * usage.seconds, facts | film)
    # Recorded receipts have these facts on this line, and no others.
    facts = {name: facts[name] for name in ("currency", "model", "resolution", "mode")}
    read = {"seconds": exact_text(usage.input_seconds), "per_second": exact_text(reads)}
    running.move("input_seconds", rule, reads * usage.input_seconds, facts | read)
    running.move("free_seconds", "free_seconds", -per_second * free, {"seconds": exact_text(free)})
    return free


def _contract(
    running: _Running,
    book: PriceBook,
    listed: Rate,
    usage: Usage,
    paid_seconds: Fraction,
    contract: Contract | None,
    at: datetime,
) -> Contract | None:
    """Put the agreed rate in the place of the list rate, for the seconds that are paid and those that are read.

    Returns the contract if it prices this film, None where the list price applies.
    """
    if contract is None or not contract.window.holds(at):
        return None
    if contract.currency != book.currency:
        message = f"Contract {contract.name} is in {contract.currency}, price book {book.name} in {book.currency}."
        raise PriceError("currency_mismatch", message, contract=contract.currency, book=book.currency)
    agreed = contract.rate_for(usage.key)
    if agreed is None:
        return None
    film = (Fraction(agreed.per_second) - Fraction(listed.per_second)) * paid_seconds
    read = (Fraction(agreed.input_per_second or 0) - Fraction(listed.input_per_second or 0)) * usage.input_seconds
    facts = {"currency": running.currency, "per_second": exact_text(agreed.per_second), **_titles(contract.title)}
    running.move("contract", f"contract:{contract.name}/{agreed.id}", film + read, facts)
    return contract


def _promotion(running: _Running, promotion: Promotion, usage: Usage, customer: Customer, at: datetime) -> None:
    """Apply one promotion once, its discount cut to what its caps have left."""
    if not promotion.fits(usage.key, customer.membership, usage.service_tier, at):
        return
    discount = running.amount * (1 - fraction_of(promotion.factor))
    left = promotion.left(customer.promotions_left)
    if left is not None:
        discount = min(discount, Fraction(left, minor_per_major(running.currency)))
    running.move("promotion", f"promotion:{promotion.id}", -discount, _factor(promotion))
