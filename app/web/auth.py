"""Who looks at a page: nobody yet, or a signed-in member; and the dependencies that ask for one or the other."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile

from app.accounts.caller import Caller
from app.accounts.members import caller_by_id, get_member
from app.errors import AppError
from app.request_session import SessionDep as SessionDep
from app.roles import ADMIN_ROLES, Role
from app.wallet.balance import balance
from app.web.csrf import FIELD, require_csrf
from app.web.sessions import cookie_name, read_web_session


@dataclass(frozen=True)
class Visitor:
    """A signed-in member as the pages know them."""

    caller: Caller
    name: str
    email: str
    # Plain copies of what templates show: after a rollback the account's row can no longer be asked.
    account: str
    currency: str
    zone: str  # in which the pages tell moments: the account's billing zone
    is_test_account: bool
    session_id: str
    csrf: str
    proved_at: datetime
    funds: int | None  # what an owner can spend, in minor units; nobody else sees it, and test films cost nothing

    @property
    def roles(self) -> frozenset[str]:
        """What the member may do."""
        return self.caller.roles

    @property
    def test(self) -> bool:
        """Whether the pages show and order test jobs."""
        return self.caller.test

    @property
    def is_owner(self) -> bool:
        """Whether the member may see and change the account's money, keys and people."""
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
    """Return who is signed in, or None. The template of every page reads it from the request's state."""
    token = request.cookies.get(cookie_name())
    found = read_web_session(session, token) if token else None
    if found is None:
        return None
    try:
        caller = caller_by_id(session, found.member_id)
    except AppError:
        return None
    member = get_member(session, caller.account_id, found.member_id)
    test = caller.test or found.test
    sees_money = Role.OWNER in caller.roles and not test
    visitor = Visitor(
        caller=replace(caller, test=test),
        name=member.name or member.email.partition("@")[0],
        email=member.email,
        account=caller.account.name,
        currency=caller.account.currency,
        zone=caller.account.billing_zone,
        is_test_account=caller.account.test,
        session_id=found.id,
        csrf=found.csrf,
        proved_at=found.proved_at,
        funds=balance(session, caller.account_id).available if sees_money else None,
    )
    request.state.visitor = visitor
    return visitor


MaybeVisitor = Annotated[Visitor | None, Depends(find_visitor)]


def _signed_in(visitor: MaybeVisitor) -> Visitor:
    if visitor is None:
        raise AppError("unauthenticated", "Sign in to see this page.")
    return visitor


def needs_role(*roles: str) -> Callable[..., Visitor]:
    """Return the dependency for pages that ask for one of these roles."""

    def check(visitor: Annotated[Visitor, Depends(_signed_in)]) -> Visitor:
        if not visitor.caller.roles.intersection(roles):
            wanted = " or ".join(str(role).replace("_", " ") for role in roles)
            raise AppError("forbidden", f"This page is for people with the role {wanted}.")
        return visitor

    # The access walk of the tests reads what each page asks for from here.
    check.roles = roles  # type: ignore[attr-defined]
    return check


# A storyboard of 24 shots has two pictures each.
MAX_FILES = 48

MemberDep = Annotated[Visitor, Depends(_signed_in)]
CreatorDep = Annotated[Visitor, Depends(needs_role(Role.CREATOR, Role.OWNER))]
OwnerDep = Annotated[Visitor, Depends(needs_role(Role.OWNER))]
AdminDep = Annotated[Visitor, Depends(needs_role(*sorted(ADMIN_ROLES)))]
OperatorDep = Annotated[Visitor, Depends(needs_role(Role.OPERATOR))]
AuthorDep = Annotated[Visitor, Depends(needs_role(Role.PRICING_AUTHOR))]
ApproverDep = Annotated[Visitor, Depends(needs_role(Role.PRICING_APPROVER))]


async def read_form(request: Request) -> AsyncIterator[FormData]:
    """Give the form that one of our own pages sent; its files are closed after the answer.

    Raises AppError `forbidden` for any other site's.
    """
    async with request.form(max_files=MAX_FILES, max_fields=600) as form:
        word = form.get(FIELD)
        require_csrf(request, word if isinstance(word, str) else None)
        yield form


FormDep = Annotated[FormData, Depends(read_form)]


def text_of(form: FormData, name: str, default: str = "") -> str:
    """Return a field of a form as text, trimmed; a file is no text."""
    value = form.get(name)
    return default if value is None or isinstance(value, UploadFile) else value.strip()


def texts_of(form: FormData, name: str) -> list[str]:
    """Return all values of a repeated field as text, in the order of the page."""
    return [value.strip() for value in form.getlist(name) if isinstance(value, str)]


def file_of(form: FormData, name: str) -> UploadFile | None:
    """Return an uploaded file that is not empty."""
    value = form.get(name)
    return value if isinstance(value, UploadFile) and value.filename else None
