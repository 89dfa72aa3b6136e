"""Authenticate the caller of a request by its API key, and check the scope and roles that a route requires."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.security import HTTPBearer
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.accounts.caller import Caller
from app.accounts.key_holder import KeyHolder, holder_of, read_key_holder
from app.accounts.keys import authenticate
from app.db import autocommit, transaction
from app.errors import AppError
from app.jobs.rate_limits import count_known_key, count_request
from app.logs import add_log_ids
from app.request_client import client_of, remember_client
from app.request_session import SessionDep, gate_place
from app.roles import Scope, require_role, require_scope

# Declares the scheme in the OpenAPI document. The key itself is read below, so that the error has our format.
_BEARER = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer cm_live_…`")

# Stands in place of a scope where any key will do.
ANY = "any"


def bearer_key(request: Request) -> str:
    """Return the key of the Authorization header. Raises AppError `unauthenticated` without one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise AppError("unauthenticated", "Send your API key as `Authorization: Bearer cm_live_…`.")
    return key.strip()


def require_key(request: Request) -> str:
    """Check that a request carries a valid key, whatever its scopes; return the account's id.

    A key that was valid within the last minute is believed: this decides only whether a body is read, and the route
    authenticates again. Raises AppError `unauthenticated`, and `unavailable` while the database cannot be reached.
    """
    key, client = bearer_key(request), client_of(request)()
    if client.is_known:
        add_log_ids(account_id=client.name)
        return client.name
    try:
        with transaction() as session:
            account_id = authenticate(session, key).account_id
    except SQLAlchemyError as error:
        message = "The service cannot reach its database now."
        raise AppError("unavailable", message, retry_after=2) from error
    remember_client(request, account_id)
    return account_id


def authorize(request: Request, session: Session, scope: Scope | None, *roles: str) -> Caller:
    """Return the caller of a request, who must have this scope and one of these roles, and count the request.

    Where no scope is named, any key will do.

    Raises AppError `unauthenticated`, `forbidden` and `rate_limited`.
    """
    key = bearer_key(request)
    counted = count_known_key(request, key)
    caller = authenticate(session, key)
    remember_client(request, caller.account_id)
    if scope is not None:
        require_scope(caller, scope)
    if roles:
        require_role(caller, *roles)
    if not counted:
        count_request(request, session, caller, key)
    return caller


def needs(scope: Scope | None, *roles: str) -> Callable[..., Caller]:
    """Return the dependency that yields the caller of a request, who must have this scope and one of these roles.

    Where no scope is named, any key will do.
    """

    def find_caller(
        request: Request, session: SessionDep, _documented: Annotated[object, Depends(_BEARER)] = None
    ) -> Caller:
        return authorize(request, session, scope, *roles)

    # The access tests read here what each route requires.
    find_caller.scope, find_caller.roles = scope or ANY, roles  # type: ignore[attr-defined]
    return find_caller


def needs_without_session(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """Return the same dependency for routes that hold no database session while they work (streams, test sends)."""

    def find_in_transaction(request: Request) -> Caller:
        with transaction() as session:
            return authorize(request, session, scope)

    async def find_caller(request: Request, _documented: Annotated[object, Depends(_BEARER)] = None) -> Caller:
        async with gate_place(request):
            return await run_in_threadpool(find_in_transaction, request)

    find_caller.scope, find_caller.roles = scope, ()  # type: ignore[attr-defined]
    return find_caller


def answers_poll(
    scope: Scope, answer: Callable[[Request, Connection, KeyHolder], Response]
) -> Callable[..., Awaitable[Response]]:
    """Return the dependency that yields what `answer` returns to the holder of a key with this scope.

    For frequent reads: the key is checked and the answer made in one piece of work of one thread, over a connection
    that commits each statement.
    """

    def check_and_answer(request: Request) -> Response:
        key = bearer_key(request)
        is_counted = count_known_key(request, key)
        if not is_counted:
            with transaction() as session:
                holder = holder_of(authorize(request, session, scope))
        with autocommit() as connection:
            if is_counted:
                holder = read_key_holder(connection, key)
                remember_client(request, holder.account_id)
                require_scope(holder, scope)
            return answer(request, connection, holder)

    async def find_answer(request: Request, _documented: Annotated[object, Depends(_BEARER)] = None) -> Response:
        async with gate_place(request):
            return await run_in_threadpool(check_and_answer, request)

    find_answer.scope, find_answer.roles = scope, ()  # type: ignore[attr-defined]
    return find_answer


AnyCaller = Annotated[Caller, Depends(needs(None))]
VideosCaller = Annotated[Caller, Depends(needs(Scope.VIDEOS))]
BillingCaller = Annotated[Caller, Depends(needs(Scope.BILLING))]
WebhooksCaller = Annotated[Caller, Depends(needs(Scope.WEBHOOKS))]
