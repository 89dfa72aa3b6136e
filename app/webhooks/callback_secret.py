"""The secret that signs callbacks of an account's jobs: one per account, for all URLs."""

from datetime import timedelta

from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.errors import AppError
from app.webhooks.schemas import CallbackSecretOut
from app.webhooks.secret import current_secret, ensure_callback_secret, issue_secret, key_of
from app.webhooks.signing import format_secret


def get_callback_secret(session: Session, caller: Caller) -> CallbackSecretOut:
    """Return the public facts of the account's callback secret; issue one where there is none yet."""
    ensure_callback_secret(session, caller.account_id)
    return _show(session, caller)


def rotate_callback_secret(session: Session, caller: Caller, *, keep_old_hours: int) -> CallbackSecretOut:
    """Issue a new callback secret and return it, only once; the old one signs as well for `keep_old_hours`.

    Raises AppError `forbidden` for a key of a project: the secret belongs to the whole account.
    """
    if caller.project_id is not None:
        raise AppError("forbidden", "The callback secret belongs to the account; a key of a project cannot change it.")
    secret = issue_secret(session, caller.account_id, None, keep_old=timedelta(hours=keep_old_hours))
    return _show(session, caller, secret)


def reveal_callback_secret(session: Session, caller: Caller) -> str:
    """Return the account's current callback secret itself; issue one where there is none yet.

    For clients that fetch it instead of being told it once. It is derived again, not stored. Raises AppError
    `forbidden` for a key of a project: the secret belongs to the whole account.
    """
    if caller.project_id is not None:
        raise AppError("forbidden", "The callback secret belongs to the account; a key of a project cannot read it.")
    ensure_callback_secret(session, caller.account_id)
    current = current_secret(session, caller.account_id, None)
    if current is None:
        raise LookupError("the account has no callback secret although one was issued")
    return format_secret(key_of(current.id, current.fingerprint))


def _show(session: Session, caller: Caller, secret: str | None = None) -> CallbackSecretOut:
    current = current_secret(session, caller.account_id, None)
    if current is None:
        raise LookupError("the account has no callback secret although one was issued")
    return CallbackSecretOut(
        signing_secret_hint=current.hint, signing_secret=secret, created_at=int(current.created_at.timestamp())
    )
