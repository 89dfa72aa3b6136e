"""The people who run the house: `cinemeter init` for the first start of a service of one's own, and a way back in."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy import select

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.accounts.members import add_member
from app.accounts.tables import Member
from app.audit_log.actor import SYSTEM_ACTOR as THE_HOUSE
from app.cli.home import ADDRESS_RECORD, read_record
from app.cli.migrate import upgrade
from app.cli.options import Home, parse_choice
from app.cli.server_urls import any_servers
from app.db import transaction
from app.errors import AppError
from app.prices.seed import seed_book
from app.roles import ADMIN_ROLES, Scope
from app.settings import set_environment
from app.wallet.balance import open_wallet
from app.web.password_links import sign_in_link, welcome_links

err = Console(stderr=True)
HOUSE = "The house"


def init(
    email: Annotated[str, typer.Option(help="Who runs the service: signs in to the pages, and holds the first key.")],
    home: Home = None,
) -> None:
    """Prepare a database of your own: migrate it, publish the shipped price book, and print the first admin key.

    It makes one account, of the house itself, and no customers; `cinemeter up` makes a home to play with instead.
    """
    with any_servers(parse_choice(home)):
        upgrade()
        with transaction() as session:
            if session.scalar(select(Member).where(Member.email == email)) is not None:
                raise AppError("conflict", f"There is a member {email} already; `cinemeter keys issue` makes a key.")
            seed_book(session)
            account = create_account(session, HOUSE)
            open_wallet(session, account.id)
            roles = sorted(ADMIN_ROLES)
            member = add_member(session, account.id, email, roles=roles, name=HOUSE)
            _, secret = issue_key(
                session, account.id, scopes=[Scope.ADMIN], roles=roles, name="first key", member_id=member.id
            )
            link = welcome_links(session)[member.email]
    err.print(f"Choose your password at {link}", highlight=False, soft_wrap=True)
    err.print("The first admin key, shown this once:", highlight=False)
    sys.stdout.write(secret + "\n")


def print_sign_in_link(
    email: Annotated[str, typer.Argument(help="Who has forgotten the password.")],
    home: Home = None,
) -> None:
    """Print a link under which a member chooses a new password: the way back in where no second operator gives one.

    It works once and for a day, ends the member's sessions when it is used, and stands in the audit trail.
    """
    folder = parse_choice(home)
    with any_servers(folder), transaction() as session:
        running = read_record(folder / ADDRESS_RECORD)
        if running:
            set_environment(public_url=running["base_url"])
        member = session.scalar(
            select(Member).where(Member.email == email.strip().lower(), Member.removed_at.is_(None))
        )
        if member is None:
            raise AppError("not_found", f"Nobody signs in as {email}.")
        link = sign_in_link(session, THE_HOUSE, member.account_id, member.id)
    sys.stdout.write(link + "\n")
