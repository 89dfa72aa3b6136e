"""A growing process asks to be replaced; one that is merely large does not."""

from workers.engine.memory_watchdog import MemoryGrowth

MIB = 1 << 20


def grown(sizes: list[int], **limits: int) -> list[bool]:
    remaining = iter(sizes)
    growth = MemoryGrowth(measure=lambda: next(remaining) * MIB, **{"least_bytes": 100 * MIB, **limits})
    return [growth.is_too_large() for _ in sizes]


def test_settling_is_not_growth() -> None:
    assert grown([500, 900, 2000, 2100, 1900]) == [False] * 5


def test_growth_beyond_the_factor_asks_for_a_replacement() -> None:
    assert grown([1000, 1000, 1000, 1400, 1501]) == [False, False, False, False, True]


def test_little_growth_of_a_small_process_is_none() -> None:
    assert grown([100, 100, 100, 190]) == [False] * 4


def test_another_model_begins_anew() -> None:
    sizes = iter([100, 100, 100, 5000, 5000, 5000, 5100])
    growth = MemoryGrowth(measure=lambda: next(sizes) * MIB, least_bytes=MIB)
    assert [growth.is_too_large() for _ in range(3)] == [False] * 3
    growth.reset()
    assert [growth.is_too_large() for _ in range(4)] == [False] * 4


def test_this_process_is_measured() -> None:
    assert not MemoryGrowth().is_too_large()
