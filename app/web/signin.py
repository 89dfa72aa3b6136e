"""Pages of coming and going: sign in, sign up, sign out, follow a letter or a link, choose a theme."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.invitations import accept_invitation, read_invitation
from app.accounts.members import record_sign_in, set_password, sign_in, sign_up
from app.accounts.passwords import LENGTH_MIN
from app.errors import AppError
from app.roles import ADMIN_ROLES
from app.settings import get_settings
from app.wallet.balance import open_wallet
from app.web.auth import FormDep, MaybeVisitor, MemberDep, SessionDep, text_of
from app.web.csrf import safe_path
from app.web.password_links import welcomed
from app.web.problems import NEXT_LENGTH_MAX
from app.web.render import THEME_COOKIE, THEMES, go, page
from app.web.sessions import (
    drop_cookie,
    end_other_sessions,
    end_web_session,
    is_secure,
    open_web_session,
    set_cookie,
    show_test_jobs,
)
from app.web.signin_limits import clear_tries, count_try, return_try

router = APIRouter(include_in_schema=False)

Next = Annotated[str | None, Query(max_length=NEXT_LENGTH_MAX)]


@router.get("/sign-in")
def show_sign_in(request: Request, visitor: MaybeVisitor, next: Next = None) -> Response:
    """Show the sign-in; who is signed in already goes on."""
    if visitor is not None:
        return go(request, safe_path(next, home_path(visitor.caller.roles)))
    return page(request, "signin/sign_in.html", **_sign_in_context(next))


@router.post("/sign-in")
def post_sign_in(request: Request, session: SessionDep, form: FormDep) -> Response:
    """Sign a member in with address and password."""
    email, wanted = text_of(form, "email").lower(), text_of(form, "next")
    password = str(form.get("password") or "")
    machine = request.client.host if request.client else "unknown"
    try:
        count_try(f"member:{email}", f"machine:{machine}")
        caller = sign_in(session, email, password)
    except AppError as error:
        context = _sign_in_context(wanted)
        return page(request, "signin/sign_in.html", status=error.status, **{**context, "error": error, "email": email})
    clear_tries(f"member:{email}")
    return_try(f"machine:{machine}")
    return _enter(request, session, caller.member_id or "", safe_path(wanted, home_path(caller.roles)))


@router.get("/sign-up")
def show_sign_up(request: Request) -> Response:
    """Show the sign-up, or say how accounts are opened here."""
    return page(request, "signin/sign_up.html", signup=get_settings().signup, error=None, email="", name="")


@router.post("/sign-up")
def post_sign_up(request: Request, session: SessionDep, form: FormDep) -> Response:
    """Open an account for a stranger, where the operator allows it, and sign them in."""
    email, name = text_of(form, "email").lower(), text_of(form, "name")
    count_try(f"sign-up:{request.client.host if request.client else 'unknown'}")
    # What fails here has written nothing: the savepoint takes back the account of a refused member.
    try:
        with session.begin_nested():
            member = sign_up(session, email, str(form.get("password") or ""), name=name)
            open_wallet(session, member.account_id)
    except AppError as error:
        context: dict[str, Any] = {"signup": get_settings().signup, "error": error, "email": email, "name": name}
        return page(request, "signin/sign_up.html", status=error.status, **context)
    return _enter(request, session, member.id, "/studio")


@router.get("/invitations/{token}")
def show_invitation(request: Request, session: SessionDep, token: str) -> Response:
    """Show what an invited person has to fill in, or that the letter opens no door."""
    read_invitation(session, token)
    context: dict[str, Any] = {"kind": "invitation", "action": request.url.path, "error": None, "name": ""}
    return page(request, "signin/choose_password.html", **context)


@router.post("/invitations/{token}")
def post_invitation(request: Request, session: SessionDep, form: FormDep, token: str) -> Response:
    """Join the account that the letter invites to."""
    try:
        with session.begin_nested():
            member = accept_invitation(session, token, str(form.get("password") or ""), name=text_of(form, "name"))
    except AppError as error:
        context: dict[str, Any] = {"kind": "invitation", "action": request.url.path, "error": error}
        context["name"] = text_of(form, "name")
        return page(request, "signin/choose_password.html", status=error.status, **context)
    return _enter(request, session, member.id, home_path(frozenset(member.roles)))


@router.get("/welcome/{token}")
def show_welcome(request: Request, session: SessionDep, token: str) -> Response:
    """Greet the owner of a link to a new password."""
    member = welcomed(session, token)
    context: dict[str, Any] = {"kind": "welcome", "action": request.url.path, "error": None, "email": member.email}
    return page(request, "signin/choose_password.html", **context, account=get_account(session, member.account_id).name)


@router.post("/welcome/{token}")
def post_welcome(request: Request, session: SessionDep, form: FormDep, token: str) -> Response:
    """Take the new password and sign the member in."""
    member = welcomed(session, token)
    try:
        set_password(session, member.account_id, member.id, str(form.get("password") or ""))
    except AppError as error:
        context: dict[str, Any] = {"kind": "welcome", "action": request.url.path, "error": error, "email": member.email}
        account = get_account(session, member.account_id).name
        return page(request, "signin/choose_password.html", status=error.status, **context, account=account)
    # Who needed a new password may have lost the old one to somebody else.
    end_other_sessions(session, member.id)
    return _enter(request, session, member.id, home_path(frozenset(member.roles)))


@router.post("/sign-out")
def post_sign_out(request: Request, session: SessionDep, form: FormDep, visitor: MaybeVisitor) -> Response:
    """End the session."""
    if visitor is not None:
        end_web_session(session, visitor.session_id)
    response = go(request, "/sign-in")
    drop_cookie(response)
    return response


@router.post("/theme")
def post_theme(request: Request, form: FormDep) -> Response:
    """Keep the theme that a visitor chose, in a cookie of its own: it is no secret, and strangers choose too."""
    theme = text_of(form, "theme")
    response = go(request, safe_path(text_of(form, "next"), "/"))
    kept = theme if theme in THEMES else "auto"
    response.set_cookie(THEME_COOKIE, kept, max_age=31_536_000, samesite="lax", secure=is_secure(), httponly=True)
    return response


@router.post("/test-mode")
def post_test_mode(request: Request, session: SessionDep, form: FormDep, visitor: MemberDep) -> Response:
    """Switch the pages between live jobs and test jobs."""
    show_test_jobs(session, visitor.session_id, test=text_of(form, "test") == "on")
    return go(request, "/studio")


@router.get("/")
def show_start(request: Request, visitor: MaybeVisitor) -> Response:
    """Send members to their work, and strangers to what it costs."""
    return go(request, home_path(visitor.caller.roles) if visitor else "/prices")


def home_path(roles: frozenset[str]) -> str:
    """Return the page that a member works on: those who only run the service have no films of their own."""
    return "/admin" if roles and roles <= ADMIN_ROLES else "/studio"


def _enter(request: Request, session: Session, member_id: str, path: str) -> Response:
    record_sign_in(session, member_id)
    response = go(request, path)
    set_cookie(response, open_web_session(session, member_id))
    return response


def _sign_in_context(wanted: str | None) -> dict[str, Any]:
    return {"next": wanted or "", "error": None, "email": "", "signup": get_settings().signup, "length_min": LENGTH_MIN}
