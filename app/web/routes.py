"""The routers of all pages, and `mount`, which adds them with headers and error pages to the application."""

from fastapi import FastAPI

from app.web import content_report, docs, landing, prices, signin, static_files, verify
from app.web.account import keys, members, profile, projects, receipts, sdk_snippets, usage, wallet, webhooks
from app.web.console import (
    accounts,
    audit_log,
    book_editor,
    books,
    content_reports,
    contracts,
    deliveries,
    inbox,
    jobs,
    moderation,
    money,
    overview,
    quarantine,
    showcase,
    simulation,
    top_ups,
    workers,
)
from app.web.headers import PageHeaders
from app.web.problems import install_page_problems
from app.web.studio import films, gallery, new_film, shot_clips, sse, variations

ROUTERS = (
    static_files.router,
    landing.router,
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
    verify.router,
    content_report.router,
    docs.router,
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
    showcase.router,
    content_reports.router,
    moderation.router,
    quarantine.router,
    deliveries.router,
    audit_log.router,
)


def mount(api: FastAPI) -> None:
    """Add the pages to an application that already has its API routes and error handlers."""
    for router in ROUTERS:
        api.include_router(router)
    install_page_problems(api)
    api.add_middleware(PageHeaders)
