"""The price book: every pricing rule, read from TOML and never changed.

A book is immutable data. `parse_book` reads it, `content_hash` names it, and `pricing.check` runs its examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from pricing.contract import FORMAT, content_hash
from pricing.exact import exact_text
from pricing.money import MINOR_DIGITS
from pricing.rate import Rate, best_rate, read_rates, refuse_duplicates
from pricing.rate_key import RateKey
from pricing.rules import Example, Membership, Promotion, ServiceTier
from pricing.schema import IDENTIFIER, Table, read_document, read_toml
from pricing.window import Title, moment

# An account without a membership period has this one; every book has it.
FALLBACK_MEMBERSHIP = "free"
# The class that every job has unless it asks for another; its factor is 1 in every book.
STANDARD_TIER = "standard"


class PriceError(ValueError):
    """A usage that this book cannot price. `code` is one of no_rate, unknown_membership, unknown_service_tier,

    currency_mismatch; `facts` name the refused value and the allowed ones.
    """

    def __init__(self, code: str, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.facts = facts


@dataclass(frozen=True)
class PriceBook:
    """One price book. Prices include tax at `tax_rate`; `based_on` names the book that this one was drafted from."""

    name: str
    title: Title
    currency: str
    tax_rate: Decimal
    based_on: str | None
    rates: tuple[Rate, ...]
    memberships: Mapping[str, Membership]
    promotions: tuple[Promotion, ...]
    service_tiers: Mapping[str, ServiceTier]
    examples: tuple[Example, ...]
    content_hash: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "content_hash", content_hash(self.content()))

    def __hash__(self) -> int:
        return hash(self.content_hash)

    @classmethod
    def read(cls, table: Table) -> "PriceBook":
        """Read a whole book document; problems are reported on the table."""
        table.count("format", FORMAT, FORMAT)
        currency = table.choice("currency", tuple(MINOR_DIGITS))
        memberships = [Membership.read(item) for item in table.tables("memberships", at_least=1)]
        tiers = [ServiceTier.read(item) for item in table.tables("service_tiers", at_least=1)]
        promotions = [Promotion.read(item, currency) for item in table.tables("promotions")]
        refuse_duplicates(table, "memberships", [item.id for item in memberships])
        refuse_duplicates(table, "service_tiers", [item.id for item in tiers])
        refuse_duplicates(table, "promotions", [item.id for item in promotions])
        book = cls(
            name=table.text("name", pattern=IDENTIFIER),
            title=Title.read(table),
            currency=currency,
            tax_rate=table.factor("tax_rate", "0", "1"),
            based_on=table.text("based_on", required=False) or None,
            rates=read_rates(table),
            memberships={item.id: item for item in memberships},
            promotions=tuple(sorted(promotions, key=lambda item: (item.priority, item.id))),
            service_tiers={item.id: item for item in tiers},
            examples=tuple(Example.read(item, currency) for item in table.tables("examples", at_least=1)),
        )
        table.close()
        _check_references(book, promotions, table)
        return book

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "PriceBook":
        """Read plain values as `content` writes them. Raises BookError with every problem."""
        return read_document(cls.read, content)

    def content(self) -> dict[str, Any]:
        """Return the book as plain values; comments, order of keys and spelling of numbers are gone."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "title": self.title.content(),
            "currency": self.currency,
            "tax_rate": exact_text(self.tax_rate),
            "rates": [rate.content() for rate in self.rates],
            "memberships": [membership.content() for membership in self.memberships.values()],
            "promotions": [promotion.content() for promotion in self.promotions],
            "service_tiers": [tier.content() for tier in self.service_tiers.values()],
            "examples": [example.content() for example in self.examples],
        }
        return values | ({"based_on": self.based_on} if self.based_on else {})

    def known_membership(self, name: str) -> str:
        """Return the membership that an account with this one has under this book: the fallback where it is gone."""
        return name if name in self.memberships else FALLBACK_MEMBERSHIP

    def membership(self, name: str) -> Membership:
        """Return a membership. Raises PriceError unknown_membership."""
        if name not in self.memberships:
            raise _unknown("membership", name, self.name, self.memberships)
        return self.memberships[name]

    def tier(self, name: str) -> ServiceTier:
        """Return a service tier. Raises PriceError unknown_service_tier."""
        if name not in self.service_tiers:
            raise _unknown("service_tier", name, self.name, self.service_tiers)
        return self.service_tiers[name]

    def rate_for(self, key: RateKey) -> Rate:
        """Return the list rate, the most specific that matches. Raises PriceError no_rate: never free by accident."""
        rate = best_rate(self.rates, key)
        if rate is None:
            raise PriceError("no_rate", f"Price book {self.name} has no rate for {key}.", **key.content())
        return rate

    def promotions_at(self, at: datetime) -> tuple[Promotion, ...]:
        """Return the promotions whose window holds the moment, in the order in which they apply."""
        instant = moment(at)
        return tuple(promotion for promotion in self.promotions if promotion.window.holds(instant))


def _unknown(what: str, name: str, book: str, allowed: Mapping[str, object]) -> PriceError:
    words = what.replace("_", " ")
    message = f"Price book {book} has no {words} {name!r}; it has {', '.join(allowed)}."
    return PriceError(f"unknown_{what}", message, **{what: name}, allowed=list(allowed))


def _check_references(book: PriceBook, promotions: Sequence[Promotion], table: Table) -> None:
    """Report references to missing entries, and the two entries that every book needs."""
    if book.memberships and FALLBACK_MEMBERSHIP not in book.memberships:
        table.wrong("memberships", f"lack {FALLBACK_MEMBERSHIP!r}, to which an account falls back when a period ends")
    if book.service_tiers and (STANDARD_TIER not in book.service_tiers or book.tier(STANDARD_TIER).factor != 1):
        table.wrong("service_tiers", f"need {STANDARD_TIER!r} with a factor of 1")
    known = {"memberships": book.memberships, "service_tiers": book.service_tiers}
    named = [(f"promotions[{i}].{key}", key, getattr(item, key)) for i, item in enumerate(promotions) for key in known]
    for i, item in enumerate(book.examples):
        named.append((f"examples[{i}].membership", "memberships", (item.membership,)))
        named.append((f"examples[{i}].service_tier", "service_tiers", (item.service_tier,)))
    for path, key, names in named:
        for name in names:
            if name and name not in known[key]:
                table.wrong(path, f"{name!r} is not in this book; it has {', '.join(known[key])}")


def parse_book(text: str) -> PriceBook:
    """Read a price book from TOML. Raises BookError with every problem, each with its path and what is allowed."""
    return PriceBook.from_content(read_toml(text))
