"""`cinemeter prices`: check price books, list the stored ones, publish one with four eyes, take it back."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.orm import Session

from app.accounts.keys import authenticate
from app.audit_log.actor import Actor
from app.cli.home import KEYS_RECORD, read_record
from app.cli.options import Home, parse_choice, parse_time
from app.cli.price_drafts import actor, approve, diff_books, draft, simulate
from app.cli.server_urls import any_servers
from app.clock import now
from app.db import transaction
from app.prices.books import approve_book, draft_book, schedule_book, withdraw_book
from app.prices.find import list_books
from pricing.book import parse_book
from pricing.check import validate as problems_of

out = Console()
err = Console(stderr=True)
prices = typer.Typer(no_args_is_help=True, help="Price books.")


@prices.command("validate")
def validate_books(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Price books (TOML).")],
) -> None:
    """Parse price books and compute their worked examples; exit 1 with every problem."""
    invalid = 0
    for file in files:
        text = file.read_text(encoding="utf-8")
        problems = problems_of(text)
        for problem in problems:
            err.print(f"{file}: {problem}", highlight=False, markup=False, soft_wrap=True)
        if problems:
            invalid += 1
            continue
        book = parse_book(text)
        line = f"{file}: {book.name} is sound; {len(book.examples)} examples hold; {book.content_hash}"
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    if invalid:
        raise typer.Exit(1)


@prices.command("list")
def list_stored(home: Home = None) -> None:
    """List the stored price books, a line each, the one that takes effect last first."""
    with any_servers(parse_choice(home)), transaction() as session:
        for stored in list_books(session):
            effective = stored.effective_at.isoformat() if stored.effective_at else "-"
            words = (stored.id, stored.book.name, str(stored.state_at(now(session))), effective, stored.content_hash)
            sys.stdout.write("\t".join(words) + "\n")


@prices.command("publish")
def publish(
    book: Annotated[str, typer.Argument(help="The id of an approved book; or a file, to draft and approve it too.")],
    effective_at: Annotated[str, typer.Option(help="When it takes effect (ISO 8601), in the future.")],
    note: Annotated[str, typer.Option(help="Of a file: why, for whoever reads the trail.")] = "",
    key: Annotated[str | None, typer.Option(help="The author's key; else the home's key `admin`.")] = None,
    approver_key: Annotated[str | None, typer.Option(help="The approver's key; else the home's `approver`.")] = None,
    home: Home = None,
) -> None:
    """Schedule an approved price book; it takes effect by time alone. A file is drafted and approved too, or nothing.

    Until it takes effect, `cinemeter prices withdraw` takes it back.
    """
    moment = parse_time(effective_at)
    with any_servers(parse_choice(home)), transaction() as session:
        author = actor(session, key, home, "admin")
        if Path(book).is_file():
            stored = draft_book(session, author, Path(book).read_text(encoding="utf-8"), note=note)
            approve_book(
                session, _second(session, approver_key, home, author), stored.id, content_hash=stored.content_hash
            )
            book = stored.id
        stored = schedule_book(session, author, book, moment)
        line = f"{stored.id}: {stored.book.name} takes effect at {moment.isoformat()}; {stored.content_hash}"
    out.print(line, highlight=False, markup=False, soft_wrap=True)


@prices.command("withdraw")
def withdraw(
    book: Annotated[str, typer.Argument(help="The id of a book that has not taken effect.")],
    reason: Annotated[str, typer.Option(help="Why, for whoever reads the trail.")],
    key: Annotated[str | None, typer.Option(help="A key with a role in pricing; else the home's key `admin`.")] = None,
    home: Home = None,
) -> None:
    """Take a price book back for good, before it takes effect."""
    with any_servers(parse_choice(home)), transaction() as session:
        stored = withdraw_book(session, actor(session, key, home, "admin"), book, reason=reason)
        line = f"{stored.id}: {stored.book.name} is withdrawn"
    out.print(line, highlight=False, markup=False, soft_wrap=True)


def _second(session: Session, key: str | None, home: Path | None, author: Actor) -> Actor:
    """Return the approver: without a second key the author, whom the rules let through where nobody else could."""
    second = key or read_record(parse_choice(home) / KEYS_RECORD).get("approver")
    return Actor.of(authenticate(session, str(second))) if second else author


prices.command("draft")(draft)
prices.command("diff")(diff_books)
prices.command("simulate")(simulate)
prices.command("approve")(approve)
