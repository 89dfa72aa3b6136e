"""Authentication of page requests: the signed-in member, role checks, and form bodies, as FastAPI dependencies."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile

from app.accounts.caller import Caller
from app.accounts.members import caller_by_id, get_member
from app.admin.inbox import count_reviews, read_inbox
from app.admin.inbox_counts import INBOX_COUNTS
from app.admin.moderation import MODERATORS
from app.db import transaction
from app.errors import AppError
from app.logs import add_log_ids
from app.request_client import client_of, remember_client
from app.request_limits import RequestLimits, WorkKind
from app.request_session import SessionDep as SessionDep
from app.roles import ADMIN_ROLES, Role
from app.settings import get_settings
from app.wallet.balance import balance
from app.web.csrf import CSRF_FIELD, new_csrf_token, require_csrf
from app.web.language import choose_language
from app.web.sessions import cookie_name, read_web_session


@dataclass(frozen=True)
class Visitor:
    """The signed-in member who requested a page."""

    caller: Caller
    name: str
    email: str
    # Plain copies of what templates show: after a rollback the account's row can no longer be read.
    account: str
    currency: str
    zone: str  # time zone of the times on pages
    billing_zone: str  # time zone of the account's months and of its days of usage
    language: str | None  # the language of pages that the member chose
    is_test_account: bool
    session_id: str
    csrf: str
    proved_at: datetime
    funds: int | None  # available balance in minor units; None for members who are not owners, and in test mode

    @property
    def roles(self) -> frozenset[str]:
        """The member's roles."""
        return self.caller.roles

    @property
    def test(self) -> bool:
        """Whether the pages show and create test jobs."""
        return self.caller.test

    @property
    def is_owner(self) -> bool:
        """Whether the member may see and change the account's money, keys and members."""
        return Role.OWNER in self.caller.roles

    @property
    def is_creator(self) -> bool:
        """Whether the member may order films."""
        return bool(self.caller.roles & {Role.OWNER, Role.CREATOR})

    @property
    def is_admin(self) -> bool:
        """Whether the member may open the console."""
        return bool(self.caller.roles & ADMIN_ROLES)


def find_visitor(request: Request, session: SessionDep) -> Visitor | None:
    """Return the signed-in visitor, or None. Every page's template reads it from the request's state."""
    token = request.cookies.get(cookie_name())
    web_session = read_web_session(session, token) if token else None
    if web_session is None:
        return None
    try:
        caller = caller_by_id(session, web_session.member_id)
    except AppError:
        return None
    member = get_member(session, caller.account_id, web_session.member_id)
    test = caller.test or web_session.test
    sees_money = Role.OWNER in caller.roles and not test
    visitor = Visitor(
        caller=replace(caller, test=test),
        name=member.name or member.email.partition("@")[0],
        email=member.email,
        account=caller.account.name,
        currency=caller.account.currency,
        zone=member.zone or caller.account.billing_zone,
        billing_zone=caller.account.billing_zone,
        language=member.language,
        is_test_account=caller.account.test,
        session_id=web_session.id,
        csrf=new_csrf_token(web_session.token),
        proved_at=web_session.proved_at,
        funds=balance(session, caller.account_id).available if sees_money else None,
    )
    request.state.visitor = visitor
    choose_language(visitor.language)
    if visitor.is_admin:
        # Read by the pages of the console only, and once.
        inbox = cache(lambda: read_inbox(session, caller.person, frozenset(caller.roles), caller.account.billing_zone))
        request.state.inbox = inbox
        request.state.inbox_count = lambda: INBOX_COUNTS.get(caller.person, lambda: len(inbox()))
        request.state.review_count = lambda: INBOX_COUNTS.get(
            f"reviews of {caller.person}", lambda: count_reviews(session, frozenset(caller.roles))
        )
        if request.method != "GET":
            INBOX_COUNTS.forget()
    remember_client(request, visitor.caller.account_id)
    return visitor


MaybeVisitor = Annotated[Visitor | None, Depends(find_visitor)]


def _signed_in(visitor: MaybeVisitor) -> Visitor:
    if visitor is None:
        raise AppError("unauthenticated", "Sign in to see this page.")
    return visitor


