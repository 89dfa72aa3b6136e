"""API keys: create (the secret is shown once), rotate with an overlap, revoke."""

from datetime import datetime, timedelta

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.accounts.caller import require_active
from app.accounts.keys import is_live, issue_key, list_keys, revoke_key, revoke_lineage, rotate_key
from app.accounts.projects import list_projects
from app.accounts.tables import ApiKey
from app.clock import now
from app.errors import AppError
from app.roles import Scope
from app.web.auth import FormDep, OwnerDep, SessionDep, Visitor, text_of, texts_of
from app.web.forms import NO_FORM, SubmittedForm, parse_optional_amount
from app.web.language import gettext
from app.web.render import page, redirect

router = APIRouter(include_in_schema=False)

SCOPES = (Scope.VIDEOS, Scope.BILLING, Scope.WEBHOOKS)
OVERLAP_HOURS = (0, 1, 24, 72)
# After how many days a new key may stop working by itself.
EXPIRY_DAYS = (7, 30, 90, 365)


@router.get("/account/keys")
def show_keys(request: Request, session: SessionDep, visitor: OwnerDep) -> Response:
    """Show the account's keys without their secrets."""
    return _keys(request, session, visitor)


@router.post("/account/keys")
def post_key(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep) -> Response:
    """Create a key. Only the page that this returns shows the secret."""
    currency = visitor.currency
    try:
        require_active(visitor.caller)
        scopes = [scope for scope in SCOPES if scope in texts_of(form, "scopes")]
        if not scopes:
            raise AppError("invalid_request", "Tick at least one permission.", field="permissions")
        with session.begin_nested():
            _, secret = issue_key(
                session,
                visitor.caller.account_id,
                scopes=scopes,
                name=text_of(form, "name"),
                test=text_of(form, "mode") == "test",
                project_id=text_of(form, "project") or None,
                member_id=visitor.caller.member_id,
                expires_at=_expiry(now(session), text_of(form, "expires")),
                budget_total=parse_optional_amount(text_of(form, "budget_total"), currency, "budget_total"),
                job_cap=parse_optional_amount(text_of(form, "job_cap"), currency, "job_cap"),
                giver=visitor.caller,
            )
    except AppError as error:
        return _keys(request, session, visitor, error=error, form=SubmittedForm(form))
    return _keys(request, session, visitor, secret=secret)


@router.post("/account/keys/{key_id}/rotation")
def post_rotation(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, key_id: str) -> Response:
    """Replace a key; the old one keeps working for the overlap."""
    require_active(visitor.caller)
    hours = text_of(form, "overlap_hours", "24")
    overlap = timedelta(hours=int(hours) if hours in map(str, OVERLAP_HOURS) else 24)
    _, secret = rotate_key(session, visitor.caller.account_id, key_id, overlap=overlap, giver=visitor.caller)
    return _keys(request, session, visitor, secret=secret)


@router.post("/account/keys/{key_id}/revocation")
def post_revocation(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, key_id: str) -> Response:
    """Revoke a key at once; with the field `line` also every key that replaced it."""
    end = revoke_lineage if text_of(form, "line") else revoke_key
    end(session, visitor.caller.account_id, key_id)
    return redirect(request, "/account/keys")


def _expiry(moment: datetime, days: str) -> datetime | None:
    """Return the end of a key that is made now, or None for one without. Raises AppError `invalid_request`."""
    if not days:
        return None
    if days not in map(str, EXPIRY_DAYS):
        message = f"A key expires in {', '.join(map(str, EXPIRY_DAYS))} days, or never."
        raise AppError("invalid_request", message, field="expires", allowed=list(EXPIRY_DAYS))
    return moment + timedelta(days=int(days))


def _keys(
    request: Request,
    session: Session,
    visitor: Visitor,
    *,
    secret: str | None = None,
    error: AppError | None = None,
    form: SubmittedForm = NO_FORM,
) -> Response:
    account_id, moment = visitor.caller.account_id, now(session)
    projects = {each.id: each.name for each in list_projects(session, account_id)}
    keys = list_keys(session, account_id)
    last4_by_successor = {key.replaced_by: key.last4 for key in keys if key.replaced_by is not None}
    rows = [_show(key, projects, last4_by_successor, is_live(key, moment)) for key in keys]
    return page(
        request,
        "account/keys.html",
        status=error.status if error else 200,
        title=gettext("API keys"),
        keys=sorted(rows, key=lambda key: not key["is_live"]),
        projects=projects,
        scopes=[str(scope) for scope in SCOPES],
        expiries=EXPIRY_DAYS,
        secret=secret,
        error=error,
        form=form,
        now=moment,
    )


def _show(
    key: ApiKey, projects: dict[str, str], last4_by_successor: dict[str, str], is_usable: bool
) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name or gettext("unnamed"),
        "start": f"cm_{'test' if key.test else 'live'}_{key.keyid}",
        "last4": key.last4,
        "scopes": [*key.scopes, *key.roles],
        "test": key.test,
        "project": projects.get(key.project_id or "", ""),
        "budget_total": key.budget_total,
        "job_cap": key.job_cap,
        "last_used_at": key.last_used_at,
        "expires_at": key.expires_at,
        "created_at": key.created_at,
        "is_live": is_usable,
        "in_place_of": last4_by_successor.get(key.id, ""),
        "was_replaced": key.replaced_by is not None,
        "may_change": is_usable and Scope.ADMIN not in key.scopes,
    }
