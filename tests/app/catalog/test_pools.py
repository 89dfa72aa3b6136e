"""Pools as data: classes of GPU by device and memory, costs with dates, and files that are refused with the reason."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from app.catalog.errors import CatalogError
from app.catalog.gpu_features import cuda_features
from app.catalog.models import load_catalog
from app.catalog.pools import load_pools, parse_pools, pool_plan

FILE = """
[pools.wan]
cold_start_seconds = 240
cost = [{ starts_at = 2026-01-01T00:00:00Z, per_gpu_second = "0.004" }]

[[pools.wan.gpus]]
name = "24g"
memory_gib = 23.5
features = ["bfloat16"]
workers_max = 3
cost = [
    { starts_at = 2026-06-01T00:00:00Z, per_gpu_second = "0.001" },
    { starts_at = 2026-02-01T00:00:00+08:00, per_gpu_second = "0.002" },
]

[[pools.wan.gpus]]
name = "80g"
device = "H100"
memory_gib = 79
features = ["bfloat16", "fp8"]
workers_max = 2

[[pools.wan.gpus]]
name = "slice"
device = "H100"
memory_gib = 39
"""
WAN = parse_pools(FILE, "pools.toml")["wan"]


@pytest.mark.parametrize(
    ("device", "memory_gib", "name"),
    [
        ("NVIDIA H100 80GB HBM3", 79.1, "80g"),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 39.5, "slice"),
        ("NVIDIA RTX 4090", 23.6, "24g"),
        ("NVIDIA A100", 79.0, "24g"),
        ("NVIDIA T4", 14.6, None),
    ],
)
def test_a_worker_is_of_the_class_that_its_device_and_memory_tell(
    device: str, memory_gib: float, name: str | None
) -> None:
    known = WAN.class_of(device, int(memory_gib * 1024))
    assert (known.name if known else None) == name


@pytest.mark.parametrize(
    ("gpu", "at", "cost"),
    [
        ("24g", datetime(2026, 1, 31, 15, 59, tzinfo=UTC), "0.004"),
        ("24g", datetime(2026, 1, 31, 16, 0, tzinfo=UTC), "0.002"),
        ("24g", datetime(2026, 7, 1, tzinfo=UTC), "0.001"),
        ("80g", datetime(2026, 7, 1, tzinfo=UTC), "0.004"),
        (None, datetime(2026, 7, 1, tzinfo=UTC), "0.004"),
        ("24g", datetime(2025, 7, 1, tzinfo=UTC), None),
    ],
)
def test_a_cost_is_in_force_from_its_date_on(gpu: str | None, at: datetime, cost: str | None) -> None:
    assert WAN.gpu_second_cost(gpu, at) == (None if cost is None else Decimal(cost))


def test_what_may_be_started_is_what_fits_a_class_with_a_ceiling() -> None:
    assert (WAN.startable(), WAN.startable(30 * 1024), WAN.startable(0, ["fp8"]), WAN.startable(90 * 1024)) == (
        5,
        2,
        2,
        0,
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("0.004", "-1"), "greater than or equal to 0"),
        (('"0.004"', "0.004"), "is not exact"),
        (("2026-01-01T00:00:00Z", "2026-01-01T00:00:00"), "needs a time zone"),
        (('"fp8"', '"fp9"'), "fp8"),
        (('name = "80g"', 'name = "24g"'), "two classes of GPU have one name"),
        (("workers_max", "worker_max"), "worker_max"),
        (("[pools.wan]", "[pools.wan"), "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(
    change: tuple[str, str], problem: str, tmp_path: Path
) -> None:
    text = FILE.replace(*change)
    with pytest.raises(CatalogError, match=problem):
        parse_pools(text, "pools.toml")
    (tmp_path / "pools.toml").write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError, match=problem):
        load_catalog(tmp_path)


def test_the_shipped_file_and_its_example_can_be_read() -> None:
    assert load_pools() == {}
    assert pool_plan("wan").startable() == 0
    text = (Path(__file__).parents[3] / "app/catalog/pools.toml").read_text(encoding="utf-8")
    example = text[text.index("# [pools.wan]") : text.index("[pools]\n")]
    plan = parse_pools("\n".join(line.removeprefix("# ") for line in example.splitlines()), "the example")["wan"]
    assert (plan.cold_start_seconds, plan.gpus[0].workers_max) == (240, 8)


def test_features_follow_from_the_compute_capability() -> None:
    assert cuda_features(7, 5) == ["cuda-7.0", "cuda-7.5"]
    assert set(cuda_features(8, 9)) - set(cuda_features(8, 6)) == {"cuda-8.9", "fp8"}
    assert {"bfloat16", "flash-attention", "cuda-8.0"} <= set(cuda_features(8, 0))
