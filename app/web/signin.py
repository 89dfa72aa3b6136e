"""Sign in, sign up, sign out, accept an invitation, set a password by link, and choose theme, language or test mode."""

from asyncio import sleep, to_thread
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.invitations import accept_invitation, read_invitation
from app.accounts.members import record_sign_in, set_language, set_password, sign_in, sign_up
from app.accounts.passwords import LENGTH_MIN
from app.db import commit_early
from app.errors import AppError
from app.metrics import SIGN_INS
from app.request_session import end_admission
from app.roles import ADMIN_ROLES
from app.settings import get_settings
from app.wallet.balance import open_wallet
from app.web.auth import FormDep, MaybeVisitor, MemberDep, SessionDep, text_of
from app.web.csrf import safe_path
from app.web.description import forget_description, kept_description, studio_path
from app.web.devices import machine, network, remember_device
from app.web.language import LANGUAGE_COOKIE, LANGUAGES
from app.web.password_links import member_of_link
from app.web.problems import NEXT_LENGTH_MAX
from app.web.render import THEME_COOKIE, THEMES, page, redirect
from app.web.sessions import (
    clear_cookie,
    end_other_sessions,
    end_web_session,
    is_secure,
    open_web_session,
    set_cookie,
    set_test_mode,
)
from app.web.signin_limits import admit_try, forget_try, limit_tries

router = APIRouter(include_in_schema=False)

Next = Annotated[str | None, Query(max_length=NEXT_LENGTH_MAX)]


@router.get("/sign-in")
def show_sign_in(request: Request, visitor: MaybeVisitor, next: Next = None) -> Response:
    """Show the sign-in form; visitors who are signed in already are redirected."""
    if visitor is not None:
        return redirect(request, safe_path(next, home_path(request, visitor.caller.roles)))
    return page(request, "signin/sign_in.html", **_sign_in_context(request, next))


async def _wait_for_turn(request: Request, form: FormDep) -> AppError | None:
    """Wait as long as this try to sign in must, without a thread or a session. Returns the refusal of a longer wait."""
    email = text_of(form, "email").lower()
    try:
        seconds = await to_thread(admit_try, email, machine(request, email))
    except AppError as error:
        return error
    if seconds:
        # Whoever waits has no place at the gate: others are answered meanwhile.
        end_admission(request)
    await sleep(seconds)
    return None


# Declared before the session, which is opened after the wait.
TurnDep = Annotated[AppError | None, Depends(_wait_for_turn)]


@router.post("/sign-in")
def post_sign_in(request: Request, refusal: TurnDep, session: SessionDep, form: FormDep) -> Response:
    """Sign a member in with e-mail and password."""
    email, next_path = text_of(form, "email").lower(), text_of(form, "next")
    try:
        if refusal is not None:
            raise refusal
        caller = sign_in(session, email, str(form.get("password") or ""))
    except AppError as error:
        if error.code == "unauthenticated":
            SIGN_INS.labels("wrong").inc()
        context = _sign_in_context(request, next_path)
        return page(request, "signin/sign_in.html", status=error.status, **{**context, "error": error, "email": email})
    SIGN_INS.labels("ok").inc()
    # Redis may be slow: until its next statement the session holds no connection.
    commit_early(session)
    forget_try(email, machine(request, email))
    path = safe_path(next_path, home_path(request, caller.roles))
    response = _open_session(request, session, caller.member_id or "", path)
    remember_device(request, response, session, email)
    return response


@router.get("/sign-up")
def show_sign_up(request: Request) -> Response:
    """Show the sign-up form, or that accounts are opened by invitation."""
    return page(
        request,
        "signin/sign_up.html",
        signup=get_settings().signup,
        error=None,
        email="",
        name="",
        described=kept_description(request),
    )


@router.post("/sign-up")
def post_sign_up(request: Request, session: SessionDep, form: FormDep) -> Response:
    """Open an account, where the operator allows sign-up, and sign its owner in."""
    email, name = text_of(form, "email").lower(), text_of(form, "name")
    limit_tries(f"sign-up:{network(request)}")
    # A failure writes nothing: the savepoint rolls back the account of a rejected member.
    try:
        with session.begin_nested():
            member = sign_up(session, email, str(form.get("password") or ""), name=name)
            open_wallet(session, member.account_id)
    except AppError as error:
        context: dict[str, Any] = {"signup": get_settings().signup, "error": error, "email": email, "name": name}
        context["described"] = kept_description(request)
        return page(request, "signin/sign_up.html", status=error.status, **context)
    return _open_session(request, session, member.id, studio_path(request))


@router.get("/invitations/{token}")
def show_invitation(request: Request, session: SessionDep, token: str) -> Response:
    """Show the form of an invited person. Raises AppError for an invitation that cannot be used."""
    read_invitation(session, token)
    context: dict[str, Any] = {"kind": "invitation", "action": request.url.path, "error": None, "name": ""}
    return page(request, "signin/choose_password.html", **context)


