"""The application: every API interface in one FastAPI app."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from threading import Lock
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from app.api import native
from app.api.admin import routes as admin
from app.api.dashscope import routes as dashscope
from app.api.gateway import routes as gateway
from app.api.interface import ApiInterface, add_interfaces
from app.api.mcp import routes as mcp
from app.api.middleware import RequestMiddleware
from app.api.openapi_examples import add_examples
from app.api.problems import ProblemOut, install
from app.api.replicate import routes as replicate
from app.api.verify import FileUrl
from app.api.videos.derived import ExtensionRequest
from app.assets.schemas import AssetFromUrl
from app.jobs.live_feed import LiveFeed
from app.jobs.schemas import VideoRequest
from app.moderation.picture_checkers import require_checkers
from app.moderation.rules import shipped_rules

# Every API interface. To add one, write its folder and name it here.
INTERFACES: tuple[Callable[[], ApiInterface], ...] = (
    native.make_interface,
    dashscope.make_interface,
    gateway.make_interface,
    replicate.make_interface,
    admin.make_interface,
    mcp.make_interface,
)

DESCRIPTION = """Video generation billed by the second of delivered video.

Get an estimate, lock the price with a quote, order a film, follow its progress, download it, and read a receipt that
names every pricing rule.
"""


# What every operation may answer besides its own success.
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemOut, "description": description, "content": {"application/problem+json": {}}}
    for status, description in {
        400: "The body cannot be read",
        401: "No valid key",
        402: "Insufficient funds",
        403: "Not allowed",
        404: "Not found",
        408: "The body did not arrive in time",
        409: "Not possible in the current state",
        413: "Body too large",
        415: "Content type not supported",
        422: "A field is invalid",
        429: "Too many requests",
        503: "Temporarily unavailable",
    }.items()
}


def operation_id(route: APIRoute) -> str:
    """Return the OpenAPI operation id of a route: the name of its handler, which is unique in the document."""
    return route.name


def create_app() -> FastAPI:
    """Return the API with all of its interfaces."""
    # A policy that cannot be read stops the start, not an order; and no order waits for the rules to be read.
    require_checkers()
    shipped_rules()
    interfaces = tuple(make_interface() for make_interface in INTERFACES)

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            api.state.live_feed = await stack.enter_async_context(LiveFeed())
            for interface in interfaces:
                await stack.enter_async_context(interface.lifespan())
            yield

    api = FastAPI(
        title="Cinemeter",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        responses=REFUSALS,
        generate_unique_id_function=operation_id,
        # FastAPI's own pages load scripts from other hosts; the service has an API reference page of its own.
        docs_url=None,
        redoc_url=None,
    )
    install(api)
    add_interfaces(api, interfaces)
    api.add_middleware(RequestMiddleware)
    _complete_document(api)
    return api


def _complete_document(api: FastAPI) -> None:
    """Complete the OpenAPI document, and offer that of one tag as `api.state.document_of_tag`.

    The pages of the reference show one tag each; the document of all takes a second to make, and is made once.
    """
    make_document = api.openapi
    lock = Lock()

    def openapi() -> dict[str, Any]:
        with lock:
            if api.openapi_schema is None:
                api.openapi_schema = _completed(make_document())
            return api.openapi_schema

    @cache
    def document_of_tag(tag: str) -> dict[str, Any]:
        routes = [each for each in iter_route_contexts(api.routes) if getattr(each, "tags", [])[:1] == [tag]]
        return _completed(get_openapi(title=api.title, version=api.version, routes=routes))

    api.openapi = openapi  # type: ignore[method-assign]
    api.state.document_of_tag = document_of_tag


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with the schemas of bodies that routes parse themselves, and with examples; in place."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (VideoRequest, ExtensionRequest, AssetFromUrl, FileUrl):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        for name, part in schema.pop("$defs", {}).items():
            schemas.setdefault(name, part)
        schemas[model.__name__] = schema
    add_examples(document)
    return document
