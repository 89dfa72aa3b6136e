"""Memberships, service tiers, promotions and worked examples: data, read strictly."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pricing.exact import exact_text
from pricing.money import MINOR_DIGITS, Money
from pricing.rate_key import MODEL_PATTERN, MODES, RESOLUTIONS, RateKey, model_matches
from pricing.schema import IDENTIFIER, Table
from pricing.window import Title, Window, moment_text

# Where a membership names no storage of its own.
STORAGE_GIB_PER_WEIGHT = 2


@dataclass(frozen=True, slots=True)
class Membership:
    """The terms of a membership: a factor on the price, and limits.

    `factor` multiplies the price (0.65 = 35 % off). `share_weight` is the weight of the account's GPU share,
    `concurrency` the segments it may have running, `queue_limit` its unfinished jobs, `retention_days` how long
    films are kept, `free_seconds_per_month` its free seconds per month of the billing zone. The two rates are
    requests of any kind, and new jobs, per minute. `storage_gib` is how many GiB its uploaded files may have; where it
    is absent, that follows from the share.
    """

    id: str
    title: Title
    factor: Decimal
    share_weight: int
    concurrency: int
    queue_limit: int
    retention_days: int
    free_seconds_per_month: int
    requests_per_minute: int
    jobs_per_minute: int
    storage_gib: int | None = None

    @property
    def storage_bytes(self) -> int:
        """How many bytes the account's uploaded files may have."""
        return (self.storage_gib or STORAGE_GIB_PER_WEIGHT * self.share_weight) * 2**30

    @classmethod
    def read(cls, table: Table) -> "Membership":
        """Read one `[[memberships]]` table."""
        membership = cls(
            id=table.text("id", pattern=IDENTIFIER),
            title=Title.read(table),
            factor=table.factor("factor", "0", "1"),
            share_weight=table.count("share_weight", 1, 1000),
            concurrency=table.count("concurrency", 1, 1000),
            queue_limit=table.count("queue_limit", 1, 100_000),
            retention_days=table.count("retention_days", 1, 3650),
            free_seconds_per_month=table.count("free_seconds_per_month", 0, 1_000_000),
            requests_per_minute=table.count("requests_per_minute", 1, 1_000_000),
            jobs_per_minute=table.count("jobs_per_minute", 1, 1_000_000),
            storage_gib=table.whole("storage_gib", 1, 1_000_000, required=False),
        )
        table.close()
        return membership

    def content(self) -> dict[str, Any]:
        """Return the membership as plain values; an absent figure is left out, so that older books keep their bytes."""
        values = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) is not None}
        return values | {"title": self.title.content(), "factor": exact_text(self.factor)}


@dataclass(frozen=True, slots=True)
class ServiceTier:
    """A class of service: a factor, and its promise.

    `start_within`: the quote carries `start_by`, and the tier's line drops from the receipt if that is missed.
    `deadline`: a job that has not started by then expires and is free.
    """

    id: str
    title: Title
    factor: Decimal
    start_within: timedelta | None
    deadline: timedelta | None

    @classmethod
    def read(cls, table: Table) -> "ServiceTier":
        """Read one `[[service_tiers]]` table."""
        within = table.whole("start_within_minutes", 1, 10_000, required=False)
        deadline = table.whole("deadline_hours", 1, 1000, required=False)
        tier = cls(
            id=table.text("id", pattern=IDENTIFIER),
            title=Title.read(table),
            factor=table.factor("factor", "0", "10"),
            start_within=None if within is None else timedelta(minutes=within),
            deadline=None if deadline is None else timedelta(hours=deadline),
        )
        if tier.start_within and tier.factor < 1:
            table.wrong("start_within_minutes", "needs a factor of 1 or more: dropping the line must not raise a price")
        table.close()
        return tier

    def content(self) -> dict[str, Any]:
        """Return the tier as plain values."""
        values: dict[str, Any] = {"id": self.id, "title": self.title.content(), "factor": exact_text(self.factor)}
        if self.start_within is not None:
            values["start_within_minutes"] = self.start_within // timedelta(minutes=1)
        if self.deadline is not None:
            values["deadline_hours"] = self.deadline // timedelta(hours=1)
        return values


