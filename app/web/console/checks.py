"""What stands beside a book's text: its problems, its worked examples, and what it changes against another book."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.clock import now
from app.prices.find import book_by_id
from app.web.formats import money
from pricing.book import PriceBook, parse_book
from pricing.check import check_examples
from pricing.diff import Figure, diff, figures
from pricing.money import settle
from pricing.schema import BookError


def check_text(session: Session, toml: str, base_id: str | None) -> dict[str, Any]:
    """Return the findings on a text: problems of its form, or its examples and what it changes against the base."""
    nothing: dict[str, Any] = {"problems": [], "examples": [], "changes": [], "figures": [], "base": base_id}
    try:
        book = parse_book(toml)
    except BookError as error:
        return nothing | {"problems": [{"path": each.path, "message": each.message} for each in error.problems]}
    failures = {each.index: each.outcome for each in check_examples(book)}
    examples = [
        {
            "name": each.name,
            "total": money(each.total.text, book.currency),
            "outcome": failures.get(index),
        }
        for index, each in enumerate(book.examples)
    ]
    found = nothing | {"examples": sorted(examples, key=lambda each: each["outcome"] is None)}
    if base_id is None:
        return found
    base = book_by_id(session, base_id).book
    return found | {
        "changes": [{"words": each.words, "percent": each.percent} for each in diff(base, book)],
        "figures": _figures(base, book, now(session)),
    }


def _figures(base: PriceBook, book: PriceBook, at: datetime) -> list[dict[str, Any]]:
    """Return the prices per second that change, as they are shown: rounded, with the exact change in per cent."""

    def shown(figure: Figure, which: str) -> str:
        amount = getattr(figure, which)
        return "–" if amount is None else money(settle(amount, book.currency).text, book.currency)

    return [
        {
            "what": f"{each.membership}, {each.resolution}"
            + ("" if each.model == "any" else f", {each.model}")
            + ("" if each.mode == "t2v" else f", {each.mode}"),
            "before": shown(each, "before"),
            "after": shown(each, "after"),
            "percent": each.percent,
        }
        for each in figures(base, book, at)
        if each.before != each.after
    ]
