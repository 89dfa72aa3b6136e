"""`cinemeter provenance`: marks of films that were delivered without them."""

import sys
import threading
from typing import Annotated

import typer

from app.cli.options import Home, home_folder
from app.cli.server_urls import any_servers
from app.cli.subprocesses import spawn_inheriting
from app.cli.supervisor import stop_signals
from app.settings import child_environment

_POLL_SECONDS = 0.2
provenance = typer.Typer(no_args_is_help=True, help="Marks of films.")


@provenance.callback()
def main() -> None:
    """Marks of films."""


@provenance.command("backfill")
def backfill(
    home: Home = None,
    per_minute: Annotated[float, typer.Option(min=0.01, help="Films per minute at most.")] = 60.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Films to work on at most. Default: all.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Try the films again that were skipped before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say how much there is to do.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,
) -> None:
    """Mark the films that were delivered before there were marks: the AIGC label and the signed manifest.

    Frames and sound stay as they are, and receipts keep their bytes. It may run beside the service, on a machine that
    can run a worker; Ctrl-C ends it after the film that it works on, and the next run goes on there.
    """
    arguments = ["--per-minute", str(per_minute), *(["--limit", str(limit)] if limit is not None else [])]
    flags = {"--again": again, "--dry-run": dry_run, "--json": as_json}
    arguments += [flag for flag, is_set in flags.items() if is_set]
    # The application never imports `workers`; it starts them by name.
    command = [sys.executable, "-P", "-m", "workers.backfill", *arguments]
    stopping = threading.Event()
    with any_servers(home_folder(home)), stop_signals(stopping):
        process = spawn_inheriting(command, environment=child_environment())
        while process.poll() is None:
            if stopping.wait(_POLL_SECONDS):
                process.terminate()
                process.wait()
    if process.returncode:
        raise typer.Exit(process.returncode)
