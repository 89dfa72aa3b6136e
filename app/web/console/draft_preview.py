"""Preview of a price book or contract while it is edited: problems, worked examples, and changes."""

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


def preview_book(session: Session, toml: str, base_id: str | None) -> dict[str, Any]:
    """Return the preview of a book's TOML: its problems, or its examples and its changes against the base."""
    empty: dict[str, Any] = {"problems": [], "examples": [], "changes": [], "figures": [], "base": base_id}
    try:
        book = parse_book(toml)
    except BookError as error:
        return empty | {"problems": [{"path": each.path, "message": each.message} for each in error.problems]}
    failures = {each.index: each.outcome for each in check_examples(book)}
    examples = [
        {
            "name": each.name,
            "total": money(each.total.text, book.currency),
            "outcome": failures.get(index),
        }
        for index, each in enumerate(book.examples)
    ]
    preview = empty | {"examples": sorted(examples, key=lambda each: each["outcome"] is None)}
    if base_id is None:
        return preview
    base = book_by_id(session, base_id).book
    return preview | {
        "changes": [{"words": each.words, "percent": each.percent} for each in diff(base, book)],
        "figures": _figures(base, book, now(session)),
    }


def preview_contract(session: Session, toml: str, account_id: str) -> dict[str, Any]:
    """Return the preview of a contract's TOML: its problems, or prices per second without and with it.

    Both prices are computed with the current book and the account's current membership.
    """
    try:
        parsed = parse_contract(toml)
    except BookError as error:
        problems = [{"path": each.path, "message": each.message} for each in error.problems]
        return {"problems": problems, "figures": [], "membership": ""}
    moment = now(session)
    book, membership = book_at(session, moment).book, membership_at(session, account_id, moment)
    # Shown as if in force, although it may start later.
    contract = replace(parsed, window=ALWAYS)

    def price_of(key: RateKey, agreed: Contract | None) -> str:
        try:
            amount = per_second(book, Usage(key, Fraction(1)), Customer(membership, agreed), moment)
        except PriceError:
            return "–"
        return money(round_to_minor(amount, book.currency).text, book.currency)

    figures = [
        {"what": key_label(key), "before": price_of(key, None), "after": price_of(key, contract)}
        for key in sample_keys((*book.rates, *contract.rates))
    ]
    return {"problems": [], "figures": figures, "membership": membership}


def _figures(base: PriceBook, book: PriceBook, at: datetime) -> list[dict[str, Any]]:
    """Return the prices per second that change: rounded for display, with the exact change in per cent."""

    def text_of(figure: Figure, which: str) -> str:
        amount = getattr(figure, which)
        return "–" if amount is None else money(round_to_minor(amount, book.currency).text, book.currency)

    return [
        {
            "what": f"{each.membership}, {key_label(each.key)}",
            "before": text_of(each, "before"),
            "after": text_of(each, "after"),
            "percent": each.percent,
        }
        for each in figures(base, book, at)
        if each.before != each.after
    ]
