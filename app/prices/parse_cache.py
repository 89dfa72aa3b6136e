"""Cache of parsed price documents by content hash: a stored text never changes, so each process parses it once."""

from collections.abc import Callable
from typing import TypeVar

from app.errors import AppError
from pricing.book import PriceBook, parse_book
from pricing.contract import Contract, parse_contract
from pricing.schema import BookError, Problem

Parsed = TypeVar("Parsed")

CACHE_SIZE = 256
_books: dict[str, PriceBook] = {}
_contracts: dict[str, Contract] = {}


def cached_book(content_hash: str, text: Callable[[], str]) -> PriceBook:
    """Return the book with this content hash; `text` is called only when it is not in the cache."""
    return _cached(_books, content_hash, lambda: parse_book(text()))


def cached_contract(content_hash: str, text: Callable[[], str]) -> Contract:
    """Return the contract with this content hash; `text` is called only when it is not in the cache."""
    return _cached(_contracts, content_hash, lambda: parse_contract(text()))


def parse_book_text(text: str) -> PriceBook:
    """Parse a submitted book.

    Raises AppError `invalid_price_book` with every problem, its path and what is allowed.
    """
    try:
        return parse_book(text)
    except BookError as error:
        raise book_refusal(error.problems) from None


def parse_contract_text(text: str) -> Contract:
    """Parse a submitted contract. Raises `invalid_price_book` with every problem."""
    try:
        return parse_contract(text)
    except BookError as error:
        raise book_refusal(error.problems) from None


def book_refusal(problems: list[Problem]) -> AppError:
    """Return the error that lists every problem of a book or contract."""
    return AppError(
        "invalid_price_book",
        str(problems[0]) if len(problems) == 1 else f"The text has {len(problems)} problems.",
        field="toml",
        problems=[{"path": problem.path, "message": problem.message} for problem in problems],
    )


def _cached(cache: dict[str, Parsed], content_hash: str, parse: Callable[[], Parsed]) -> Parsed:
    parsed = cache.get(content_hash)
    if parsed is None:
        if len(cache) >= CACHE_SIZE:
            cache.clear()
        parsed = cache[content_hash] = parse()
    return parsed
