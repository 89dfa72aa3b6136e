"""Go over rows in batches, each in a short transaction of its own."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import text

from app.db import allow_erasure, transaction

BATCH = 200


def key_pages(query: str, subject: str, *, first: tuple[Any, ...], size: int = BATCH) -> Iterator[Sequence[Any]]:
    """Yield pages of the rows of a query, whose columns are their place in its order.

    The query has `:subject`, and its columns after `(:k0, :k1, …)` in their order; `first` is before every place.
    """
    place: tuple[Any, ...] = first
    while True:
        inputs = {f"k{number}": value for number, value in enumerate(place)}
        with transaction() as session:
            rows = session.execute(text(f"{query} LIMIT {size}"), {"subject": subject, **inputs}).all()
        if not rows:
            return
        yield rows
        place = tuple(rows[-1])


def run_statements(statements: Sequence[str], **inputs: Any) -> int:
    """Run statements in one transaction that may change erasable columns. Returns the rows that the last one changed.

    The other statements may have changed rows of their own tables.
    """
    with transaction() as session:
        allow_erasure(session)
        count = 0
        for statement in statements:
            names = {name: value for name, value in inputs.items() if f":{name}" in statement}
            count = int(session.execute(text(statement), names).rowcount)  # type: ignore[attr-defined]
    return count


def repeat(statement: str, **inputs: Any) -> Iterator[int]:
    """Run a statement that changes at most a batch of rows until none is left; yield the rows of each run."""
    while count := run_statements([statement], **inputs):
        yield count
