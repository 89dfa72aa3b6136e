"""`cinemeter`: every command, with what it needs and what it prints."""

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
from app.cli.client import Client, Refusal
from app.cli.doctor import diagnose, print_report
from app.cli.film import STORYBOARD, make_film, quote_table
from app.cli.home import ADDRESS_RECORD, is_claimed, read_record
from app.cli.keys import keys
from app.cli.migrate import upgrade
from app.cli.options import Home, parse_choice
from app.cli.prices import prices
from app.cli.server_urls import any_servers
from app.cli.up import run_up, running_service
from app.errors import AppError
from app.settings import set_environment

# Everything but the answer itself goes to standard error, so that answers can be piped.
err = Console(stderr=True)
out = Console()


class CommandGroup(TyperGroup):
    """A group whose commands end with a sentence and exit code 1 where the service or the machine says no."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (AppError, Refusal) as error:
            err.print(f"[red]error[/red] {error}", highlight=False, soft_wrap=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Cinemeter: video generation that bills by the delivered second.",
)
app.add_typer(prices, name="prices")
app.add_typer(keys, name="keys")
app.command()(init)
app.command("sign-in-link")(print_sign_in_link)
app.command()(audit_commands.run_audit)
app.command()(audit_commands.run_replay)

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the API; 0 takes a free one.")]


@app.command()
def up(
    home: Home = None,
    port: Port = None,
    json_line: Annotated[bool, typer.Option("--json", help="Print one JSON line when ready.")] = False,
) -> None:
    """Start the whole service on this machine and stay up until Ctrl-C."""

    def ready(record: dict[str, Any]) -> None:
        if json_line:
            print(json.dumps({name: record[name] for name in ("base_url", "keys")}), flush=True)
            return
        out.print(f"\nCinemeter is up at [bold]{record['base_url']}[/bold]. End it with Ctrl-C.\n", highlight=False)
        for name, key in record["keys"].items():
            out.print(f"  {name:<11}{key}", highlight=False, soft_wrap=True)
        if record["links"]:
            out.print("\nFirst visit to the pages (each link works once):\n", highlight=False)
        for email, link in record["links"].items():
            out.print(f"  {email:<26}{link}", highlight=False, soft_wrap=True)

    run_up(parse_choice(home), port, say=lambda words: err.print(words, highlight=False, soft_wrap=True), ready=ready)


@app.command()
def demo(
    home: Home = None,
    target: Annotated[Path, typer.Option("--out", help="Where the film goes.")] = Path("demo.mp4"),
) -> None:
    """Render a three-shot storyboard here: start, quote, progress, receipt, film, end."""
    with running_service(parse_choice(home)) as service:
        make_film(Client(service["base_url"], service["keys"]["pro"]), STORYBOARD, target, out)


Prompt = Annotated[list[str], typer.Argument(help="What the film shows; several prompts make a storyboard.")]
Seconds = Annotated[int, typer.Option(min=1, help="Seconds of each shot.")]
Optional = Annotated[str | None, typer.Option()]
BaseUrl = Annotated[str | None, typer.Option(help="The service; without it, the one that is up in the home.")]
Key = Annotated[str | None, typer.Option(help="An API key; without it, the home's key of the account `pro`.")]


@app.command()
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
    target: Annotated[Path | None, typer.Option("--out", help="Where the film goes.", show_default="film.mp4")] = None,
    base_url: BaseUrl = None,
    key: Key = None,
    home: Home = None,
) -> None:
    """Order a film: quote, progress, receipt, and the film's path."""
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


@app.command()
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
    """Ask what a film would cost. Nothing is reserved and nothing is promised."""
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
    """Return the client for a service by its address, or for the one that is up in the home."""
    record = read_record(parse_choice(home) / ADDRESS_RECORD) if is_claimed(parse_choice(home)) else {}
    url = base_url or record.get("base_url")
    secret = key or record.get("keys", {}).get("pro")
    if not url or not secret:
        message = (
            f"No service is up in {parse_choice(home)}. Start one with `cinemeter up`, or give --base-url and --key."
        )
        raise AppError("unavailable", message)
    return Client(url, secret)


def free_name(path: Path) -> Path:
    """Return `path`, or the same name with the next free number: no film is written over."""
    number = 1
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_stem(f"{path.stem}-{number}")
    return candidate


@app.command()
def doctor(home: Home = None) -> None:
    """Check every part that the service needs on this machine, and say how to mend what is missing."""
    findings = diagnose(parse_choice(home))
    out.print(print_report(findings))
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


@app.command()
def migrate(home: Home = None) -> None:
    """Bring the database to the newest migration."""
    with any_servers(parse_choice(home)):
        upgrade()
    err.print("The database is at the newest migration.")


@app.command()
def api(port: Port = None) -> None:
    """Serve HTTP."""
    if port is not None:
        set_environment(port=port)
    serve.run_api()


@app.command()
def worker() -> None:
    """Render: take work from the pools of CINEMETER_POOLS."""
    serve.run_worker()


@app.command()
def scheduler() -> None:
    """Ring, sweep and roll up; of several schedulers one leads."""
    serve.run_scheduler()


@app.command()
def courier() -> None:
    """Deliver webhooks."""
    serve.run_courier()


if __name__ == "__main__":
    sys.exit(app())
