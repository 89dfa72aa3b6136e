"""The tools of the MCP interface. Only `generate` spends money, and only on a quote whose total is confirmed."""

import functools
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from anyio import to_thread
from mcp.server.mcpserver import Context, MCPServer
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.requests import Request

from app.accounts.caller import Caller, require_active
from app.accounts.keys import authenticate
from app.api.access import bearer_key
from app.api.mcp.problems import ProblemServer, tool_error
from app.api.videos.groups import cancel_group, view_group
from app.api.videos.inputs import borrowed_inputs, ingest_inputs
from app.api.videos.routes import view, view_committed, views
from app.db import transaction
from app.errors import AppError, not_found
from app.jobs.cancel import request_cancel
from app.jobs.check_files import check_request_files
from app.jobs.check_order import check_order, check_request
from app.jobs.find import find_job, list_jobs, receipt_of
from app.jobs.groups import is_group
from app.jobs.idempotency import OrderIdentity
from app.jobs.open_quotes import find_quote
from app.jobs.quote import estimate_films, make_quote, quoted_total, show_estimate, show_quote
from app.jobs.rate_limits import check_films, count_call
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec
from app.jobs.submit import submit
from app.request_limits import WorkKind
from app.request_session import gate_place
from app.roles import Scope, require_scope

INSTRUCTIONS = """Generate films billed by the second of delivered video.
Call `estimate` to explore prices; it stores nothing. To order, call `quote`, show its total and lines to the person who
pays, and only when they agree call `generate` with the quote's id and the same total. Poll `status` for progress."""

VideoId = Annotated[str, Field(description="The id of one of your videos.")]
VideoOrGroupId = Annotated[str, Field(description="The id of one of your videos, or of the group of one order.")]


Tool = Callable[..., dict[str, Any]]


def in_session(work: WorkKind) -> Callable[[Tool], Callable[..., Awaitable[dict[str, Any]]]]:
    """Return the decorator that runs a tool of this kind of work in a thread and in one transaction.

    It runs as the caller whose key the HTTP request carries, in a place at the gate. Errors become tool errors with the
    content of a problem document: code, message, field and facts.
    """
    return functools.partial(_in_session, work)


def _in_session(work: WorkKind, tool: Tool) -> Callable[..., Awaitable[dict[str, Any]]]:

    def call_tool(request: Request, *arguments: Any) -> dict[str, Any]:
        with transaction() as session:
            caller = authenticate(session, bearer_key(request))
            require_scope(caller, Scope.VIDEOS)
            return tool(session, caller, *arguments)

    @functools.wraps(tool)
    async def run(context: Context[Any, Any], *arguments: Any) -> dict[str, Any]:
        request = tool_request(context)
        try:
            async with gate_place(request, work):
                return await to_thread.run_sync(call_tool, request, *arguments)
        except AppError as error:
            raise tool_error(error) from error

    return run


def tool_request(context: Context[Any, Any]) -> Request:
    """Return the HTTP request of a tool call, which was authenticated before."""
    request = context.request_context.request
    if not isinstance(request, Request):
        raise LookupError("a tool was called without an HTTP request")
    return request


@in_session(WorkKind.ORDER)
def _estimate(session: Session, caller: Caller, order: VideoRequest) -> dict[str, Any]:
    with borrowed_inputs(session, caller, order, {}) as request:
        check_films(session, caller, request.films)
        films = estimate_films(session, caller, request)
    return show_estimate(films, order).model_dump(mode="json")


@in_session(WorkKind.ORDER)
def _quote(session: Session, caller: Caller, order: VideoRequest) -> dict[str, Any]:
    require_active(caller)
    check_request(session, caller, order, interface="mcp")
    check = functools.partial(check_request_files, session, caller, interface="mcp")
    quote = make_quote(session, caller, ingest_inputs(session, caller, order, {}, check=check))
    return show_quote(quote).model_dump(mode="json")


