"""`cinemeter prices`: validate price books, list stored ones, publish one with a second approver, withdraw one."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.orm import Session

from app.accounts.keys import authenticate
from app.audit_log.actor import Actor
from app.cli.home import KEYS_RECORD, read_record
from app.cli.options import Home, home_folder, parse_time
from app.cli.price_drafts import actor, approve, diff_books, draft, simulate
from app.cli.server_urls import any_servers
from app.clock import now
from app.db import transaction
from app.prices.books import approve_book, draft_book, schedule_book, withdraw_book
from app.prices.find import list_books
from pricing.book import parse_book
from pricing.check import validate

out = Console()
err = Console(stderr=True)
prices = typer.Typer(no_args_is_help=True, help="Price books.")


@prices.command("validate")
def validate_books(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Price books (TOML).")],
) -> None:
    """Parse price books and compute their worked examples. Exit 1 and print every problem."""
    invalid = 0
    for file in files:
        text = file.read_text(encoding="utf-8")
        problems = validate(text)
        for problem in problems:
            err.print(f"{file}: {problem}", highlight=False, markup=False, soft_wrap=True)
        if problems:
            invalid += 1
            continue
        book = parse_book(text)
        line = f"{file}: {book.name} is valid; {len(book.examples)} examples pass; {book.content_hash}"
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    if invalid:
        raise typer.Exit(1)


@prices.command("list")
def list_stored(home: Home = None) -> None:
    """List the stored price books, one per line, the latest to take effect first."""
    with any_servers(home_folder(home)), transaction() as session:
        for stored in list_books(session):
            effective = stored.effective_at.isoformat() if stored.effective_at else "-"
            columns = (stored.id, stored.book.name, str(stored.state_at(now(session))), effective, stored.content_hash)
            sys.stdout.write("\t".join(columns) + "\n")


@prices.command("publish")
def publish(
    book: Annotated[str, typer.Argument(help="Id of an approved book, or a file to draft and approve as well.")],
    effective_at: Annotated[str, typer.Option(help="Time in the future when it takes effect (ISO 8601).")],
    note: Annotated[str, typer.Option(help="For a file: the reason, for the audit log.")] = "",
    key: Annotated[str | None, typer.Option(help="The author's key. Default: the home's key `admin`.")] = None,
    approver_key: Annotated[
        str | None, typer.Option(help="The approver's key. Default: the home's key `approver`.")
    ] = None,
    home: Home = None,
) -> None:
    """Schedule an approved price book. A file is drafted, approved and scheduled in one transaction.

    Until it takes effect, `cinemeter prices withdraw` can withdraw it.
    """
    moment = parse_time(effective_at)
    with any_servers(home_folder(home)), transaction() as session:
        author = actor(session, key, home, "admin")
        if Path(book).is_file():
            stored = draft_book(session, author, Path(book).read_text(encoding="utf-8"), note=note)
            approve_book(
                session, _approver(session, approver_key, home, author), stored.id, content_hash=stored.content_hash
            )
            book = stored.id
        stored = schedule_book(session, author, book, moment)
        line = f"{stored.id}: {stored.book.name} takes effect at {moment.isoformat()}; {stored.content_hash}"
    out.print(line, highlight=False, markup=False, soft_wrap=True)


@prices.command("withdraw")
def withdraw(
    book: Annotated[str, typer.Argument(help="Id of a book that has not taken effect.")],
    reason: Annotated[str, typer.Option(help="The reason, for the audit log.")],
    key: Annotated[str | None, typer.Option(help="A key with a pricing role. Default: the home's key `admin`.")] = None,
    home: Home = None,
) -> None:
    """Withdraw a price book before it takes effect. This is final."""
    with any_servers(home_folder(home)), transaction() as session:
        stored = withdraw_book(session, actor(session, key, home, "admin"), book, reason=reason)
        line = f"{stored.id}: {stored.book.name} is withdrawn"
    out.print(line, highlight=False, markup=False, soft_wrap=True)


def _approver(session: Session, key: str | None, home: Path | None, author: Actor) -> Actor:
    """Return the approver: without a second key the author, whom the rules allow only if nobody else can approve."""
    approver_key = key or read_record(home_folder(home) / KEYS_RECORD).get("approver")
    return Actor.of(authenticate(session, str(approver_key))) if approver_key else author


prices.command("draft")(draft)
prices.command("diff")(diff_books)
prices.command("simulate")(simulate)
prices.command("approve")(approve)
