"""What stands beside the text of a book or contract: problems, worked examples, and what it changes."""

from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.memberships import membership_at
from app.clock import now
from app.prices.find import book_at, book_by_id
from app.web.formats import money
from pricing.book import PriceBook, PriceError, parse_book
from pricing.check import check_examples
from pricing.contract import Contract, parse_contract
from pricing.diff import Figure, diff, figures, sample_keys
from pricing.labels import key_label
from pricing.money import round_to_minor
from pricing.price import per_second
from pricing.rate_key import RateKey
from pricing.schema import BookError
from pricing.usage import Customer, Usage
from pricing.window import ALWAYS


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


def check_contract(session: Session, toml: str, account_id: str) -> dict[str, Any]:
    """Return the findings on a contract's text: problems of its form, or a second's price without and with it.

    Both are what the account pays under the book and the membership that it has now.
    """
    try:
        read = parse_contract(toml)
    except BookError as error:
        problems = [{"path": each.path, "message": each.message} for each in error.problems]
        return {"problems": problems, "figures": [], "membership": ""}
    moment = now(session)
    book, membership = book_at(session, moment).book, membership_at(session, account_id, moment)
    # Shown as agreed, though its time may not have come.
    contract = replace(read, window=ALWAYS)

    def second(key: RateKey, agreed: Contract | None) -> str:
        try:
            amount = per_second(book, Usage(key, Fraction(1)), Customer(membership, agreed), moment)
        except PriceError:
            return "–"
        return money(round_to_minor(amount, book.currency).text, book.currency)

    figures = [
        {"what": key_label(key), "before": second(key, None), "after": second(key, contract)}
        for key in sample_keys((*book.rates, *contract.rates))
    ]
    return {"problems": [], "figures": figures, "membership": membership}


def _figures(base: PriceBook, book: PriceBook, at: datetime) -> list[dict[str, Any]]:
    """Return the prices per second that change, as they are shown: rounded, with the exact change in per cent."""

    def shown(figure: Figure, which: str) -> str:
        amount = getattr(figure, which)
        return "–" if amount is None else money(round_to_minor(amount, book.currency).text, book.currency)

    return [
        {
            "what": f"{each.membership}, {key_label(each.key)}",
            "before": shown(each, "before"),
            "after": shown(each, "after"),
            "percent": each.percent,
        }
        for each in figures(base, book, at)
        if each.before != each.after
    ]
