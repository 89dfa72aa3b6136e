"""The `cinemeter` command with all of its subcommands."""

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from app.cli import audit_commands, serve
from app.cli.bootstrap import init, print_sign_in_link
from app.cli.client import ApiError, Client
from app.cli.doctor import diagnose, report_table
from app.cli.film import STORYBOARD, make_film, quote_table
from app.cli.home import ADDRESS_RECORD, is_claimed, read_record
from app.cli.keys import keys
from app.cli.migrate import upgrade
from app.cli.models import models
from app.cli.options import Home, home_folder
from app.cli.prices import prices
from app.cli.server_urls import any_servers
from app.cli.up import run_up, running_service
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


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Cinemeter: video generation billed by the second of delivered video.",
)
app.add_typer(prices, name="prices")
app.add_typer(keys, name="keys")
app.add_typer(models, name="models")
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
            print(json.dumps({name: record[name] for name in ("base_url", "keys")}), flush=True)
            return
        out.print(
            f"\nCinemeter is running at [bold]{record['base_url']}[/bold]. Stop it with Ctrl-C.\n", highlight=False
        )
        for name, key in record["keys"].items():
            out.print(f"  {name:<11}{key}", highlight=False, soft_wrap=True)
        if record["links"]:
            out.print("\nLinks to set a password for the web pages (each works once):\n", highlight=False)
        for email, link in record["links"].items():
            out.print(f"  {email:<26}{link}", highlight=False, soft_wrap=True)

    run_up(
        home_folder(home), port, say=lambda message: err.print(message, highlight=False, soft_wrap=True), ready=ready
    )


@app.command("demo")
def demo(
    home: Home = None,
    target: Annotated[Path, typer.Option("--out", help="File to write the film to.")] = Path("demo.mp4"),
) -> None:
    """Render a three-shot storyboard on this machine, with quote, progress, receipt and film; then stop."""
    with running_service(home_folder(home)) as service:
        make_film(Client(service["base_url"], service["keys"]["pro"]), STORYBOARD, target, out)


Prompt = Annotated[list[str], typer.Argument(help="What the film shows; several prompts make a storyboard.")]
Seconds = Annotated[int, typer.Option(min=1, help="Length of each shot in seconds.")]
Optional = Annotated[str | None, typer.Option()]
BaseUrl = Annotated[str | None, typer.Option(help="URL of the service. Default: the one running in the home.")]
Key = Annotated[str | None, typer.Option(help="API key. Default: the home's key of the account `pro`.")]


@app.command("generate")
def generate(
    prompt: Prompt,
    seconds: Seconds = 5,
    model: Optional = None,
    size: Optional = None,
    resolution: Optional = None,
    ratio: Optional = None,
    negative_prompt: Optional = None,
    service_tier: Optional = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    max_price: Optional = None,
    target: Annotated[
        Path | None, typer.Option("--out", help="File to write the film to.", show_default="film.mp4")
    ] = None,
    base_url: BaseUrl = None,
    key: Key = None,
    home: Home = None,
) -> None:
    """Order a film and show its quote, progress, receipt and path."""
    body = order(
        prompt,
        seconds,
        model=model,
        size=size,
        resolution=resolution,
        ratio=ratio,
        negative_prompt=negative_prompt,
        service_tier=service_tier,
        seed=seed,
        max_price=max_price,
    )
    make_film(client(base_url, key, home), body, target or free_name(Path("film.mp4")), out)


@app.command("quote")
def quote(
    prompt: Prompt,
    seconds: Seconds = 5,
    model: Optional = None,
    size: Optional = None,
    resolution: Optional = None,
    ratio: Optional = None,
    service_tier: Optional = None,
    base_url: BaseUrl = None,
    key: Key = None,
    home: Home = None,
) -> None:
    """Show what a film would cost. Nothing is reserved, and the price is not locked."""
    body = order(prompt, seconds, model=model, size=size, resolution=resolution, ratio=ratio, service_tier=service_tier)
    estimate = client(base_url, key, home).post("/v1/videos/estimates", body)
    out.print(quote_table(estimate))


def order(prompts: list[str], seconds: int, **fields: Any) -> dict[str, Any]:
    """Return the body of an order: one prompt, or a storyboard of equally long shots; unset fields are left out."""
    options = {name: value for name, value in fields.items() if value is not None}
    if "max_price" in options:
        options["max_price"] = str(Decimal(options["max_price"]))
    if len(prompts) == 1:
        return {"prompt": prompts[0], "seconds": seconds, **options}
    return {"shots": [{"prompt": prompt, "seconds": seconds} for prompt in prompts], **options}


def client(base_url: str | None, key: str | None, home: Path | None) -> Client:
    """Return a client for the service at a URL, or for the one in the home. Raises AppError `unavailable`."""
    folder = home_folder(home)
    record = read_record(folder / ADDRESS_RECORD) if is_claimed(folder) else {}
    url = base_url or record.get("base_url")
    secret = key or record.get("keys", {}).get("pro")
    if not url or not secret:
        message = f"No service is running in {folder}. Start one with `cinemeter up`, or pass --base-url and --key."
        raise AppError("unavailable", message)
    return Client(url, secret)


def free_name(path: Path) -> Path:
    """Return `path`, or the same name with the next free number, so that no film is overwritten."""
    number = 1
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_stem(f"{path.stem}-{number}")
    return candidate


@app.command("doctor")
def doctor(home: Home = None) -> None:
    """Check everything that the service needs on this machine, and say how to fix problems."""
    results = diagnose(home_folder(home))
    out.print(report_table(results))
    if any(each.ok is False for each in results):
        raise typer.Exit(1)


@app.command("migrate")
def migrate(home: Home = None) -> None:
    """Migrate the database to the newest version."""
    with any_servers(home_folder(home)):
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
def scheduler() -> None:
    """Run the scheduler: dispatch, maintenance and daily totals. Of several schedulers, one leads."""
    serve.run_scheduler()


@app.command("courier")
def courier() -> None:
    """Run the webhook deliverer."""
    serve.run_courier()


if __name__ == "__main__":
    sys.exit(app())
