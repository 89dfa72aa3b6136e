"""What operators do with an account on its page: membership, limits, labels, moderation, declarations, suspension."""

from collections.abc import Callable

from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.accounts import get_account
from app.accounts.tables import ModerationLevel
from app.admin import accounts, money
from app.admin.moderation import set_moderation_level
from app.audit_log.actor import Actor
from app.errors import AppError
from app.parsing import parse_integer
from app.provenance.label_policy import VisibleLabel
from app.wallet.balance import balance, lock_wallet
from app.web.auth import Visitor, text_of
from app.web.formats import field as field_label
from app.web.forms import parse_form_amount, parse_optional_local_time


def _change_membership(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Change the account's membership from now on, until a given time or without an end."""
    ends_at = parse_optional_local_time(text_of(form, "ends_at"), visitor.zone, "ends_at")
    name = text_of(form, "membership")
    accounts.set_membership(session, Actor.of(visitor.caller), account_id, name, ends_at=ends_at)


def _set_limits(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Set the account's own limits; an empty field means the membership's limit."""
    actor, account = Actor.of(visitor.caller), get_account(session, account_id)
    concurrency, queue_limit = (_parse_limit(text_of(form, name), name) for name in ("concurrency", "queue_limit"))
    # Two actions, so two entries of the audit log: its lock comes last, so the wallet is locked before the first.
    lock_wallet(session, account_id)
    accounts.set_account_limits(session, actor, account_id, concurrency=concurrency, queue_limit=queue_limit)
    credit = parse_form_amount(text_of(form, "credit_limit") or "0", account.currency, "credit_limit")
    if credit != balance(session, account_id).credit_limit:
        money.set_account_credit_limit(session, actor, account_id, credit)


def _set_label(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Set the label that the account's films show; an empty choice means the service's default."""
    text = text_of(form, "visible_label")
    if text and text not in set(VisibleLabel):
        message = f"{text!r} is no visible label."
        raise AppError("invalid_request", message, field="visible_label", allowed=list(VisibleLabel))
    label = VisibleLabel(text) if text else None
    accounts.set_visible_label(session, Actor.of(visitor.caller), account_id, label)


def _set_moderation(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Set how the account's orders are moderated."""
    text = text_of(form, "moderation_level")
    if text not in set(ModerationLevel):
        message = f"{text!r} is no level of moderation."
        raise AppError("invalid_request", message, field="moderation_level", allowed=list(ModerationLevel))
    set_moderation_level(session, Actor.of(visitor.caller), account_id, ModerationLevel(text))


def _require_declarations(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Set whether the account has to declare that it may use the files that it sends."""
    is_required = text_of(form, "declarations") == "required"
    accounts.require_declarations(session, Actor.of(visitor.caller), account_id, is_required)


def _suspend(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Suspend the account: no new films or keys; accepted films are finished."""
    accounts.suspend_account(session, Actor.of(visitor.caller), account_id, text_of(form, "reason"))


def _reinstate(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """End the suspension."""
    accounts.reinstate_account(session, Actor.of(visitor.caller), account_id)


def _allow_orders(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Take orders again that were stopped after many refused ones."""
    accounts.allow_orders_again(session, Actor.of(visitor.caller), account_id, text_of(form, "stop"))


ACTIONS: dict[str, Callable[[Session, Visitor, FormData, str], None]] = {
    "membership": _change_membership,
    "limits": _set_limits,
    "label": _set_label,
    "moderation": _set_moderation,
    "declarations": _require_declarations,
    "suspension": _suspend,
    "reinstatement": _reinstate,
    "orders": _allow_orders,
}


def _parse_limit(text: str, field: str) -> int | None:
    value = parse_integer(text)
    if text and value is None:
        raise AppError("invalid_request", f"{field_label(field)} must be a whole number.", field=field, value=text)
    return value
