"""The authenticated caller behind an API key or a signed-in member."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.tables import Account, Member, ModerationLevel
from app.errors import AppError
from app.roles import SCOPES_OF_ROLE, Role


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. Every operation that an API or page calls is limited to `account_id` and `test`."""

    account: Account
    scopes: frozenset[str]
    roles: frozenset[str]
    test: bool = False
    project_id: str | None = None
    key_id: str | None = None
    member_id: str | None = None
    issued_by: str | None = None

    @property
    def account_id(self) -> str:
        """The account that the caller acts for."""
        return self.account.id

    @property
    def is_strict(self) -> bool:
        """Whether moderation refuses to this account what others have reviewed."""
        return self.account.moderation_level == ModerationLevel.STRICT

    @property
    def person(self) -> str:
        """The person behind the caller, for four-eyes rules: the member, else who issued the key, else its account.

        Two keys of one account are one person, and so is whoever made a key and saw its secret: nobody approves their
        own book with a second key.
        """
        return self.member_id or self.issued_by or self.account.id

    @property
    def via(self) -> str:
        """The key that was used, or `session` for a signed-in member; the audit log records it beside the person."""
        return self.key_id or "session"


def caller_of(account: Account, member: Member) -> Caller:
    """Return the caller that a signed-in member is; the member's roles stand for a key's scopes."""
    roles = frozenset(member.roles)
    scopes = frozenset(str(scope) for role in roles for scope in SCOPES_OF_ROLE[Role(role)])
    return Caller(account, scopes, roles, test=account.test, member_id=member.id)


def require_active(caller: Caller) -> None:
    """Refuse new work and new keys to a suspended account; it may still read, cancel and download what it paid for.

    Raises AppError `account_suspended`, with the reason.
    """
    if caller.account.suspended_at is not None:
        raise suspended_error(caller.account.suspended_reason)


def require_active_now(session: Session, account_id: str) -> None:
    """Refuse new rows to an account that was suspended since its caller was authenticated.

    The lock is the one of a foreign key. The end of an erasure waits for it, so it finds what is written after this.
    Raises AppError `account_suspended`, with the reason.
    """
    query = select(Account.suspended_at, Account.suspended_reason).where(Account.id == account_id)
    suspended_at, reason = session.execute(query.with_for_update(read=True, key_share=True)).one()
    if suspended_at is not None:
        raise suspended_error(reason)


def suspended_error(reason: str | None) -> AppError:
    """Return the error of a suspended account."""
    return AppError("account_suspended", "This account is suspended.", reason=reason or "")