@in_session(WorkKind.ORDER)
def _generate(session: Session, caller: Caller, request: Request, quote_id: str, confirm_total: str) -> dict[str, Any]:
    quote = find_quote(session, caller, quote_id)
    total = quoted_total(quote).text
    if confirm_total != total:
        message = f"confirm_total must equal the quote's total, {total} {quote.currency}."
        raise AppError("invalid_request", message, field="confirm_total", allowed=[total])
    spec = Spec.model_validate(quote.spec)
    # The fields of an order that are not in its Spec (project, callback, metadata) were stored with the quote.
    options = quote.body.get("beside", {})
    video_request = VideoRequest.model_validate({**options, "prompt": spec.shots[0].prompt, "quote_id": quote_id})
    # The quote's id is the idempotency key: an agent that repeats the call gets the film that it already ordered.
    order = OrderIdentity(
        request=video_request,
        door="mcp",
        spec=spec,
        idempotency_key=f"mcp:{quote_id}",
        fingerprint=quote_id,
        traceparent=request.state.traceparent,
    )
    count_call(request, session, caller, order)
    order = check_order(session, caller, order)
    return view_committed(session, submit(session, caller, order)).model_dump(mode="json", exclude_none=True)


@in_session(WorkKind.LIGHT)
def _status(session: Session, caller: Caller, video_id: str) -> dict[str, Any]:
    if is_group(video_id):
        return view_group(session, caller, video_id).model_dump(mode="json", exclude_none=True)
    return view(session, find_job(session, caller, video_id)).model_dump(mode="json", exclude_none=True)


@in_session(WorkKind.LIGHT)
def _cancel(session: Session, caller: Caller, video_id: str) -> dict[str, Any]:
    if is_group(video_id):
        return cancel_group(session, caller, video_id).model_dump(mode="json", exclude_none=True)
    job = request_cancel(session, find_job(session, caller, video_id, lock=True))
    return view_committed(session, job).model_dump(mode="json", exclude_none=True)


@in_session(WorkKind.LIGHT)
def _list(session: Session, caller: Caller, limit: int, after: str | None) -> dict[str, Any]:
    jobs, more = list_jobs(session, caller, limit=limit, after=after)
    data = [each.model_dump(mode="json", exclude_none=True) for each in views(session, jobs)]
    return {"data": data, "has_more": more}


@in_session(WorkKind.LIGHT)
def _receipt(session: Session, caller: Caller, video_id: str) -> dict[str, Any]:
    row = receipt_of(session, find_job(session, caller, video_id))
    if row is None:
        raise not_found("receipt", video_id)
    return {"number": row.number, "video": video_id, **json.loads(row.body)}


async def estimate_film(order: VideoRequest, context: Context[Any, Any]) -> dict[str, Any]:
    """Price a film. Nothing is stored or spent, and the price is not locked."""
    return await _estimate(context, order)


async def quote_film(order: VideoRequest, context: Context[Any, Any]) -> dict[str, Any]:
    """Lock the price of a film for some minutes, with all fields of the order. `generate` then orders it."""
    return await _quote(context, order)


async def generate_film(
    quote_id: Annotated[str, Field(description="The id that `quote` returned.")],
    confirm_total: Annotated[str, Field(description="The quote's total, repeated to confirm the charge.")],
    context: Context[Any, Any],
) -> dict[str, Any]:
    """Order the film of a quote, or its `n` films. This spends money: at most the quote's total, for what is delivered.

    Of several the answer is the first; `status` with its `group` shows all.
    """
    return await _generate(context, tool_request(context), quote_id, confirm_total)


async def film_status(video_id: VideoOrGroupId, context: Context[Any, Any]) -> dict[str, Any]:
    """Return the status of a film: its progress, its queue position, and its link when it is completed."""
    return await _status(context, video_id)


async def cancel_film(video_id: VideoOrGroupId, context: Context[Any, Any]) -> dict[str, Any]:
    """Cancel a film. What was already rendered is delivered and charged, and nothing else."""
    return await _cancel(context, video_id)


async def list_films(
    context: Context[Any, Any],
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    after: Annotated[str | None, Field(description="The last id of the previous page.")] = None,
) -> dict[str, Any]:
    """List your films, newest first."""
    return await _list(context, limit, after)


async def film_receipt(video_id: VideoId, context: Context[Any, Any]) -> dict[str, Any]:
    """Return the receipt of an ended film. Each line names its pricing rule."""
    return await _receipt(context, video_id)


TOOLS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "estimate": estimate_film,
    "quote": quote_film,
    "generate": generate_film,
    "status": film_status,
    "cancel": cancel_film,
    "list": list_films,
    "receipt": film_receipt,
}


def make_server() -> MCPServer[Any]:
    """Return an MCP server with these tools."""
    server = ProblemServer("cinemeter", instructions=INSTRUCTIONS)
    for name, tool in TOOLS.items():
        server.add_tool(tool, name=name)
    return server
