"""Preview of a price book or contract while it is edited: problems, worked examples, and changes."""

import tomllib
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.memberships import count_holders, membership_at
from app.clock import now
from app.prices.find import book_at, book_by_id
from app.web.console.book_form import field_id, field_paths, rows_of
from app.web.formats import money
from pricing.book import PriceBook, PriceError, parse_book
from pricing.check import check_examples
from pricing.contract import Contract, parse_contract
from pricing.diff import Change, Figure, diff, figures, sample_keys
from pricing.labels import key_label
from pricing.money import round_to_minor
from pricing.price import per_second
from pricing.rate_key import RateKey
from pricing.schema import BookError, Problem
from pricing.toml_edit import TomlText, syntax_line
from pricing.usage import Customer, Usage
from pricing.window import ALWAYS


def preview_book(
    session: Session, toml: str, base_id: str | None, *, at: datetime | None = None, fields: bool = False
) -> dict[str, Any]:
    """Return the preview of a book's TOML: its problems, or its examples and its changes against the base.

    `at`: the moment of the prices per second, by default now. With `fields` each problem names its field of the form.
    """
    empty: dict[str, Any] = {"problems": [], "examples": [], "changes": [], "amounts": [], "figures": [], "prices": {}}
    empty["base"] = base_id
    places = _places(toml)
    empty["removed_memberships"] = _removed_memberships(session, places, base_id)
    try:
        book = parse_book(toml)
    except BookError as error:
        shown = field_paths(places) if places and fields else set()
        return empty | {"problems": [_problem(each, places, shown) for each in error.problems]}
    moment = at or now(session)
    preview = empty | {"examples": _examples(book, places), "prices": _prices(book, moment)}
    if base_id is None:
        return preview
    base = book_by_id(session, base_id).book
    changes = diff(base, book)
    amounts = [each for each in changes if each.path.startswith("examples.") and each.path.endswith(".total")]
    return preview | {
        "changes": [{"words": each.words, "percent": each.percent} for each in changes if each not in amounts],
        "amounts": [_amount(each, book.currency) for each in amounts],
        "figures": _figures(base, book, moment),
    }


def _removed_memberships(session: Session, places: TomlText | None, base_id: str | None) -> list[dict[str, Any]]:
    """Return the memberships of the base that the draft lacks although accounts have them, with their number."""
    if places is None or base_id is None:
        return []
    kept = {row.get("id") for row in rows_of(places, "memberships")}
    removed = [name for name in book_by_id(session, base_id).book.memberships if name not in kept]
    holders = count_holders(session, removed, now(session)) if removed else {}
    return [{"id": name, "accounts": count} for name, count in holders.items()]


def _places(toml: str) -> TomlText | None:
    try:
        return TomlText(toml)
    except tomllib.TOMLDecodeError:
        return None


def _problem(problem: Problem, places: TomlText | None, shown: set[str]) -> dict[str, Any]:
    """Return a problem with its line, and the id of its field where the form shows it."""
    line = places.line_of(problem.path) if places else syntax_line(problem.message)
    field = field_id(problem.path) if problem.path in shown else ""
    return {"path": problem.path, "message": problem.message, "line": line, "field": field}


def _examples(book: PriceBook, places: TomlText | None) -> list[dict[str, Any]]:
    """Return the worked examples, those that fail first, with the outcome of the rules and their line."""
    failures = {each.index: each for each in check_examples(book)}
    examples = []
    for index, each in enumerate(book.examples):
        failure = failures.get(index)
        examples.append(
            {
                "name": each.name,
                "total": money(each.total.text, book.currency),
                "outcome": failure.outcome if failure else None,
                "total_after": failure.total if failure else None,
                "line": places.line_of(f"examples[{index}].total") if places and failure else None,
                "field": "",
            }
        )
    return sorted(examples, key=lambda each: each["outcome"] is None)


def _amount(change: Change, currency: str) -> dict[str, str]:
    """Return the amount that a worked example expects, before and after."""
    before, after = (money(text, currency) if text else "–" for text in (change.before, change.after))
    return {"name": change.path.removeprefix("examples.").removesuffix(".total"), "before": before, "after": after}


def _prices(book: PriceBook, at: datetime) -> dict[tuple[int, int], str]:
    """Return the price of a second by the positions of a rate and a membership in the book."""
    prices = {}
    for row, rate in enumerate(book.rates):
        key = rate.pattern.sample_keys()[0]
        for column, membership in enumerate(book.memberships):
            try:
                amount = per_second(book, Usage(key, Fraction(1)), Customer(membership), at)
            except PriceError:
                continue
            prices[row, column] = money(round_to_minor(amount, book.currency).text, book.currency)
    return prices


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
