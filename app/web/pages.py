"""All pages in one place: put their routes, headers and error pages onto the application."""

from fastapi import FastAPI

from app.web import prices, reference, signin, static_files
from app.web.account import connect, keys, members, papers, profile, projects, usage, wallet, webhooks
from app.web.console import accounts, books, contracts, deliveries, jobs, money, overview, simulation, trail, work
from app.web.headers import PageHeaders
from app.web.problems import install_page_problems
from app.web.studio import compose, films, live, variations

ROUTERS = (
    static_files.router,
    signin.router,
    compose.router,
    # The stream's address comes before that of one film, which would match it too.
    live.router,
    films.router,
    variations.router,
    wallet.router,
    usage.router,
    projects.router,
    keys.router,
    webhooks.router,
    papers.router,
    members.router,
    connect.router,
    prices.router,
    reference.router,
    profile.router,
    overview.router,
    simulation.router,
    books.router,
    # A contract's addresses and a correction's lie under their account's, whose acts would match them too.
    contracts.router,
    money.router,
    accounts.router,
    work.router,
    jobs.router,
    deliveries.router,
    trail.router,
)


def mount(api: FastAPI) -> None:
    """Put the pages onto an application whose doors and error handlers are in place."""
    for router in ROUTERS:
        api.include_router(router)
    install_page_problems(api)
    api.add_middleware(PageHeaders)
