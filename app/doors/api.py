"""The application: every door in one FastAPI app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route

from app.doors import assets, billing, files, health, keys, models, projects, usage, webhooks
from app.doors.admin import routes as admin
from app.doors.body import GATES
from app.doors.dashscope import routes as dashscope
from app.doors.dashscope import uploads
from app.doors.dashscope.errors import error_answer
from app.doors.examples import add_examples
from app.doors.mcp.routes import PATH, McpDoor
from app.doors.problems import SHAPES, ProblemOut, install
from app.doors.videos import derived, events
from app.doors.videos import routes as videos
from app.doors.videos.derived import ExtensionRequest
from app.doors.wire import Wire
from app.jobs.shapes import VideoRequest
from app.jobs.watch import Watch

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

    agents = McpDoor()

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with Watch() as watch, agents.running():
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
    GATES[f"{uploads.PATH}/"] = uploads.let_in
    for router in (
        videos.router,
        derived.router,
        events.router,
        models.router,
        billing.router,
        usage.router,
        projects.router,
        keys.router,
        assets.router,
        webhooks.router,
        files.router,
        dashscope.router,
        uploads.router,
        admin.router,
        health.router,
    ):
        api.include_router(router)
    # A plain route and not a mount, which would answer /mcp with a redirect to /mcp/. Only POST: without sessions
    # there is nothing to stream from the server, and a stream would be held open for whoever asks.
    api.router.routes.append(Route(PATH, agents.app, methods=["POST"], include_in_schema=False))
    api.add_middleware(Wire)
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
