"""The `cinemeter` command with all of its subcommands."""

import json
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from app.cli import audit_commands, orders, serve
from app.cli.bootstrap import init, print_sign_in_link
from app.cli.client import ApiError
from app.cli.doctor import diagnose, report_table
from app.cli.erase import erasures
from app.cli.keys import keys
from app.cli.migrate import check_schema, upgrade
from app.cli.models import models
from app.cli.options import Home, home_folder
from app.cli.prices import prices
from app.cli.provenance import provenance
from app.cli.server_urls import any_servers
from app.cli.up import run_up
from app.cli.welcome import welcome_text
from app.errors import AppError
from app.settings import set_environment

# Only results go to standard output, so that they can be piped.
err = Console(stderr=True)
out = Console()


class CommandGroup(TyperGroup):
    """A command group that prints expected errors as one sentence and exits with code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (AppError, ApiError) as error:
            err.print(f"[red]error[/red] {error}", highlight=False, soft_wrap=True)
            raise typer.Exit(1) from None


def show_version(is_wanted: bool) -> None:
    """Print the version and exit."""
    if is_wanted:
        sys.stdout.write(f"cinemeter {version('cinemeter')}\n")
        raise typer.Exit


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Cinemeter: video generation billed by the second of delivered video.",
)


@app.callback()
def main(
    is_version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Cinemeter: video generation billed by the second of delivered video."""


app.add_typer(prices, name="prices")
app.add_typer(keys, name="keys")
app.add_typer(models, name="models")
app.add_typer(erasures, name="erase")
app.add_typer(provenance, name="provenance")
app.command("demo")(orders.demo)
app.command("generate")(orders.generate)
app.command("quote")(orders.quote)
app.command("init")(init)
app.command("sign-in-link")(print_sign_in_link)
app.command("audit")(audit_commands.run_audit)
app.command("replay")(audit_commands.run_replay)

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the API; 0 chooses a free one.")]


@app.command("up")
def up(
    home: Home = None,
    port: Port = None,
    json_line: Annotated[bool, typer.Option("--json", help="Print one JSON line when ready.")] = False,
) -> None:
    """Start the whole service on this machine and run it until Ctrl-C."""

    def ready(record: dict[str, Any]) -> None:
        if json_line:
            print(json.dumps({name: record[name] for name in ("base_url", "keys", "links")}), flush=True)
            return
        for line in welcome_text(record):
            out.print(line, highlight=False, soft_wrap=True)

    run_up(
        home_folder(home), port, say=lambda message: err.print(message, highlight=False, soft_wrap=True), ready=ready
    )


@app.command("doctor")
def doctor(home: Home = None) -> None:
    """Check everything that the service needs on this machine, and say how to fix problems."""
    results = diagnose(home_folder(home))
    out.print(report_table(results))
    if any(each.ok is False for each in results):
        raise typer.Exit(1)


@app.command("migrate")
def migrate(
    home: Home = None,
    check_only: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail if the database lacks revisions of this release.")
    ] = False,
    wait: Annotated[float, typer.Option(min=0, help="With --check: wait so many seconds for them before failing.")] = 0,
) -> None:
    """Migrate the database to the newest version."""
    with any_servers(home_folder(home)):
        if check_only:
            check_schema(wait)
        else:
            upgrade()
    err.print("The database is at the newest version.")


@app.command("api")
def api(port: Port = None) -> None:
    """Run the API and the web pages."""
    if port is not None:
        set_environment(port=port)
    serve.run_api()


@app.command("worker")
def worker() -> None:
    """Run a worker that renders for the pools of CINEMETER_POOLS."""
    serve.run_worker()


@app.command("scheduler")
def scheduler(
    pod_deletion_cost: Annotated[
        bool,
        typer.Option(
            "--pod-deletion-cost",
            help="On Kubernetes: keep the deletion cost of the workers' pods, so that idle ones are ended first.",
        ),
    ] = False,
) -> None:
    """Run the scheduler: dispatch, maintenance and daily totals. Of several schedulers, one leads."""
    serve.run_scheduler(keeps_pod_costs=pod_deletion_cost)


@app.command("courier")
def courier() -> None:
    """Run the webhook deliverer."""
    serve.run_courier()


if __name__ == "__main__":
    sys.exit(app())
