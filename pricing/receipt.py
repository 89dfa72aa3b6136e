"""Receipts: the charge for a delivered job. Never above the quote, and replayed byte for byte.

A receipt is a pure function of what it records: the price book (by content hash), the quote's inputs and total, what
was delivered, and the facts of the film. `to_json` is canonical, so `replay` of those bytes gives the same bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from typing import Any

from pricing.book import PriceBook
from pricing.contract import canonical
from pricing.exact import exact_number, exact_text, parse_exact
from pricing.money import Money
from pricing.price import Line, Price, price, tax_inside
from pricing.usage import Customer, Usage
from pricing.window import moment, moment_text

# The format of the bytes. A change of the arithmetic or of the layout is a new number, and old receipts keep theirs.
FORMAT = 1
OUTCOMES = ("completed", "failed", "cancelled", "expired")
# A job that ended so delivers nothing that may be charged, whatever was rendered before.
FREE_OUTCOMES = ("failed", "expired")


class ReceiptError(ValueError):
    """A receipt that cannot be made or replayed: another book, another format, bytes that are no receipt."""


@dataclass(frozen=True)
class Quoted:
    """The frozen inputs of a price, and the total that was promised. `id` names the quote, or the job without one."""

    id: str
    usage: Usage
    customer: Customer
    at: datetime
    total: Money

    def __post_init__(self) -> None:
        if not self.usage.seconds:
            raise ValueError("a quoted film has a length; 0 seconds cannot be ordered")
        object.__setattr__(self, "at", moment(self.at))

    def content(self) -> dict[str, Any]:
        """Return the quote as plain values."""
        usage, customer = self.usage.content(), self.customer.content()
        return {
            "id": self.id,
            "usage": usage,
            "customer": customer,
            "at": moment_text(self.at),
            "total": self.total.text,
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any], currency: str) -> "Quoted":
        """Read what `content` wrote."""
        return cls(
            id=content["id"],
            usage=Usage.from_content(content["usage"]),
            customer=Customer.from_content(content["customer"]),
            at=datetime.fromisoformat(content["at"]),
            total=Money.parse(content["total"], currency),
        )


@dataclass(frozen=True)
class Delivered:
    """The outcome of a job. `seconds` is read from the stored film: frames divided by frames per second, exactly.

    `started_in_time` False: the `start_by` of the service tier was missed, so its line drops. `facts` are kept as
    they are (job, film key, sha256, frames, fps, size), text by text.
    """

    outcome: str
    seconds: Fraction
    started_in_time: bool = True
    facts: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}, not {self.outcome!r}")
        if not isinstance(self.started_in_time, bool):
            raise TypeError(f"started_in_time must be true or false, not {type(self.started_in_time).__name__}")
        seconds = parse_exact(self.seconds, "seconds")
        if seconds < 0:
            raise ValueError(f"seconds must not be negative, not {exact_text(seconds)}")
        for name, text in self.facts.items():
            if not isinstance(name, str) or not isinstance(text, str):
                raise TypeError(f"facts are text by text, not {name!r}: {text!r}")
        object.__setattr__(self, "seconds", seconds)
        object.__setattr__(self, "facts", dict(self.facts))

    def content(self) -> dict[str, Any]:
        """Return the outcome as plain values."""
        return {
            "outcome": self.outcome,
            "seconds": exact_text(self.seconds),
            "started_in_time": self.started_in_time,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "Delivered":
        """Read what `content` wrote."""
        return cls(**{**content, "seconds": exact_number(content["seconds"])})


@dataclass(frozen=True)
class Receipt:
    """The one receipt of a job: its recorded inputs, and the price that follows from them.

    `billed_seconds` is the smaller of quoted and delivered, zero where the outcome is free.
    """

    book_name: str
    book_hash: str
    quoted: Quoted
    delivered: Delivered
    billed_seconds: Fraction
    price: Price

    @property
    def total(self) -> Money:
        """What the job is charged."""
        return self.price.total

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines, which sum to the total."""
        return self.price.lines

    def content(self) -> dict[str, Any]:
        """Return the receipt as plain values; amounts are decimal strings."""
        return {
            "receipt": FORMAT,
            "book": {"name": self.book_name, "hash": self.book_hash},
            "quoted": self.quoted.content(),
            "delivered": self.delivered.content(),
            "billed_seconds": exact_text(self.billed_seconds),
            **self.price.content(),
        }

    def to_json(self) -> bytes:
        """Return the canonical bytes: sorted keys, no spaces, UTF-8."""
        return canonical(self.content())