@router.post("/invitations/{token}")
def post_invitation(request: Request, session: SessionDep, form: FormDep, token: str) -> Response:
    """Accept the invitation: add the member to the account and sign them in."""
    try:
        with session.begin_nested():
            member = accept_invitation(session, token, str(form.get("password") or ""), name=text_of(form, "name"))
    except AppError as error:
        context: dict[str, Any] = {"kind": "invitation", "action": request.url.path, "error": error}
        context["name"] = text_of(form, "name")
        return page(request, "signin/choose_password.html", status=error.status, **context)
    return _open_session(request, session, member.id, home_path(request, frozenset(member.roles)))


@router.get("/welcome/{token}")
def show_welcome(request: Request, session: SessionDep, token: str) -> Response:
    """Show the form for setting a password by link."""
    member = member_of_link(session, token)
    context: dict[str, Any] = {"kind": "welcome", "action": request.url.path, "error": None, "email": member.email}
    return page(request, "signin/choose_password.html", **context, account=get_account(session, member.account_id).name)


@router.post("/welcome/{token}")
def post_welcome(request: Request, session: SessionDep, form: FormDep, token: str) -> Response:
    """Set the new password and sign the member in."""
    member = member_of_link(session, token)
    try:
        set_password(session, member.account_id, member.id, str(form.get("password") or ""))
    except AppError as error:
        context: dict[str, Any] = {"kind": "welcome", "action": request.url.path, "error": error, "email": member.email}
        account = get_account(session, member.account_id).name
        return page(request, "signin/choose_password.html", status=error.status, **context, account=account)
    # Somebody else may know the old password.
    end_other_sessions(session, member.id)
    return _open_session(request, session, member.id, home_path(request, frozenset(member.roles)))


@router.post("/sign-out")
def post_sign_out(request: Request, session: SessionDep, form: FormDep, visitor: MaybeVisitor) -> Response:
    """End the session."""
    if visitor is not None:
        end_web_session(session, visitor.session_id)
    response = redirect(request, "/sign-in")
    clear_cookie(response)
    forget_description(response)
    return response


@router.post("/theme")
def post_theme(request: Request, form: FormDep) -> Response:
    """Store the chosen theme in a cookie of its own: it is not secret, and signed-out visitors choose too."""
    theme = text_of(form, "theme")
    response = redirect(request, safe_path(text_of(form, "next"), "/"))
    value = theme if theme in THEMES else "auto"
    keep_cookie(response, THEME_COOKIE, value)
    return response


def keep_cookie(response: Response, name: str, value: str) -> None:
    """Store a visitor's choice in the browser for a year."""
    response.set_cookie(name, value, max_age=31_536_000, samesite="lax", secure=is_secure(), httponly=True)


@router.post("/language")
def post_language(request: Request, session: SessionDep, form: FormDep, visitor: MaybeVisitor) -> Response:
    """Store the chosen language in a cookie, and for a member in the profile too, which counts on every device.

    An empty one leaves it to the browser, in both places; an unknown one changes nothing.
    """
    chosen = text_of(form, "language")
    response = redirect(request, safe_path(text_of(form, "next"), "/"))
    if chosen and chosen not in LANGUAGES:
        return response
    if visitor is not None:
        set_language(session, visitor.caller.account_id, visitor.caller.member_id or "", chosen or None)
    if chosen:
        keep_cookie(response, LANGUAGE_COOKIE, chosen)
    else:
        response.delete_cookie(LANGUAGE_COOKIE, samesite="lax", secure=is_secure(), httponly=True)
    return response


@router.post("/test-mode")
def post_test_mode(request: Request, session: SessionDep, form: FormDep, visitor: MemberDep) -> Response:
    """Switch the pages between live jobs and test jobs."""
    set_test_mode(session, visitor.session_id, test=text_of(form, "test") == "on")
    return redirect(request, "/studio")


def home_path(request: Request, roles: frozenset[str]) -> str:
    """Return the home page of a member with these roles: the console for admins, else the studio.

    What a visitor described on the landing page before is in the studio then.
    """
    return "/admin" if roles & ADMIN_ROLES else studio_path(request)


def _open_session(request: Request, session: Session, member_id: str, path: str) -> Response:
    record_sign_in(session, member_id)
    response = redirect(request, path)
    set_cookie(response, open_web_session(session, member_id))
    return response


def _sign_in_context(request: Request, next_path: str | None) -> dict[str, Any]:
    return {
        "next": next_path or "",
        "error": None,
        "email": "",
        "signup": get_settings().signup,
        "length_min": LENGTH_MIN,
        "described": kept_description(request),
    }
