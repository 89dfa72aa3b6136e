"""The commands `audit` and `replay`, which verify the books. They read the database directly."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from app.cli.options import Home, home_folder
from app.cli.server_urls import any_servers
from app.db import allow_long, transaction
from app.errors import AppError
from app.reports.audit import audit_books
from app.reports.replay import replay_job

out = Console()
err = Console(stderr=True)


def run_audit(home: Home = None) -> None:
    """Verify the books: recompute them from transfers, receipts and events. Exit 1 and list the rows that disagree."""
    with any_servers(home_folder(home)), transaction() as session:
        allow_long(session)
        findings = audit_books(session)
    for finding in findings:
        out.print(f"{finding.rule}\t{finding.subject}\t{finding.message}", highlight=False, soft_wrap=True)
    if findings:
        err.print(f"[red]{len(findings)} rows disagree.[/red]")
        raise typer.Exit(1)
    err.print("Everything agrees.")


def run_replay(
    job: Annotated[str, typer.Argument(help="Id of an ended video.")],
    home: Home = None,
) -> None:
    """Print a job's receipt and recompute it from its recorded inputs. Exit 1 if a byte differs."""
    with any_servers(home_folder(home)), transaction() as session:
        body, difference = replay_job(session, job)
    sys.stdout.write(body.decode() + "\n")
    if difference:
        raise AppError("conflict", f"The recomputed receipt differs: {difference}.")
    err.print("The recomputed receipt is identical.")