@dataclass(frozen=True, slots=True)
class Promotion:
    """A factor on the price for a while: when (`window`), who (`memberships`), what (`models`, …; empty = all).

    Promotions apply by rising `priority`, each at most once. `cap_per_account` and `budget` limit the discount
    given in all to one account, and to everybody; the discount is cut to the rest of the cap.
    """

    id: str
    title: Title
    factor: Decimal
    priority: int
    window: Window
    memberships: tuple[str, ...]
    models: tuple[str, ...]
    resolutions: tuple[str, ...]
    modes: tuple[str, ...]
    service_tiers: tuple[str, ...]
    cap_per_account: Money | None
    budget: Money | None

    @classmethod
    def read(cls, table: Table, currency: str) -> "Promotion":
        """Read one `[[promotions]]` table; `currency` is the book's."""
        promotion = cls(
            id=table.text("id", pattern=IDENTIFIER),
            title=Title.read(table),
            factor=table.factor("factor", "0", "1"),
            priority=table.count("priority", 0, 1000),
            window=Window.read(table),
            memberships=table.words("memberships"),
            models=table.words("models"),
            resolutions=table.words("resolutions", allowed=RESOLUTIONS),
            modes=table.words("modes", allowed=MODES),
            service_tiers=table.words("service_tiers"),
            cap_per_account=_money(table, "cap_per_account", currency),
            budget=_money(table, "budget", currency),
        )
        for pattern in promotion.models:
            if not MODEL_PATTERN.fullmatch(pattern):
                table.wrong("models", f"{pattern!r} is no model name or pattern such as demo, wan2.2-*, *-turbo, *")
        table.close()
        return promotion

    def content(self) -> dict[str, Any]:
        """Return the promotion as plain values."""
        values: dict[str, Any] = {"id": self.id, "title": self.title.content(), "factor": exact_text(self.factor)}
        values |= {"priority": self.priority, **self.window.content()}
        for name in ("memberships", "models", "resolutions", "modes", "service_tiers"):
            if getattr(self, name):
                values[name] = list(getattr(self, name))
        for name in ("cap_per_account", "budget"):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name).text
        return values

    @property
    def capped(self) -> bool:
        """Whether the discount is limited, per account or in all."""
        return self.cap_per_account is not None or self.budget is not None

    def fits(self, key: RateKey, membership: str, service_tier: str, at: datetime) -> bool:
        """Say whether the promotion is for this buyer, this film and this moment; caps are not checked."""
        return (
            self.window.holds(at)
            and (not self.memberships or membership in self.memberships)
            and (not self.models or any(model_matches(pattern, key.model) for pattern in self.models))
            and (not self.resolutions or key.resolution in self.resolutions)
            and (not self.modes or key.mode in self.modes)
            and (not self.service_tiers or service_tier in self.service_tiers)
        )

    def left(self, promotions_left: Mapping[str, int | None] | None) -> int | None:
        """Return the minor units of discount that may still be given; None = no limit. See `Customer`."""
        if not self.capped:
            return None
        limits = [limit.minor for limit in (self.cap_per_account, self.budget) if limit is not None]
        if promotions_left is None:
            return min(limits)
        left = promotions_left.get(self.id, 0)
        return min(limits) if left is None else min(left, *limits)


def _money(table: Table, key: str, currency: str, *, required: bool = False) -> Money | None:
    number = table.decimal(key, high="1000000000", required=required)
    if number is None:
        return None
    try:
        return Money.parse(format(number, "f"), currency)
    except ValueError:
        table.wrong(key, f"must be an amount of {currency} with at most {MINOR_DIGITS[currency]} decimals")
        return None


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example: what the book has to charge for a usage. A book whose examples fail cannot be approved."""

    name: str
    at: datetime
    membership: str
    key: RateKey
    seconds: Fraction
    input_seconds: Fraction
    free_seconds: Fraction
    service_tier: str
    total: Money

    @classmethod
    def read(cls, table: Table, currency: str) -> "Example":
        """Read one `[[examples]]` table; `currency` is the book's."""
        example = cls(
            name=table.text("name"),
            at=table.moment("at", required=True) or datetime.min.replace(tzinfo=UTC),
            membership=table.text("membership"),
            key=RateKey.read(table),
            seconds=table.seconds("seconds", required=True),
            input_seconds=table.seconds("input_seconds"),
            free_seconds=table.seconds("free_seconds"),
            service_tier=table.text("service_tier", required=False, default="standard"),
            total=_money(table, "total", currency, required=True) or Money.zero(currency),
        )
        table.close()
        return example

    def content(self) -> dict[str, Any]:
        """Return the example as plain values."""
        return {
            "name": self.name,
            "at": moment_text(self.at),
            "membership": self.membership,
            **self.key.content(),
            "seconds": exact_text(self.seconds),
            "input_seconds": exact_text(self.input_seconds),
            "free_seconds": exact_text(self.free_seconds),
            "service_tier": self.service_tier,
            "total": self.total.text,
        }
