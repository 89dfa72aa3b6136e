"""`cinemeter keys`: list, issue and revoke API keys, on the database directly."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from app.accounts.accounts import list_accounts
from app.accounts.keys import issue_key, list_keys, revoke_key
from app.cli.options import Home, parse_choice
from app.cli.server_urls import any_servers
from app.db import transaction

err = Console(stderr=True)
keys = typer.Typer(no_args_is_help=True, help="API keys.")


@keys.command("list")
def list_all(home: Home = None) -> None:
    """List all accounts' keys, a line each. Secrets are not kept, so only their last letters can be shown."""
    with any_servers(parse_choice(home)), transaction() as session:
        after = None
        while accounts := list_accounts(session, after=after):
            after = accounts[-1].id
            for account in accounts:
                for key in list_keys(session, account.id):
                    until = "revoked" if key.revoked_at else f"until {key.expires_at}" if key.expires_at else "no end"
                    words = (account.id, account.name, key.id, f"…{key.last4}", ",".join(key.scopes + key.roles), until)
                    sys.stdout.write("\t".join(words) + "\n")


@keys.command("issue")
def issue(
    account: Annotated[str, typer.Argument(help="The account's id.")],
    scope: Annotated[list[str], typer.Option(help="What it may be used for; repeat for several.")],
    role: Annotated[list[str] | None, typer.Option(help="Admin roles, only beside the scope admin.")] = None,
    name: Annotated[str, typer.Option(help="What people call it.")] = "",
    test: Annotated[bool, typer.Option("--test", help="Renders colour bars and costs nothing.")] = False,
    home: Home = None,
) -> None:
    """Make a key and print it. It is shown this once and cannot be shown again."""
    with any_servers(parse_choice(home)), transaction() as session:
        _, secret = issue_key(session, account, scopes=scope, roles=role or (), name=name, test=test)
    sys.stdout.write(secret + "\n")


@keys.command("revoke")
def revoke(
    account: Annotated[str, typer.Argument(help="The account's id.")],
    key: Annotated[str, typer.Argument(help="The key's id, from `keys list`.")],
    home: Home = None,
) -> None:
    """End a key now."""
    with any_servers(parse_choice(home)), transaction() as session:
        revoke_key(session, account, key)
    err.print(f"{key} is revoked.")
