"""Pools as data: the classes of GPU that an operator has or may start, how long that takes, and what they cost."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from app.catalog.engine_facts import StrictTable
from app.catalog.errors import CatalogError
from app.catalog.gpu_features import GpuFeature

POOL_FILE = "pools.toml"
# How long work may wait for a worker that runs before another one is wanted, in seconds: priority, and all work.
# workers_wanted has the same; tests/autoscaling measured them.
PRIORITY_START_SECONDS, START_SECONDS = 60, 120
# Work that has waited for so many cold starts waits for a worker that does not come.
COLD_STARTS_MAX = 1.5


class GpuCost(StrictTable):
    """What a GPU-second costs from a moment on, in the book's currency."""

    starts_at: datetime
    per_gpu_second: Decimal = Field(ge=0, max_digits=18, decimal_places=9)

    @field_validator("starts_at")
    @classmethod
    def _with_zone(cls, moment: datetime) -> datetime:
        if moment.tzinfo is None:
            raise ValueError("needs a time zone, as in 2026-01-01T00:00:00Z")
        return moment

    @field_validator("per_gpu_second", mode="before")
    @classmethod
    def _exact(cls, cost: Any) -> Any:
        if isinstance(cost, float):
            raise ValueError('must be text such as "0.0023": a number with a point is not exact')
        return cost


class GpuClass(StrictTable):
    """One class of GPU that serves a pool."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9\-]{0,31}$")
    device: str = Field("", description="Part of the device's name, by which a worker is known to be of the class.")
    memory_gib: float = Field(gt=0)
    features: tuple[GpuFeature, ...] = ()
    workers_max: int = Field(0, ge=0, le=10_000, description="What an autoscaler may start; 0 where none does.")
    cost: tuple[GpuCost, ...] = ()

    @property
    def memory_mb(self) -> int:
        """The memory in MiB."""
        return int(self.memory_gib * 1024)

    def fits(self, memory_mb: int, features: Iterable[str]) -> bool:
        """Return whether a unit with these requirements fits."""
        return memory_mb <= self.memory_mb and set(features) <= set(self.features)


class PoolPlan(StrictTable):
    """What an operator has said about one pool."""

    cold_start_seconds: int = Field(0, ge=0, le=86_400)
    start_seconds: int = Field(START_SECONDS, ge=1, le=86_400)
    priority_start_seconds: int = Field(PRIORITY_START_SECONDS, ge=1, le=86_400)
    gpus: tuple[GpuClass, ...] = ()
    cost: tuple[GpuCost, ...] = ()

    def class_of(self, device_name: str, memory_mb: int | None) -> GpuClass | None:
        """Return the class of a worker: the first one that its device's name tells, and whose memory it has.

        A class without `device` is told by memory alone: the largest such one that is no larger than the worker.
        """
        fitting = [each for each in self.gpus if memory_mb is None or each.memory_mb <= memory_mb]
        named = [each for each in fitting if each.device and each.device in device_name]
        if named:
            return named[0]
        sized = [each for each in fitting if not each.device and memory_mb is not None]
        return max(sized, key=lambda each: each.memory_mb, default=None)

    def class_short_of_memory(self, device_name: str, memory_mb: int | None) -> GpuClass | None:
        """Return the class that a worker's device names and whose memory it lacks, where it has that of none."""
        known = self.class_of(device_name, memory_mb)
        if memory_mb is None or (known is not None and known.device):
            return None
        return next((each for each in self.gpus if each.device and each.device in device_name), None)

    def startable(self, memory_mb: int = 0, features: Iterable[str] = ()) -> int:
        """Return how many workers that a unit with these requirements fits an autoscaler may start."""
        needed = frozenset(features)
        return sum(each.workers_max for each in self.gpus if each.fits(memory_mb, needed))

    def gpu_second_cost(self, class_name: str | None, at: datetime) -> Decimal | None:
        """Return what a GPU-second of a class cost at a moment, else one of the pool; None where nothing is known."""
        of_class = next((each.cost for each in self.gpus if each.name == class_name), ())
        own = _in_force(of_class, at)
        return _in_force(self.cost, at) if own is None else own


UNKNOWN_POOL = PoolPlan()


def _in_force(costs: Sequence[GpuCost], at: datetime) -> Decimal | None:
    begun = [each for each in costs if each.starts_at <= at]
    return max(begun, key=lambda each: each.starts_at).per_gpu_second if begun else None


class _PoolFile(StrictTable):
    pools: Mapping[str, PoolPlan] = Field(default_factory=dict)


def parse_pools(text: str, source: str) -> dict[str, PoolPlan]:
    """Return the pools of a file by name. `source` names the file in the CatalogError."""
    try:
        content = _PoolFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{source} is not valid TOML: {error}") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise CatalogError(f"{source}: " + "; ".join(problems)) from error
    for pool, plan in content.pools.items():
        names = [each.name for each in plan.gpus]
        if len(names) != len(set(names)):
            raise CatalogError(f"{source}: pools.{pool}: two classes of GPU have one name")
    return dict(content.pools)


@lru_cache(maxsize=8)
def load_pools(extra_dir: Path | None = None) -> Mapping[str, PoolPlan]:
    """Return what is known of the pools: the operator's file, or the shipped one. Raises CatalogError."""
    own = extra_dir / POOL_FILE if extra_dir else None
    if own is not None and own.is_file():
        return parse_pools(own.read_text(encoding="utf-8"), str(own))
    return parse_pools(files("app.catalog").joinpath(POOL_FILE).read_text(encoding="utf-8"), POOL_FILE)


def pool_plan(pool: str, extra_dir: Path | None = None) -> PoolPlan:
    """Return what is known of one pool."""
    return load_pools(extra_dir).get(pool, UNKNOWN_POOL)
