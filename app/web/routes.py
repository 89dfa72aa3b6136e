"""All pages in one place: put their routes, headers and error pages onto the application."""

from fastapi import APIRouter, FastAPI, Request, Response

from app.web import prices, signin, static_files
from app.web.account import keys, members, profile, projects, receipts, sdk_snippets, usage, wallet, webhooks
from app.web.auth import MaybeVisitor
from app.web.console import (
    accounts,
    audit_log,
    books,
    contracts,
    deliveries,
    jobs,
    money,
    overview,
    simulation,
    workers,
)
from app.web.headers import PageHeaders
from app.web.problems import install_page_problems
from app.web.render import page
from app.web.studio import films, new_film, sse, variations

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def show_reference(request: Request, visitor: MaybeVisitor) -> Response:
    """Show every address of the API. Calls can be tried with a key that is typed in and kept by this page alone."""
    return page(request, "reference.html", document=request.app.openapi_url)


ROUTERS = (
    static_files.router,
    signin.router,
    new_film.router,
    # The stream's address comes before that of one film, which would match it too.
    sse.router,
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
    simulation.router,
    books.router,
    # A contract's addresses and a correction's lie under their account's, whose acts would match them too.
    contracts.router,
    money.router,
    accounts.router,
    workers.router,
    jobs.router,
    deliveries.router,
    audit_log.router,
)


def mount(api: FastAPI) -> None:
    """Put the pages onto an application whose doors and error handlers are in place."""
    for router in ROUTERS:
        api.include_router(router)
    install_page_problems(api)
    api.add_middleware(PageHeaders)
