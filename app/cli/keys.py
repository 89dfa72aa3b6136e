"""`cinemeter keys`: list, issue and revoke API keys, on the database directly."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from app.accounts.accounts import list_accounts
from app.accounts.keys import issue_key, list_keys, revoke_key
from app.cli.home import KEYS_RECORD, read_record
from app.cli.options import Home, home_folder
from app.cli.server_urls import any_servers
from app.db import transaction
from app.errors import AppError

err = Console(stderr=True)
keys = typer.Typer(no_args_is_help=True, help="API keys.")


@keys.command("list")
def list_all(home: Home = None) -> None:
    """List the keys of all accounts, one per line. Secrets are not stored, so only their last characters are shown."""
    with any_servers(home_folder(home)), transaction() as session:
        after = None
        while accounts := list_accounts(session, after=after):
            after = accounts[-1].id
            for account in accounts:
                for key in list_keys(session, account.id):
                    until = (
                        "revoked" if key.revoked_at else f"until {key.expires_at}" if key.expires_at else "no expiry"
                    )
                    columns = (
                        account.id,
                        account.name,
                        key.id,
                        f"…{key.last4}",
                        ",".join(key.scopes + key.roles),
                        until,
                    )
                    sys.stdout.write("\t".join(columns) + "\n")


@keys.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of a sample account: creator, pro, enterprise, admin or approver.")],
    home: Home = None,
) -> None:
    """Print the key of one of the home's sample accounts."""
    known = read_record(home_folder(home) / KEYS_RECORD)
    if name not in known:
        names = ", ".join(known) or "none; `cinemeter up` makes them"
        raise AppError("not_found", f"This home has no key of {name!r}. It has: {names}.")
    sys.stdout.write(f"{known[name]}\n")


@keys.command("issue")
def issue(
    account: Annotated[str, typer.Argument(help="Account id.")],
    scope: Annotated[list[str], typer.Option(help="Scope of the key; repeat the option for several.")],
    role: Annotated[list[str] | None, typer.Option(help="Admin role; only with the scope `admin`.")] = None,
    name: Annotated[str, typer.Option(help="Display name.")] = "",
    test: Annotated[bool, typer.Option("--test", help="Test key: renders colour bars and is free.")] = False,
    home: Home = None,
) -> None:
    """Create a key and print it. It cannot be shown again."""
    with any_servers(home_folder(home)), transaction() as session:
        _, secret = issue_key(session, account, scopes=scope, roles=role or (), name=name, test=test)
    sys.stdout.write(secret + "\n")


@keys.command("revoke")
def revoke(
    account: Annotated[str, typer.Argument(help="Account id.")],
    key: Annotated[str, typer.Argument(help="Key id, from `keys list`.")],
    home: Home = None,
) -> None:
    """Revoke a key immediately."""
    with any_servers(home_folder(home)), transaction() as session:
        revoke_key(session, account, key)
    err.print(f"{key} is revoked.")
