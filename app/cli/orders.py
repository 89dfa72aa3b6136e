"""`cinemeter demo`, `generate` and `quote`: films from the command line, ordered as a customer orders them."""

import sys
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from app.catalog.models import load_catalog
from app.catalog.sizes import RATIOS, RESOLUTIONS
from app.cli.client import Client
from app.cli.film import STORYBOARD, make_film, quote_table, warn_of_prompts
from app.cli.home import ADDRESS_RECORD, is_claimed, read_record
from app.cli.options import Home, home_folder
from app.cli.up import running_service
from app.errors import AppError
from app.jobs.field_types import FILMS_MAX
from app.settings import get_settings

out = Console()
err = Console(stderr=True)

SERVICE_TIERS = ("standard", "flex", "priority")


def model_names(incomplete: str) -> list[str]:
    """Return the models of the catalogue that begin so, for the shell's completion."""
    names = ("auto", *load_catalog(get_settings().catalog_dir))
    return [name for name in names if name.startswith(incomplete)]


def tier_names(incomplete: str) -> list[str]:
    """Return the service tiers of the shipped price book that begin so, for the shell's completion."""
    return [name for name in SERVICE_TIERS if name.startswith(incomplete)]


Prompt = Annotated[list[str], typer.Argument(help="What the film shows; several prompts make a storyboard.")]
Seconds = Annotated[int, typer.Option(min=1, help="Length of each shot in seconds.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="A model's name, or auto: the cheapest that can make the film.",
        show_default="auto",
        autocompletion=model_names,
    ),
]
Size = Annotated[
    str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Size of the frames, instead of resolution and ratio.")
]
# The choices are those of the catalogue.
ResolutionChoice = StrEnum("ResolutionChoice", {each: each for each in RESOLUTIONS})  # type: ignore[misc]
RatioChoice = StrEnum("RatioChoice", {each: each for each in RATIOS})  # type: ignore[misc]
Resolution = Annotated[ResolutionChoice | None, typer.Option(help="Resolution.", show_default="720P")]
Ratio = Annotated[RatioChoice | None, typer.Option(help="Aspect ratio.", show_default="16:9")]
Tier = Annotated[
    str | None,
    typer.Option(
        metavar=f"[{'|'.join(SERVICE_TIERS)}]",
        help="Service tier of the price book: speed and price.",
        show_default="standard",
        autocompletion=tier_names,
    ),
]
Negative = Annotated[str | None, typer.Option(help="What the film must not show.")]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**31 - 1, help="The same seed, prompt and settings give the same film.")
]
Variations = Annotated[
    int | None,
    typer.Option(
        "--variations", "-n", min=1, max=FILMS_MAX, help="Films of this kind, with a seed each.", show_default="1"
    ),
]
MaxPrice = Annotated[str | None, typer.Option(help="Order at no more than this price, such as 12.50.")]
Target = Annotated[Path | None, typer.Option("--out", help="File to write the film to.", show_default="film.mp4")]
Yes = Annotated[bool, typer.Option("--yes", help="Order even where the model does not know the subject.")]
BaseUrl = Annotated[str | None, typer.Option(help="URL of the service. Default: the one running in the home.")]
Key = Annotated[str | None, typer.Option(help="API key. Default: the home's key of the account `pro`.")]


def demo(
    home: Home = None,
    target: Annotated[Path, typer.Option("--out", help="File to write the film to.")] = Path("demo.mp4"),
) -> None:
    """Render a three-shot storyboard on this machine, with quote, progress, receipt and film; then stop."""
    require_writable(target)
    with running_service(home_folder(home)) as service:
        make_film(Client(service["base_url"], service["keys"]["pro"]), STORYBOARD, target, out)
    out.print(
        f"\nNext: open {target}; then start the service with `make up` (or `cinemeter up`), open the link that it "
        'prints first,\nor order from a second terminal: cinemeter generate "a blue square bounces on a white '
        'background"',
        highlight=False,
        soft_wrap=True,
    )


def generate(
    prompt: Prompt,
    seconds: Seconds = 5,
    model: Model = None,
    size: Size = None,
    resolution: Resolution = None,
    ratio: Ratio = None,
    negative_prompt: Negative = None,
    service_tier: Tier = None,
    seed: Seed = None,
    variations: Variations = None,
    max_price: MaxPrice = None,
    target: Target = None,
    yes: Yes = False,
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
        n=variations,
        max_price=max_price,
    )
    file = target or free_name(Path("film.mp4"))
    require_writable(file)
    service = client(base_url, key, home)
    confirm_subject(service, body, is_confirmed=yes)
    make_film(service, body, file, out)


def quote(
    prompt: Prompt,
    seconds: Seconds = 5,
    model: Model = None,
    size: Size = None,
    resolution: Resolution = None,
    ratio: Ratio = None,
    service_tier: Tier = None,
    variations: Variations = None,
    base_url: BaseUrl = None,
    key: Key = None,
    home: Home = None,
) -> None:
    """Show what a film would cost. Nothing is reserved, and the price is not locked."""
    body = order(
        prompt,
        seconds,
        model=model,
        size=size,
        resolution=resolution,
        ratio=ratio,
        service_tier=service_tier,
        n=variations,
    )
    estimate = client(base_url, key, home).post("/v1/videos/estimates", body)
    out.print(quote_table(estimate))
    warn_of_prompts(estimate, err)


def confirm_subject(service: Client, body: dict[str, Any], *, is_confirmed: bool) -> None:
    """Say what the model does not understand of an order, and ask before it is made if that is its subject.

    Raises AppError `conflict` where nobody can be asked, `typer.Exit` for a no.
    """
    estimate = service.post("/v1/videos/estimates", body)
    if not warn_of_prompts(estimate, err) or is_confirmed:
        return
    if not sys.stdin.isatty():
        raise AppError("conflict", "Nothing was ordered. Change the prompt, or pass --yes to order it anyway.")
    if not typer.confirm(f"Order it anyway, for {estimate['currency']} {estimate['total']}?", err=True):
        raise typer.Exit(1)


def order(prompts: list[str], seconds: int, **fields: Any) -> dict[str, Any]:
    """Return the body of an order: one prompt, or a storyboard of equally long shots; unset fields are left out.

    Raises AppError `invalid_request` for a price that is not an amount.
    """
    options = {name: value for name, value in fields.items() if value is not None}
    if "max_price" in options:
        options["max_price"] = _amount(options["max_price"])
    if len(prompts) == 1:
        return {"prompt": prompts[0], "seconds": seconds, **options}
    return {"shots": [{"prompt": prompt, "seconds": seconds} for prompt in prompts], **options}


def _amount(text: str) -> str:
    try:
        return f"{Decimal(text):f}"
    except InvalidOperation:
        message = f"--max-price: {text!r} is not an amount. Write it as 100 or 12.50."
        raise AppError("invalid_request", message, field="max_price") from None


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


def require_writable(target: Path) -> None:
    """Check that a film can be written there, before money moves. Raises AppError `invalid_request`."""
    folder = target.absolute().parent
    if not folder.is_dir():
        raise AppError("invalid_request", f"There is no folder {folder}. Nothing was ordered.", field="out")
    if target.is_dir():
        raise AppError("invalid_request", f"{target} is a folder. Name a file. Nothing was ordered.", field="out")
    draft = folder / f".{target.name}.part"
    try:
        draft.touch()
        draft.unlink()
    except OSError as error:
        message = f"{target} cannot be written: {error.strerror or error}. Nothing was ordered."
        raise AppError("invalid_request", message, field="out") from None
