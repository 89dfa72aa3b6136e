"""The same actions on two databases in turns, so that whatever else the machine does slows both alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import psycopg

from app.db import forget_engines
from app.settings import get_settings, set_environment

WARM_UP = 4


@dataclass(frozen=True)
class Pair:
    """Two databases on one server: one as it was set up, and a copy of it that is to be filled."""

    plain: str
    filled: str

    @classmethod
    def copy_configured(cls) -> "Pair":
        """Copy the configured database, to which nobody may be connected."""
        plain = get_settings().database_url
        forget_engines()
        name = plain.rpartition("/")[2]
        with psycopg.connect(plain.rpartition("/")[0] + "/postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}_filled" TEMPLATE "{name}"')  # type: ignore[arg-type]
        return cls(plain, f"{plain}_filled")

    def use(self, url: str) -> None:
        """Let everything of this process use one of the two; connections to both stay open."""
        set_environment(database_url=url)

    def measure(
        self,
        actions: Mapping[str, Callable[[], object]],
        *,
        rounds: int,
        each_second: Callable[[], object] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """Return the medians of the milliseconds of each action on the plain and on the filled database.

        `each_second` is called for both about once a second, between the actions, and not measured.
        """
        times: dict[tuple[str, str], list[float]] = {(name, url): [] for name in actions for url in self._urls}
        due = perf_counter()
        for number in range(WARM_UP + rounds):
            if each_second is not None and perf_counter() >= due:
                due = perf_counter() + 1
                for url in self._urls:
                    self.use(url)
                    each_second()
            for name, action in actions.items():
                for url in self._urls if number % 2 else self._urls[::-1]:
                    self.use(url)
                    began = perf_counter()
                    action()
                    if number >= WARM_UP:
                        times[name, url].append((perf_counter() - began) * 1000)
        self.use(self.plain)
        return {name: (median(times[name, self.plain]), median(times[name, self.filled])) for name in actions}

    @property
    def _urls(self) -> tuple[str, str]:
        return self.plain, self.filled


def vacuum() -> None:
    """Vacuum and analyze the configured database, as autovacuum does with time. It lasts as long as it needs."""
    with psycopg.connect(get_settings().database_url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("VACUUM ANALYZE")


def print_ratio(name: str, plain: float, filled: float, *, bar: float, what: str) -> None:
    """Print the milliseconds of an action on both databases, their ratio, and whether it is within its bar."""
    ratio = filled / plain
    mark = "pass" if ratio <= bar else "MISS"
    print(f"{mark}  {name}: {plain:.1f} ms, {filled:.1f} ms with {what}, ratio {ratio:.2f} (bar {bar})")


def print_share(name: str, part: float, whole: float, *, bar: float) -> None:
    """Print the seconds of a part and of a whole, its share, and whether it is within its bar."""
    share = part / whole
    mark = "pass" if share <= bar else "MISS"
    print(f"{mark}  {name}: {part:.3f} s of {whole:.2f} s, {share:.1%} (bar {bar:.0%})")
