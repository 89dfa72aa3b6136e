"""A short day by a virtual clock: the same seed gives the same day, every job ends, and the books agree."""

from itertools import islice
from random import Random

import pytest

from tests.load.demand import arrivals
from tests.load.figures import jain, percentile
from tests.load.report import print_outcome
from tests.load.virtual import run_virtual


def test_a_seed_gives_the_same_orders() -> None:
    first, second = (list(islice(arrivals(Random(7), 20, 2.0), 500)) for _ in range(2))
    assert first == second
    assert [arrival.at for arrival in first] == sorted(arrival.at for arrival in first)
    assert sum(arrival.customer == 0 for arrival in first) > 50, "one account orders more than its part"


def test_figures_are_what_they_are_called() -> None:
    assert (jain([2.0, 2.0, 2.0]), jain([1.0, 0.0])) == (1.0, 0.5)
    assert [percentile([3.0, 1.0, 2.0], part) for part in (0.0, 0.5, 0.99)] == [1.0, 2.0, 3.0]


def test_a_short_day_ends_and_its_books_agree(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("LEASE_SECONDS", "LOG_LEVEL"):
        monkeypatch.setenv(f"CINEMETER_{name}", {"LEASE_SECONDS": "120", "LOG_LEVEL": "ERROR"}[name])
    day, steps, _ = run_virtual(jobs=15, gpus=3, accounts=4, seed=3)
    assert (day.jobs, day.refused) == (15, 0)
    assert steps.counts["order"] == 15
    assert steps.counts["end of a segment"] >= steps.counts["end of a finish"] > 10
    assert print_outcome() == 0
    assert "jobs that have not ended: 0" in capsys.readouterr().out
