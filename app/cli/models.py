"""`cinemeter models`: list the video models, and accept the terms of those that have some."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from app.catalog.models import load_catalog
from app.cli.options import Home, home_folder
from app.cli.price_drafts import actor
from app.cli.server_urls import any_servers
from app.db import transaction
from app.jobs.model_terms import acknowledge_terms, acknowledgement_of, models_with_terms, terms_hash
from app.settings import get_settings

out = Console()
models = typer.Typer(no_args_is_help=True, help="Video models.")


@models.command("list")
def list_models(home: Home = None) -> None:
    """List the models of the catalogue, one per line: id, whether it is enabled, licence, state of its terms."""
    with any_servers(home_folder(home)), transaction() as session:
        for model in load_catalog(get_settings().catalog_dir).values():
            terms = "-"
            if model.acknowledge:
                terms = "terms to accept" if acknowledgement_of(session, model) is None else "terms accepted"
            columns = (model.id, "enabled" if model.enabled else "disabled", model.licence, terms)
            sys.stdout.write("\t".join(columns) + "\n")


@models.command("acknowledge")
def acknowledge(
    model: Annotated[str, typer.Argument(help="Id of the model.")],
    yes: Annotated[bool, typer.Option("--yes", help="Accept without being asked, for scripts.")] = False,
    key: Annotated[
        str | None, typer.Option(help="A key with the role operator. Default: the home's key `admin`.")
    ] = None,
    home: Home = None,
) -> None:
    """Show a model's terms and accept them for this service. The audit log records who did."""
    known = next((each for each in models_with_terms() if each.id == model), None)
    if known is not None:
        out.print(f"{known.name} ({known.licence}):\n\n{known.acknowledge}\n", highlight=False, markup=False)
        if not yes:
            typer.confirm("Do you accept these terms for this service?", abort=True)
    words = "" if known is None else terms_hash(known)
    with any_servers(home_folder(home)), transaction() as session:
        row = acknowledge_terms(session, actor(session, key, home, "admin"), model, words=words)
        line = f"The terms of {row.model} are accepted."
    out.print(line, highlight=False, markup=False, soft_wrap=True)
