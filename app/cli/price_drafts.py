"""Commands for price book drafts: create, compare with another book, simulate on past jobs, approve."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import Session

from app.accounts.keys import authenticate
from app.audit_log.actor import Actor
from app.cli.home import KEYS_RECORD, read_record
from app.cli.options import Home, home_folder, parse_time
from app.cli.server_urls import any_servers
from app.clock import now
from app.db import transaction
from app.prices.books import approve_book, draft_book
from app.prices.find import book_at, book_by_id
from app.prices.parse_cache import parse_book_text
from app.reports.simulation import simulate_book, simulate_stored
from pricing.book import PriceBook
from pricing.diff import diff, figure_text, figures
from pricing.labels import key_label
from pricing.simulation_result import Bucket, Simulation

out = Console()

BookName = Annotated[str, typer.Argument(help="A TOML file, or the id of a stored book.")]
Key = Annotated[str | None, typer.Option(help="A key with the required role. Default: the home's key for it.")]


def draft(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The price book (TOML).")],
    note: Annotated[str, typer.Option(help="The reason for the change, for the approver.")] = "",
    key: Key = None,
    home: Home = None,
) -> None:
    """Store a price book as a draft, based on the newest one. Somebody else has to approve it."""
    with any_servers(home_folder(home)), transaction() as session:
        author = actor(session, key, home, "admin")
        stored = draft_book(session, author, file.read_text(encoding="utf-8"), note=note)
        line = f"{stored.id}: {stored.book.name} is a draft; {stored.content_hash}"
    out.print(line, highlight=False, markup=False, soft_wrap=True)


def approve(
    book: Annotated[str, typer.Argument(help="Id of a draft.")],
    content_hash: Annotated[str, typer.Option(help="Hash of the text that was reviewed.")],
    key: Key = None,
    home: Home = None,
) -> None:
    """Approve a draft by its content hash. It is refused if the draft was edited since, or to its author."""
    with any_servers(home_folder(home)), transaction() as session:
        stored = approve_book(session, actor(session, key, home, "approver"), book, content_hash=content_hash)
        line = f"{stored.id}: {stored.book.name} is approved; {stored.content_hash}"
    out.print(line, highlight=False, markup=False, soft_wrap=True)


def diff_books(
    book: BookName,
    newer: Annotated[
        str | None, typer.Argument(help="The newer book. Without it, the first book is compared with the one in force.")
    ] = None,
    home: Home = None,
) -> None:
    """Show what a price book changes, as sentences and as prices per second: `diff OLD NEW`, or `diff NEW`."""
    if newer is not None and Path(book).is_file() and Path(newer).is_file():
        _show_changes(_from_file(book), _from_file(newer), None)
        return
    with any_servers(home_folder(home)), transaction() as session:
        before = book_at(session, now(session)).book if newer is None else _find(session, book)
        _show_changes(before, _find(session, newer or book), session)


def simulate(
    book: BookName,
    since: Annotated[str | None, typer.Option(help="Start of the period (ISO 8601). Default: 30 days ago.")] = None,
    until: Annotated[str | None, typer.Option(help="End of the period (ISO 8601). Default: now.")] = None,
    json_text: Annotated[bool, typer.Option("--json", help="Print the complete result as JSON.")] = False,
    key: Key = None,
    home: Home = None,
) -> None:
    """Show what a price book would have charged for the jobs of a period, beside what was charged.

    The audit log records who simulated which text of a stored book on which period, and an approval names the last
    simulation.
    """
    with any_servers(home_folder(home)), transaction() as session:
        end = parse_time(until) if until else now(session)
        begin = parse_time(since) if since else end - timedelta(days=30)
        if Path(book).is_file():
            result = simulate_book(session, _from_file(book), since=begin, until=end)
        else:
            result = simulate_stored(session, actor(session, key, home, "admin"), book, since=begin, until=end)
    if json_text:
        print(json.dumps(result.content(), ensure_ascii=False, indent=2))
        return
    _show_simulation(result)


def actor(session: Session, key: str | None, home: Path | None, name: str) -> Actor:
    """Return the actor: the holder of `key`, else of the home's key `name`. Raises AppError `unauthenticated`."""
    known = read_record(home_folder(home) / KEYS_RECORD)
    return Actor.of(authenticate(session, key or str(known.get(name, ""))))


def _find(session: Session, name: str) -> PriceBook:
    return _from_file(name) if Path(name).is_file() else book_by_id(session, name).book


def _from_file(name: str) -> PriceBook:
    return parse_book_text(Path(name).read_text(encoding="utf-8"))


def _show_changes(old: PriceBook, new: PriceBook, session: Session | None) -> None:
    changes = diff(old, new)
    for change in changes:
        out.print(change.words, highlight=False, markup=False, soft_wrap=True)
    if not changes:
        out.print("The two books have the same content.")
    if session is None:
        return
    table = Table("membership", "film", "before / s", "after / s", "%", title="Changed prices")
    for each in figures(old, new, now(session)):
        if each.before != each.after:
            place = (each.membership, key_label(each.key))
            table.add_row(*place, figure_text(each.before), figure_text(each.after), each.percent or "")
    if table.row_count:
        out.print(table)


def _show_simulation(result: Simulation) -> None:
    table = Table("", "jobs", "seconds", "before", "after", "change", title=f"{result.book_name} ({result.currency})")

    def add(name: str, bucket: Bucket) -> None:
        content = bucket.content()
        table.add_row(name, str(bucket.jobs), *(content[key] for key in ("seconds", "before", "after", "change")))

    add("all", result.whole)
    for groups in (result.by_membership, result.by_model, result.by_resolution):
        for name in sorted(groups):
            add(f"  {name}", groups[name])
    out.print(table)
    margins = f"margin {result.margin_before.text} before, {result.margin_after.text} after"
    out.print(f"{margins}; GPU cost {result.cost.text} {result.currency}", highlight=False)
    for title, accounts in (("pays less", result.winners), ("pays more", result.losers)):
        for each in accounts:
            out.print(f"{title}: {each.account}  {each.before.text} → {each.after.text}", highlight=False)
    for refused in result.refused:
        out.print(f"not sold: {refused.message} ({refused.jobs} jobs)", highlight=False, markup=False)
    for name in result.over_budget:
        out.print(f"promotion over its budget: {name}", highlight=False, markup=False)
    if result.free_seconds_changed:
        names = ", ".join(result.free_seconds_changed)
        out.print(f"not simulated: free seconds, which change for {names}", highlight=False, markup=False)
