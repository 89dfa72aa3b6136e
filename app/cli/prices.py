"""`cinemeter prices`: check price books, list the stored ones, publish a new one with four eyes."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.accounts.keys import authenticate
from app.cli.home import KEYS_RECORD, read_record
from app.cli.options import Home, chosen, read_moment
from app.cli.price_trials import approve, diff_books, draft, simulate
from app.cli.services import any_servers
from app.clock import now
from app.db import transaction
from app.prices.actor import Actor
from app.prices.books import approve_book, draft_book, schedule_book
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
    unsound = 0
    for file in files:
        text = file.read_text(encoding="utf-8")
        problems = problems_of(text)
        for problem in problems:
            err.print(f"{file}: {problem}", highlight=False, markup=False, soft_wrap=True)
        if problems:
            unsound += 1
            continue
        book = parse_book(text)
        found = f"{file}: {book.name} is sound; {len(book.examples)} examples hold; {book.content_hash}"
        out.print(found, highlight=False, markup=False, soft_wrap=True)
    if unsound:
        raise typer.Exit(1)


@prices.command("list")
def list_stored(home: Home = None) -> None:
    """List the stored price books, a line each, the one that takes effect last first."""
    with any_servers(chosen(home)), transaction() as session:
        for stored in list_books(session):
            effective = stored.effective_at.isoformat() if stored.effective_at else "-"
            words = (stored.id, stored.book.name, str(stored.state_at(now(session))), effective, stored.content_hash)
            sys.stdout.write("\t".join(words) + "\n")


@prices.command("publish")
def publish(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The price book (TOML).")],
    effective_at: Annotated[str, typer.Option(help="When it takes effect (ISO 8601), in the future.")],
    note: Annotated[str, typer.Option(help="Why, for whoever reads the trail.")] = "",
    key: Annotated[str | None, typer.Option(help="The author's key; else the home's key `admin`.")] = None,
    approver_key: Annotated[str | None, typer.Option(help="The approver's key; else the home's `approver`.")] = None,
    home: Home = None,
) -> None:
    """Draft, approve and schedule a price book: all of it, or nothing. It takes effect by time alone."""
    moment = read_moment(effective_at)
    text = file.read_text(encoding="utf-8")
    known = read_record(chosen(home) / KEYS_RECORD)
    with any_servers(chosen(home)), transaction() as session:
        author = Actor.of(authenticate(session, key or str(known.get("admin", ""))))
        second = approver_key or known.get("approver")
        # Without a second person the author is asked, whom the rules let through only where nobody else could approve.
        approver = Actor.of(authenticate(session, str(second))) if second else author
        stored = draft_book(session, author, text, note=note)
        approve_book(session, approver, stored.id, content_hash=stored.content_hash)
        schedule_book(session, author, stored.id, moment)
        told = f"{stored.id}: {stored.book.name} takes effect at {moment.isoformat()}; {stored.content_hash}"
    out.print(told, highlight=False, markup=False, soft_wrap=True)


prices.command("draft")(draft)
prices.command("diff")(diff_books)
prices.command("simulate")(simulate)
prices.command("approve")(approve)
