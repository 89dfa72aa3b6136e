"""The routers of all pages, and `mount`, which adds them with headers and error pages to the application."""

from fastapi import APIRouter, FastAPI, Request, Response

from app.web import prices, signin, static_files
from app.web.account import keys, members, profile, projects, receipts, sdk_snippets, usage, wallet, webhooks
from app.web.auth import MaybeVisitor
from app.web.console import (
    accounts,
    audit_log,
    book_editor,
    books,
    contracts,
    deliveries,
    inbox,
    jobs,
    money,
    overview,
    simulation,
    top_ups,
    workers,
)
from app.web.headers import PageHeaders
from app.web.problems import install_page_problems
from app.web.render import page
from app.web.studio import films, gallery, new_film, shot_clips, sse, variations

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def show_reference(request: Request, visitor: MaybeVisitor) -> Response:
    """Show the API reference. Calls can be tried with a key, which only this page holds."""
    return page(request, "reference.html", document=request.app.openapi_url)


ROUTERS = (
    static_files.router,
    signin.router,
    new_film.router,
    # Before films.router: /films/{video_id} and /films/{video_id}/{variant} would match their paths too.
    sse.router,
    shot_clips.router,
    gallery.router,
    films.router,
    variations.router,
    wallet.router,
    usage.router,
    projects.router,
    keys.router,
    webhooks.router,
    receipts.router,
    members.router,
    sdk_snippets.router,
    prices.router,
    router,
    profile.router,
    overview.router,
    inbox.router,
    simulation.router,
    book_editor.router,
    books.router,
    # Before accounts.router: /admin/accounts/{account_id}/{action} would match their paths too.
    contracts.router,
    money.router,
    top_ups.router,
    accounts.router,
    workers.router,
    jobs.router,
    deliveries.router,
    audit_log.router,
)


def mount(api: FastAPI) -> None:
    """Add the pages to an application that already has its API routes and error handlers."""
    for router in ROUTERS:
        api.include_router(router)
    install_page_problems(api)
    api.add_middleware(PageHeaders)
