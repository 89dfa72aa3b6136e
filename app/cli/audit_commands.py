"""The commands `audit` and `replay`, which verify the books. They read the database directly."""

import os
import sys
from typing import Annotated

import typer
from rich.console import Console

from app.cli.options import Home, home_folder
from app.cli.server_urls import any_servers
from app.db import transaction
from app.errors import AppError
from app.reports.parallel_audit import audit_in_parallel
from app.reports.replay import replay_job

out = Console()
err = Console(stderr=True)


def run_audit(
    home: Home = None,
    since: Annotated[
        str | None, typer.Option(help="First month to compute again, such as 2026-05. Default: the first unsealed one.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Compute the receipts of sealed months again, too.")
    ] = False,
    trust_seals: Annotated[
        bool, typer.Option("--trust-seals", help="Do not read sealed months at all, not even to compare their digests.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="Processes that compute receipts.")] = os.cpu_count() or 1,
) -> None:
    """Verify the books: recompute them from transfers, receipts and events. Exit 1 and list the rows that disagree.

    A month that is over and agrees is sealed. Its receipts are not computed again, but a change to them is noticed.
    """
    with any_servers(home_folder(home)):
        report = audit_in_parallel(processes=processes, since=since, everything=everything, trust_seals=trust_seals)
    for finding in report.findings:
        out.print(f"{finding.rule}\t{finding.subject}\t{finding.message}", highlight=False, soft_wrap=True)
    if report.findings:
        err.print(f"[red]{len(report.findings)} rows disagree.[/red]")
        raise typer.Exit(1)
    if report.sealed:
        err.print(f"Sealed {', '.join(report.sealed)}.")
    err.print(f"{report.receipts} receipts were computed again.")
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