def needs_role(*roles: str) -> Callable[..., Visitor]:
    """Return the dependency of pages that require one of these roles. It raises AppError `forbidden`."""

    def check(visitor: Annotated[Visitor, Depends(_signed_in)]) -> Visitor:
        if not visitor.caller.roles.intersection(roles):
            role_names = " or ".join(str(role).replace("_", " ") for role in roles)
            raise AppError("forbidden", f"You do not have access to this page. It needs the role {role_names}.")
        return visitor

    # The access tests read each page's required roles from here.
    check.roles = roles  # type: ignore[attr-defined]
    return check


# A storyboard of 24 shots with two frames each.
MAX_FILES = 48
FIELDS_MAX = 600
# A price book of some hundred rates and promotions.
LONG_FORM_FIELDS_MAX = 5000

MemberDep = Annotated[Visitor, Depends(_signed_in)]
CreatorDep = Annotated[Visitor, Depends(needs_role(Role.CREATOR, Role.OWNER))]
OwnerDep = Annotated[Visitor, Depends(needs_role(Role.OWNER))]
AdminDep = Annotated[Visitor, Depends(needs_role(*sorted(ADMIN_ROLES)))]
OperatorDep = Annotated[Visitor, Depends(needs_role(Role.OPERATOR))]
ModeratorDep = Annotated[Visitor, Depends(needs_role(*MODERATORS))]
# The list of what was refused is seen by moderators alone.
QuarantineDep = Annotated[Visitor, Depends(needs_role(Role.MODERATOR))]
AuthorDep = Annotated[Visitor, Depends(needs_role(Role.PRICING_AUTHOR))]


# A storyboard of 24 shots in Chinese, each character as nine bytes.
_DRAFT_BYTES_MAX = 256 * 1024


def _require_signed_in(request: Request) -> str:
    """Return the account of the visitor who sends a body. Raises AppError `unauthenticated`."""
    client = client_of(request)()
    if client.is_known:
        add_log_ids(account_id=client.name)
        return client.name
    with transaction() as session:
        visitor = find_visitor(request, session)
    if visitor is None:
        raise AppError("unauthenticated", "Sign in to see this page.")
    return visitor.caller.account_id


def _draft_bytes_max(request: Request) -> int:
    is_upload = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    return get_settings().body_bytes_max if is_upload else _DRAFT_BYTES_MAX


def draft_limits(work: WorkKind) -> RequestLimits:
    """Return the limits of a page to which members send storyboards or pictures, whose bodies may be larger."""
    return RequestLimits(work, bytes_max=_draft_bytes_max, authorize=_require_signed_in)


async def read_form(request: Request) -> AsyncIterator[FormData]:
    """Yield a form that one of our own pages submitted; its files are closed after the response.

    Raises AppError `forbidden` for a form from another site.
    """
    async with _checked_form(request, FIELDS_MAX) as form:
        yield form


async def read_long_form(request: Request) -> AsyncIterator[FormData]:
    """Yield a form as `read_form` does, with as many fields as a price book may have."""
    async with _checked_form(request, LONG_FORM_FIELDS_MAX) as form:
        yield form


@asynccontextmanager
async def _checked_form(request: Request, fields_max: int) -> AsyncIterator[FormData]:
    async with request.form(max_files=MAX_FILES, max_fields=fields_max) as form:
        csrf_token = form.get(CSRF_FIELD)
        require_csrf(request, csrf_token if isinstance(csrf_token, str) else None)
        yield form


FormDep = Annotated[FormData, Depends(read_form)]
LongFormDep = Annotated[FormData, Depends(read_long_form)]


def text_of(form: FormData, name: str, default: str = "") -> str:
    """Return a form field as trimmed text, or the default where it is missing or a file."""
    value = form.get(name)
    return default if value is None or isinstance(value, UploadFile) else value.strip()


def texts_of(form: FormData, name: str) -> list[str]:
    """Return all values of a repeated form field as trimmed text, in page order."""
    return [value.strip() for value in form.getlist(name) if isinstance(value, str)]


def file_of(form: FormData, name: str) -> UploadFile | None:
    """Return an uploaded file, or None where no file was chosen."""
    value = form.get(name)
    return value if isinstance(value, UploadFile) and value.filename else None
