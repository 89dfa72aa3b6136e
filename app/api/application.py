"""The application: every door in one FastAPI app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route

from app.api import assets, billing, billing_reports, health, keys, models, projects, webhooks
from app.api.admin import routes as admin
from app.api.dashscope import routes as dashscope
from app.api.dashscope import uploads
from app.api.dashscope.errors import error_answer
from app.api.mcp.routes import PATH, McpServer
from app.api.middleware import RequestMiddleware
from app.api.openapi_examples import add_examples
from app.api.problems import SHAPES, ProblemOut, install
from app.api.request_body import GATES
from app.api.videos import content, derived, events
from app.api.videos import routes as videos
from app.api.videos.derived import ExtensionRequest
from app.jobs.live_feed import LiveFeed
from app.jobs.schemas import VideoRequest

DESCRIPTION = """Video generation that bills by the delivered second.

Ask for an estimate, bind a quote, order a film, watch it render, download it, and read a receipt that names every rule.
"""


# What every address may answer besides its own success.
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemOut, "description": word, "content": {"application/problem+json": {}}}
    for status, word in {
        400: "The body cannot be read",
        401: "No valid key",
        402: "Too little money",
        403: "Not allowed",
        404: "Not found",
        409: "Not in this state",
        413: "Body too large",
        415: "Content type not read",
        422: "A field is wrong",
        429: "Too many",
        503: "A part is away",
    }.items()
}


def create_app() -> FastAPI:
    """Return the API with all of its doors."""

    agents = McpServer()

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with LiveFeed() as watch, agents.running():
            api.state.watch = watch
            yield

    api = FastAPI(
        title="Cinemeter",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        responses=REFUSALS,
        # These would load their scripts from elsewhere; the pages have a reference of their own.
        docs_url=None,
        redoc_url=None,
    )
    install(api)
    SHAPES[f"{dashscope.PREFIX}/"] = error_answer
    GATES[f"{uploads.PATH}/"] = uploads.authorize_upload
    for router in (
        videos.router,
        derived.router,
        events.router,
        models.router,
        billing.router,
        billing_reports.router,
        projects.router,
        keys.router,
        assets.router,
        webhooks.router,
        content.router,
        dashscope.router,
        uploads.router,
        admin.router,
        health.router,
    ):
        api.include_router(router)
    # A plain route and not a mount, which would answer /mcp with a redirect to /mcp/. Only POST: without sessions
    # there is nothing to stream from the server, and a stream would be held open for whoever asks.
    api.router.routes.append(Route(PATH, agents.app, methods=["POST"], include_in_schema=False))
    api.add_middleware(RequestMiddleware)
    _complete_document(api)
    return api


def _complete_document(api: FastAPI) -> None:
    """Add to the OpenAPI document the schemas of hand-read bodies, which its paths only refer to, and examples."""
    make = api.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        for shape in (VideoRequest, ExtensionRequest):
            schema = shape.model_json_schema(ref_template="#/components/schemas/{model}")
            for name, part in schema.pop("$defs", {}).items():
                document["components"]["schemas"].setdefault(name, part)
            document["components"]["schemas"][shape.__name__] = schema
        add_examples(document)
        return document

    api.openapi = openapi  # type: ignore[method-assign]
