"""The operator account: `cinemeter init` prepares a new database, `cinemeter sign-in-link` resets a password."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy import select

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.accounts.members import add_member
from app.accounts.tables import Member
from app.audit_log.actor import SYSTEM_ACTOR
from app.cli.home import ADDRESS_RECORD, read_record
from app.cli.migrate import upgrade
from app.cli.options import Home, home_folder
from app.cli.server_urls import any_servers
from app.db import transaction
from app.errors import AppError
from app.prices.seed import seed_book
from app.roles import ADMIN_ROLES, Role, Scope
from app.settings import set_environment
from app.wallet.balance import open_wallet
from app.web.password_links import sign_in_link, welcome_links

err = Console(stderr=True)
OPERATOR_ACCOUNT = "Operator"


def init(
    email: Annotated[
        str, typer.Option(help="E-mail of the operator, who signs in to the pages and gets the first key.")
    ],
    home: Home = None,
) -> None:
    """Prepare your own database: migrate it, publish the shipped price book, and print the first admin key.

    It creates the operator account and no customers. `cinemeter up` creates a home with sample accounts instead.
    """
    with any_servers(home_folder(home)):
        upgrade()
        with transaction() as session:
            if session.scalar(select(Member).where(Member.email == email)) is not None:
                raise AppError(
                    "conflict", f"A member {email} already exists. Use `cinemeter keys issue` to create a key."
                )
            seed_book(session)
            account = create_account(session, OPERATOR_ACCOUNT)
            open_wallet(session, account.id)
            roles = sorted(ADMIN_ROLES)
            # The operator is a customer of this account too, to try the studio in test mode or after a top-up.
            member_roles = [*roles, Role.OWNER, Role.CREATOR]
            member = add_member(session, account.id, email, roles=member_roles, name=OPERATOR_ACCOUNT)
            _, secret = issue_key(
                session, account.id, scopes=[Scope.ADMIN], roles=roles, name="first key", member_id=member.id
            )
            link = welcome_links(session)[member.email]
    err.print(f"Choose your password at {link}", highlight=False, soft_wrap=True)
    err.print("The first admin key, which is shown only once:", highlight=False)
    sys.stdout.write(secret + "\n")


def print_sign_in_link(
    email: Annotated[str, typer.Argument(help="E-mail of the member who needs a new password.")],
    home: Home = None,
) -> None:
    """Print a link with which a member sets a new password, for example when no other operator can reset it.

    It works once, within one day. Using it ends the member's sessions. The link is recorded in the audit log.
    """
    folder = home_folder(home)
    with any_servers(folder), transaction() as session:
        running = read_record(folder / ADDRESS_RECORD)
        if running:
            set_environment(public_url=running["base_url"])
        member = session.scalar(
            select(Member).where(Member.email == email.strip().lower(), Member.removed_at.is_(None))
        )
        if member is None:
            raise AppError("not_found", f"No member has the e-mail {email}.")
        link = sign_in_link(session, SYSTEM_ACTOR, member.account_id, member.id)
    sys.stdout.write(link + "\n")
