"""Stretches of time in which no window opens or closes, so that a price does not depend on the moment."""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime

from pricing.window import Window


class Epochs:
    """The stretches between the edges of some windows. Moments of one stretch have the same rules in force."""

    def __init__(self, windows: Iterable[Window]) -> None:
        edges = {edge for window in windows for edge in (window.starts_at, window.ends_at) if edge is not None}
        # The first stretch has no beginning of its own.
        self.starts = [datetime.min.replace(tzinfo=UTC), *sorted(edges)]

    def of(self, at: datetime) -> datetime:
        """Return the start of the stretch that holds a moment with an offset from UTC."""
        return self.starts[bisect_right(self.starts, at) - 1]
