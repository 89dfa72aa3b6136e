"""The sample accounts of a new home: one of each kind of customer, and the operators who set prices."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account
from app.accounts.keys import authenticate, issue_key
from app.accounts.members import add_member
from app.accounts.memberships import FREE, grant_membership
from app.accounts.tables import AccountKind, Member
from app.cli.home import KEYS_RECORD, read_record, write_record
from app.clock import now
from app.db import transaction
from app.errors import AppError
from app.prices.seed import seed_book
from app.roles import Role, Scope
from app.wallet.balance import open_wallet
from app.wallet.funds import top_up

_CUSTOMER = (Scope.VIDEOS, Scope.BILLING, Scope.WEBHOOKS)
# The e-mail domain of the sample members. No mail is sent there; they only sign in with it.
MAIL_HOST = "cinemeter.home"


@dataclass(frozen=True)
class Seed:
    """One sample account. Amounts are minor units of the default currency."""

    name: str
    title: str
    kind: AccountKind = AccountKind.PREPAID
    membership: str = FREE
    credit: int = 0
    credit_limit: int = 0
    scopes: tuple[Scope, ...] = _CUSTOMER
    roles: tuple[Role, ...] = ()


SEEDS = (
    Seed("creator", "A creator", credit=500_00),
    Seed("pro", "A professional", membership="professional", credit=2_000_00),
    Seed(
        "enterprise",
        "An enterprise",
        kind=AccountKind.INVOICED,
        membership="enterprise",
        credit_limit=50_000_00,
    ),
    Seed("admin", "Operator: prices and operations", scopes=(Scope.ADMIN,), roles=(Role.PRICING_AUTHOR, Role.OPERATOR)),
    Seed("approver", "Operator: price approval", scopes=(Scope.ADMIN,), roles=(Role.PRICING_APPROVER,)),
)


def seed(home: Path) -> dict[str, str]:
    """Return the keys of the first accounts by name; missing accounts and keys are created.

    Keys are stored as hashes only, so the home keeps them readable in a file for its user alone. A new home on a
    database that has the accounts gets keys of its own to them.
    """
    path = home / KEYS_RECORD
    keys: dict[str, str] = {name: str(key) for name, key in read_record(path).items()}
    with transaction() as session:
        seed_book(session)
    for each in SEEDS:
        with transaction() as session:
            if not _is_valid(session, keys.get(each.name)):
                keys[each.name] = _open(session, each)
    write_record(path, dict(keys))
    return keys


def _is_valid(session: Session, key: str | None) -> bool:
    if key is None:
        return False
    try:
        authenticate(session, key)
    except AppError:
        return False
    return True


def _open(session: Session, each: Seed) -> str:
    """Return a new key for the account, which is created if the database does not have it (the home may be new)."""
    member = session.scalar(select(Member).where(Member.email == f"{each.name}@{MAIL_HOST}"))
    if member is None:
        member = _open_account(session, each)
    _, secret = issue_key(
        session, member.account_id, scopes=each.scopes, roles=each.roles, name=each.name, member_id=member.id
    )
    return secret


def _open_account(session: Session, each: Seed) -> Member:
    account = create_account(session, each.title, kind=each.kind)
    open_wallet(session, account.id, credit_limit=each.credit_limit)
    if each.credit:
        top_up(session, account.id, each.credit, kind="granted", reference=f"seed:{account.id}", reason="sample credit")
    if each.membership != FREE:
        grant_membership(session, account.id, each.membership, starts_at=now(session))
    # The member who signs in to the pages; the link of the first run lets them set a password.
    # Operators are customers of their own account too, so that they can try the studio.
    roles = (*each.roles, Role.OWNER, Role.CREATOR)
    return add_member(session, account.id, f"{each.name}@{MAIL_HOST}", roles=roles, name=each.name)
