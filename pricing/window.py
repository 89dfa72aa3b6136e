"""Titles in two languages and half-open windows of time: the small parts that several rules share."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pricing.schema import Table


@dataclass(frozen=True, slots=True)
class Title:
    """The name of a rule as customers read it, in English and in Chinese."""

    en: str
    zh: str

    @classmethod
    def read(cls, table: Table) -> "Title":
        """Read a required `title = { en = "…", zh = "…" }`."""
        inner = table.table("title")
        title = cls(en=inner.text("en"), zh=inner.text("zh"))
        inner.close()
        return title

    def content(self) -> dict[str, Any]:
        """Return the title as plain values."""
        return {"en": self.en, "zh": self.zh}


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open stretch of time: the start belongs to it, the end does not. An absent edge is open."""

    starts_at: datetime | None = None
    ends_at: datetime | None = None

    @classmethod
    def read(cls, table: Table) -> "Window":
        """Read the optional `starts_at` and `ends_at` of a rule."""
        window = cls(table.moment("starts_at"), table.moment("ends_at"))
        if window.starts_at and window.ends_at and window.starts_at >= window.ends_at:
            table.wrong("ends_at", "must lie after starts_at; the window is half-open, so the end is not part of it")
        return window

    def content(self) -> dict[str, Any]:
        """Return the edges that are set, as text in UTC."""
        edges = {"starts_at": self.starts_at, "ends_at": self.ends_at}
        return {name: moment_text(edge) for name, edge in edges.items() if edge is not None}

    def holds(self, at: datetime) -> bool:
        """Say whether the moment is in the window."""
        return (self.starts_at is None or self.starts_at <= at) and (self.ends_at is None or at < self.ends_at)


# The window of a rule that names no edge.
ALWAYS = Window()


def moment(at: datetime) -> datetime:
    """Return a moment in UTC. Raises TypeError unless it is a datetime, ValueError without an offset."""
    if not isinstance(at, datetime):
        raise TypeError(f"a moment is a datetime, not {type(at).__name__}")
    if at.utcoffset() is None:
        raise ValueError("a moment needs an offset from UTC; a naive datetime is ambiguous")
    return at.astimezone(UTC)


def moment_text(at: datetime) -> str:
    """Return the one text form of a moment: ISO 8601 in UTC."""
    return moment(at).isoformat()


class Epochs:
    """The stretches between the edges of some windows. Moments of one stretch have the same rules in force."""

    def __init__(self, windows: Iterable[Window]) -> None:
        edges = {edge for window in windows for edge in (window.starts_at, window.ends_at) if edge is not None}
        # The first stretch has no beginning of its own.
        self.starts = [datetime.min.replace(tzinfo=UTC), *sorted(edges)]

    def of(self, at: datetime) -> datetime:
        """Return the start of the stretch that holds a moment with an offset from UTC."""
        return self.starts[bisect_right(self.starts, at) - 1]
