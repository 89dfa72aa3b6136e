"""Check a price book before it may be approved: the schema, then its own worked examples."""

from dataclasses import dataclass

from pricing.book import PriceBook, PriceError, parse_book
from pricing.money import Money
from pricing.price import price
from pricing.rules import Example
from pricing.schema import BookError, Problem
from pricing.usage import Customer, Usage


@dataclass(frozen=True, slots=True)
class ExampleFailure:
    """A worked example that fails: its index, the outcome of the rules, and their total (None where they refuse)."""

    index: int
    example: Example
    outcome: str
    total: Money | None = None

    def __str__(self) -> str:
        return f"example {self.example.name!r} expects {self.example.total}, but the rules give {self.outcome}"


def check_examples(book: PriceBook) -> list[ExampleFailure]:
    """Price every worked example of a book and return those that fail."""
    failures = []
    for index, example in enumerate(book.examples):
        try:
            total = price(book, *example_inputs(example), example.at).total
        except (PriceError, ValueError) as error:
            failures.append(ExampleFailure(index, example, str(error)))
            continue
        if total != example.total:
            failures.append(ExampleFailure(index, example, str(total), total))
    return failures


def example_inputs(example: Example) -> tuple[Usage, Customer]:
    """Return the usage and the customer of an example."""
    usage = Usage(example.key, example.seconds, example.input_seconds, example.service_tier)
    return usage, Customer(membership=example.membership, free_seconds=example.free_seconds)


def validate(text: str) -> list[Problem]:
    """Return every problem of a book's TOML: the schema first, and if that is valid, its examples."""
    try:
        book = parse_book(text)
    except BookError as error:
        return error.problems
    return [Problem(f"examples[{failure.index}]", str(failure)) for failure in check_examples(book)]
