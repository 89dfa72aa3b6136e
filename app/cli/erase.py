"""`cinemeter erase`: remove the personal values of an account, a member or the sender of a report."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from app.admin.erasures import cancel_account_films, erase_subject, list_erasures, plan_erasure
from app.cli.options import Home, home_folder
from app.cli.price_drafts import actor
from app.cli.server_urls import any_servers
from app.db import transaction
from app.erasure.plan import UNFINISHED_MAX, ErasurePlan
from app.erasure.tables import ErasureKind
from app.errors import AppError

err = Console(stderr=True)
erasures = typer.Typer(no_args_is_help=True, help="Erase personal values, for good.")

Key = Annotated[str | None, typer.Option(help="A key with the role operator. Default: the home's key `admin`.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would go and what stays; change nothing.")]
Confirm = Annotated[str | None, typer.Option(help="The id once more. Without it, it is asked for.")]
Cancel = Annotated[
    bool, typer.Option("--cancel-films", help="Suspend the account and cancel its films first; nothing is erased yet.")
]


@erasures.command("account")
def erase_account(
    account: Annotated[str, typer.Argument(help="Id of the account.")],
    dry_run: DryRun = False,
    cancel_films: Cancel = False,
    confirm: Confirm = None,
    key: Key = None,
    home: Home = None,
) -> None:
    """Erase an account: its members, films, uploads and words. Receipts, the ledger and the registry stay."""
    if cancel_films:
        with any_servers(home_folder(home)):
            with transaction() as session:
                operator = actor(session, key, home, "admin")
            count = cancel_account_films(operator, account)
        err.print(f"{count} films are cancelled or end now. Erase the account when they have ended.")
        return
    _erase(ErasureKind.ACCOUNT, account, dry_run=dry_run, confirm=confirm, key=key, home=home)


@erasures.command("member")
def erase_member(
    member: Annotated[str, typer.Argument(help="Id of the member.")],
    dry_run: DryRun = False,
    confirm: Confirm = None,
    key: Key = None,
    home: Home = None,
) -> None:
    """Erase a person who signs in. What the account has ordered stays the account's."""
    _erase(ErasureKind.MEMBER, member, dry_run=dry_run, confirm=confirm, key=key, home=home)


@erasures.command("report")
def erase_report(
    report: Annotated[str, typer.Argument(help="Id of a decided report of a film.")],
    dry_run: DryRun = False,
    confirm: Confirm = None,
    key: Key = None,
    home: Home = None,
) -> None:
    """Erase who sent a report and in which words. The report stays in the log of takedowns."""
    _erase(ErasureKind.REPORT, report, dry_run=dry_run, confirm=confirm, key=key, home=home)


@erasures.command("list")
def print_list(key: Key = None, home: Home = None) -> None:
    """Print all erasures, one per line: kind, id, start, end. Keep it outside of the backups, and erase again from it.

    An erasure that has not ended has `-` as its end: run it again.
    """
    with any_servers(home_folder(home)), transaction() as session:
        for each in list_erasures(session, actor(session, key, home, "admin")):
            end = each.finished_at.isoformat() if each.finished_at else "-"
            sys.stdout.write("\t".join((each.kind, each.subject_id, each.started_at.isoformat(), end)) + "\n")


def _erase(
    kind: ErasureKind, subject_id: str, *, dry_run: bool, confirm: str | None, key: str | None, home: Home
) -> None:
    with any_servers(home_folder(home)):
        with transaction() as session:
            operator = actor(session, key, home, "admin")
            plan = plan_erasure(session, operator, kind, subject_id)
        for line in plan_lines(plan):
            sys.stdout.write(line + "\n")
        if dry_run:
            return
        if confirm is None and sys.stdin.isatty():
            confirm = typer.prompt(f"This cannot be taken back. Type {subject_id} to erase it")
        if confirm != subject_id:
            raise AppError("invalid_request", "Nothing was erased: --confirm has to repeat the id.", field="confirm")
        totals: dict[str, int] = {}
        for step, rows in erase_subject(operator, kind, subject_id):
            totals[step] = totals.get(step, 0) + rows
        for step, rows in totals.items():
            sys.stdout.write(f"erased\t{step}\t{rows}\n")
    err.print(f"{kind} {subject_id} is erased. `cinemeter audit` verifies what stays.")


def plan_lines(plan: ErasurePlan) -> list[str]:
    """Return a plan as lines of columns: goes or stays, how many rows, what, and why it stays."""
    lines = [f"goes\t{line.rows}\t{line.what}" for line in plan.goes]
    lines += [f"stays\t{line.rows}\t{line.what}\t{line.why}" for line in plan.stays]
    lines += [f"money\t{sentence}" for sentence in plan.money]
    if plan.unfinished or plan.open_holds:
        named = ", ".join(plan.unfinished[:UNFINISHED_MAX])
        lines.append(f"first\t{len(plan.unfinished)} films have to end, and {plan.open_holds} holds: {named}")
    return lines
