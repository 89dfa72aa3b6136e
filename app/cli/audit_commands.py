"""Commands of the operator at the machine that prove the money: audit and replay. They read the database directly."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from app.cli.options import Home, parse_choice
from app.cli.server_urls import any_servers
from app.db import transaction
from app.errors import AppError
from app.reports.audit import audit_books as find_disagreements
from app.reports.replay import replay_job

out = Console()
err = Console(stderr=True)


def run_audit(home: Home = None) -> None:
    """Recompute everything from transfers, receipts and events; exit 1 with the rows that disagree."""
    with any_servers(parse_choice(home)), transaction() as session:
        findings = find_disagreements(session)
    for finding in findings:
        out.print(f"{finding.rule}\t{finding.subject}\t{finding.message}", highlight=False, soft_wrap=True)
    if findings:
        err.print(f"[red]{len(findings)} rows disagree.[/red]")
        raise typer.Exit(1)
    err.print("Everything agrees.")


def run_replay(
    job: Annotated[str, typer.Argument(help="The id of an ended video.")],
    home: Home = None,
) -> None:
    """Print a job's receipt and compute it again from its recorded inputs; exit 1 if a byte differs."""
    with any_servers(parse_choice(home)), transaction() as session:
        body, difference = replay_job(session, job)
    sys.stdout.write(body.decode() + "\n")
    if difference:
        raise AppError("conflict", f"The receipt does not replay: {difference}.")
    err.print("Computed again, byte for byte the same.")
