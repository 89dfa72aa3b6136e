"""The result of a simulation: sums before and after, winners and losers, and jobs that would be refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from pricing.exact import exact_text
from pricing.money import Money
from pricing.rate_key import RateKey


class Case(NamedTuple):
    """What the price of a past job depends on, but for the time: plain values, as a GROUP BY yields them.

    Seconds are the billed ones, as exact text (`exact_text`); `contract` is the key of a contract or empty;
    `tier_kept` is False where the service tier's line had dropped.
    """

    key: RateKey
    seconds: str
    input_seconds: str
    service_tier: str
    tier_kept: bool
    membership: str
    contract: str
    free_seconds: str

    @classmethod
    def from_json(cls, text: str) -> "Case":
        """Read what `to_json` wrote."""
        model, resolution, mode, audio, *rest = json.loads(text)
        return cls(RateKey(model, resolution, mode, audio), *rest)

    def to_json(self) -> str:
        """Return the case as a JSON array, as receipts store it and as a GROUP BY compares it.

        A dimension that is added later goes to the end, and only where it differs from its default: the texts that
        are stored keep their meaning, and equal cases keep equal texts.
        """
        key, *rest = self
        return json.dumps([key.model, key.resolution, key.mode, key.audio, *rest], separators=(",", ":"))

    def content(self) -> dict[str, Any]:
        """Return the case as plain values, by name."""
        rest = self._asdict()
        return {**rest.pop("key").content(), **rest}


@dataclass(slots=True)
class Bucket:
    """Jobs, their billed seconds, and their charges before and after."""

    currency: str
    jobs: int
    seconds: Fraction
    before: Money
    after: Money

    def __init__(self, currency: str) -> None:
        self.currency, self.jobs, self.seconds = currency, 0, Fraction(0)
        self.before = self.after = Money.zero(currency)

    def content(self) -> dict[str, Any]:
        """Return the bucket as plain values, money as decimal strings."""
        return {"jobs": self.jobs, "seconds": exact_text(self.seconds), **_change(self.before, self.after)}


@dataclass(frozen=True, slots=True)
class AccountChange:
    """One account that the book would charge more, or less."""

    account: str
    jobs: int
    before: Money
    after: Money

    def content(self) -> dict[str, Any]:
        """Return the change as plain values."""
        return {"account": self.account, "jobs": self.jobs, **_change(self.before, self.after)}


def _change(before: Money, after: Money) -> dict[str, str]:
    return {"before": before.text, "after": after.text, "change": (after - before).text}


@dataclass(frozen=True, slots=True)
class RefusedJob:
    """Past jobs that the book would not sell; they are left out of every other figure."""

    case: Case
    message: str
    jobs: int
    charged: Money

    def content(self) -> dict[str, Any]:
        """Return the refusal as plain values."""
        facts = {"message": self.message, "jobs": self.jobs, "charged": self.charged.text}
        return {"case": self.case.content(), **facts}


@dataclass(frozen=True)
class Simulation:
    """The outcome. Winners pay less than they did, losers more; both are sorted by how much, at most ten each."""

    book_name: str
    book_hash: str
    currency: str
    whole: Bucket
    by_membership: Mapping[str, Bucket]
    by_model: Mapping[str, Bucket]
    by_resolution: Mapping[str, Bucket]
    winners: tuple[AccountChange, ...]
    losers: tuple[AccountChange, ...]
    refused: tuple[RefusedJob, ...]
    promotions: Mapping[str, Money]
    over_budget: tuple[str, ...]
    free_seconds_changed: tuple[str, ...]
    gpu_seconds: Fraction
    cost: Money
    groups: int

    @property
    def margin_before(self) -> Money:
        """The charges, less the cost of the GPU seconds."""
        return self.whole.before - self.cost

    @property
    def margin_after(self) -> Money:
        """The simulated charges, less the cost of the GPU seconds."""
        return self.whole.after - self.cost

    def content(self) -> dict[str, Any]:
        """Return the simulation as plain values, to be stored with the approval that rests on it."""

        def named(buckets: Mapping[str, Bucket]) -> dict[str, Any]:
            return {name: buckets[name].content() for name in sorted(buckets)}

        return {
            "book": {"name": self.book_name, "hash": self.book_hash},
            "currency": self.currency,
            "whole": self.whole.content(),
            "by_membership": named(self.by_membership),
            "by_model": named(self.by_model),
            "by_resolution": named(self.by_resolution),
            "winners": [item.content() for item in self.winners],
            "losers": [item.content() for item in self.losers],
            "refused": [item.content() for item in self.refused],
            "promotions": {name: amount.text for name, amount in self.promotions.items()},
            "over_budget": list(self.over_budget),
            "free_seconds_changed": list(self.free_seconds_changed),
            "gpu_seconds": exact_text(self.gpu_seconds),
            "cost": self.cost.text,
            "margin_before": self.margin_before.text,
            "margin_after": self.margin_after.text,
            "groups": self.groups,
        }