def receipt(book: PriceBook, quoted: Quoted, delivered: Delivered) -> Receipt:
    """Charge the price at min(quoted, delivered), by the quote's own book, customer and moment.

    `book` must be the one that the quote froze. A failed or expired job costs nothing; a partly delivered one pays
    for the same part of the video that it read. Raises PriceError if the book is another one and cannot price it.
    """
    share = _share(quoted.usage, delivered)
    billed = quoted.usage.delivering(quoted.usage.seconds * share, quoted.usage.input_seconds * share)
    tier = book.tier(quoted.usage.service_tier)
    is_tier_kept = delivered.started_in_time or tier.start_within is None
    charged = price(book, billed, quoted.customer, quoted.at, tier_kept=is_tier_kept)
    # What is charged as it was quoted spends what was reserved, and a price without a promotion spends nothing.
    if charged.promotions and not (is_tier_kept and billed == quoted.usage):
        reserved = price(book, quoted.usage, quoted.customer, quoted.at).promotions
        spent = {name: min(minor, reserved.get(name, 0)) for name, minor in charged.promotions.items()}
        charged = replace(charged, promotions=spent)
    charged = _ceiling(book, charged, quoted.total)
    return Receipt(book.name, book.content_hash, quoted, delivered, billed.seconds, charged)


def _share(usage: Usage, delivered: Delivered) -> Fraction:
    """Return the part of the quoted film that is billed, from 0 to 1."""
    if delivered.outcome in FREE_OUTCOMES:
        return Fraction(0)
    return min(Fraction(1), delivered.seconds / usage.seconds)


def _ceiling(book: PriceBook, charged: Price, quoted: Money) -> Price:
    """Keep the quoted total, even if the arithmetic was changed by a release between quote and settlement."""
    excess = charged.total - quoted
    if excess.minor <= 0:
        return charged
    line = Line("quote_ceiling", "quote", -excess, Fraction(-excess.major), {"quoted": quoted.text})
    tax = tax_inside(book, quoted)
    return replace(charged, lines=(*charged.lines, line), total=quoted, tax_included=tax)


def read_receipt(data: bytes) -> dict[str, Any]:
    """Return the plain values of a receipt's bytes. Raises ReceiptError for other bytes or another format."""
    try:
        content = json.loads(data)
    except ValueError:
        raise ReceiptError("these bytes are not a receipt") from None
    if not isinstance(content, dict) or content.get("receipt") != FORMAT:
        raise ReceiptError(f"these bytes are not a receipt of format {FORMAT}")
    return content


def replay(data: bytes, book: PriceBook) -> bytes:
    """Make a receipt again from the inputs that its bytes record; the caller compares the two.

    `book` is the book with the recorded content hash. Raises ReceiptError if it is another one, or if the bytes are
    no receipt.
    """
    content = read_receipt(data)
    try:
        recorded = content["book"]["hash"]
        quoted = Quoted.from_content(content["quoted"], content["currency"])
        delivered = Delivered.from_content(content["delivered"])
    except (KeyError, TypeError, ValueError) as error:
        raise ReceiptError(f"the recorded inputs cannot be read: {error}") from None
    if recorded != book.content_hash:
        raise ReceiptError(f"the receipt was made with book {recorded}, not with {book.content_hash}")
    return receipt(book, quoted, delivered).to_json()
