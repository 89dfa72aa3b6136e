"""Contracts: rates agreed with one account, which replace the list rates."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from pricing.money import MINOR_DIGITS
from pricing.rate import Rate, best_rate, read_rates
from pricing.rate_key import RateKey
from pricing.schema import IDENTIFIER, Table, read_document, read_toml
from pricing.window import ALWAYS, Title, Window

FORMAT = 1
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def canonical(content: object) -> bytes:
    """Return the canonical form of plain values: JSON with sorted keys, no spaces, UTF-8."""
    return _CANONICAL.encode(content).encode()


def content_hash(content: object) -> str:
    """Return `sha256:…` over the canonical form of plain values."""
    return "sha256:" + hashlib.sha256(canonical(content)).hexdigest()


@dataclass(frozen=True)
class Contract:
    """Agreed rates. Where one matches it replaces the list rate, even where it is higher: it is what was signed.

    Where none matches, the list rate applies. `membership_applies` and `promotions_apply` say whether those factors
    come on top of the agreed rate (they always apply to films that only the list prices). `based_on` names the
    contract or the content hash that this one was drafted from.
    """

    name: str
    title: Title
    currency: str
    rates: tuple[Rate, ...]
    window: Window = ALWAYS
    membership_applies: bool = True
    promotions_apply: bool = True
    based_on: str | None = None

    @classmethod
    def read(cls, table: Table) -> "Contract":
        """Read a whole contract document."""
        table.count("format", FORMAT, FORMAT)
        contract = cls(
            name=table.text("name", pattern=IDENTIFIER),
            title=Title.read(table),
            currency=table.choice("currency", tuple(MINOR_DIGITS)),
            rates=read_rates(table),
            window=Window.read(table),
            membership_applies=table.flag("membership_applies", default=True) is True,
            promotions_apply=table.flag("promotions_apply", default=True) is True,
            based_on=table.text("based_on", required=False) or None,
        )
        table.close()
        return contract

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "Contract":
        """Read plain values as `content` writes them. Raises BookError with every problem."""
        return read_document(cls.read, content)

    def content(self) -> dict[str, Any]:
        """Return the contract as plain values; comments and spelling of the source are gone."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "title": self.title.content(),
            "currency": self.currency,
            "rates": [rate.content() for rate in self.rates],
            "membership_applies": self.membership_applies,
            "promotions_apply": self.promotions_apply,
            **self.window.content(),
        }
        return values | ({"based_on": self.based_on} if self.based_on else {})

    @cached_property
    def content_hash(self) -> str:
        """`sha256:…` over the canonical content."""
        return content_hash(self.content())

    def rate_for(self, key: RateKey) -> Rate | None:
        """Return the agreed rate for this film, or None where the list price applies."""
        return best_rate(self.rates, key)


@lru_cache(maxsize=256)
def recorded_contract(text: bytes) -> Contract:
    """Return the contract of the canonical form of its plain values, as orders record it; each is read once."""
    return Contract.from_content(json.loads(text))


def parse_contract(text: str) -> Contract:
    """Read a contract from TOML. Raises BookError with every problem."""
    return Contract.from_content(read_toml(text))
