"""The inputs of a price: the usage and the customer, as plain recorded facts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from pricing.contract import Contract, canonical, recorded_contract
from pricing.exact import exact_number, exact_text, parse_exact
from pricing.rate_key import DIMENSIONS, READING_MODES, RateKey, require_text


def _seconds(value: object, name: str) -> Fraction:
    number = parse_exact(value, name)
    if number < 0:
        raise ValueError(f"{name} must not be negative, not {exact_text(number)}")
    return number


@dataclass(frozen=True, slots=True)
class Usage:
    """One film as it is priced. `seconds` is its length and `input_seconds` the length of the video it reads,

    both exact rationals (int, Decimal or Fraction are accepted; a float is a TypeError).
    """

    key: RateKey
    seconds: Fraction
    input_seconds: Fraction = Fraction(0)
    service_tier: str = "standard"

    def __post_init__(self) -> None:
        if not isinstance(self.key, RateKey):
            raise TypeError(f"key must be a RateKey, not {type(self.key).__name__}")
        require_text(self.service_tier, "service_tier")
        object.__setattr__(self, "seconds", _seconds(self.seconds, "seconds"))
        object.__setattr__(self, "input_seconds", _seconds(self.input_seconds, "input_seconds"))
        if self.input_seconds and self.key.mode not in READING_MODES:
            raise ValueError(f"mode {self.key.mode} reads no video, so input_seconds must be 0")

    def content(self) -> dict[str, Any]:
        """Return the usage as plain values for canonical JSON."""
        return {
            **self.key.content(),
            "seconds": exact_text(self.seconds),
            "input_seconds": exact_text(self.input_seconds),
            "service_tier": self.service_tier,
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "Usage":
        """Read what `content` wrote."""
        rest = {name: value for name, value in content.items() if name not in DIMENSIONS}
        rest |= {name: exact_number(content[name]) for name in ("seconds", "input_seconds")}
        return cls(RateKey.from_content(content), **rest)

    def delivering(self, seconds: Fraction, input_seconds: Fraction) -> "Usage":
        """Return the same film at another length."""
        return replace(self, seconds=seconds, input_seconds=input_seconds)


@dataclass(frozen=True, slots=True)
class Customer:
    """The buyer at the moment of pricing.

    `free_seconds` are the free seconds that this job may use. `promotions_left` says, per promotion id, how many
    minor units of discount are still left to this account (the smaller of its own cap and the promotion's whole
    budget); None there means no limit. A capped promotion that the mapping does not name has nothing left;
    no mapping at all means that nothing was used yet.
    """

    membership: str
    contract: Contract | None = None
    free_seconds: Fraction = Fraction(0)
    promotions_left: Mapping[str, int | None] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        require_text(self.membership, "membership")
        if self.contract is not None and not isinstance(self.contract, Contract):
            raise TypeError(f"contract must be a Contract, not {type(self.contract).__name__}")
        object.__setattr__(self, "free_seconds", _seconds(self.free_seconds, "free_seconds"))
        if self.promotions_left is None:
            return
        left = dict(self.promotions_left)
        for name, minor in left.items():
            require_text(name, "a promotion id")
            if minor is not None and (isinstance(minor, bool) or not isinstance(minor, int)):
                raise TypeError(f"promotions_left[{name!r}] counts whole minor units, not {type(minor).__name__}")
            if minor is not None and minor < 0:
                raise ValueError(f"promotions_left[{name!r}] must not be negative, not {minor}")
        object.__setattr__(self, "promotions_left", left)

    def content(self) -> dict[str, Any]:
        """Return the customer as plain values for canonical JSON."""
        return {
            "membership": self.membership,
            "contract": self.contract.content() if self.contract else None,
            "free_seconds": exact_text(self.free_seconds),
            "promotions_left": None if self.promotions_left is None else dict(self.promotions_left),
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "Customer":
        """Read what `content` wrote."""
        contract = content["contract"]
        return cls(
            membership=content["membership"],
            contract=None if contract is None else recorded_contract(canonical(contract)),
            free_seconds=exact_number(content["free_seconds"]),
            promotions_left=content["promotions_left"],
        )
