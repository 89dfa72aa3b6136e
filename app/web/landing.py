"""The landing page: films with their meter, one field that leads to a price and to the sign-in, and the memberships."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.clock import now
from app.errors import AppError
from app.file_delivery import byte_range, deliver
from app.jobs.showcase import find_shown_film
from app.prices.find import book_at
from app.settings import get_settings
from app.web.auth import FormDep, MaybeVisitor, SessionDep, Visitor, text_of
from app.web.description import (
    DESCRIPTION_MAX,
    check_description,
    keep_description,
    kept_description,
    price_description,
    studio_path,
)
from app.web.devices import network
from app.web.language import gettext
from app.web.prices import price_context
from app.web.render import is_htmx, page, redirect
from app.web.showcase_films import shipped_file, showcase_films
from app.web.signin import home_path
from app.web.signin_limits import limit_tries

router = APIRouter(include_in_schema=False)

# Prices of descriptions that one network gets in a quarter of an hour.
PRICES_MAX = 60
FilmId = Annotated[str, Query(max_length=64)]


@router.get("/")
def show_start(request: Request, session: SessionDep, visitor: MaybeVisitor, film: FilmId = "") -> Response:
    """Show visitors the landing page, and redirect members to their home page."""
    if visitor is not None:
        return redirect(request, home_path(request, visitor.caller.roles))
    return _landing(request, session, None, film=film)


@router.get("/showcase")
def show_showcase(request: Request, session: SessionDep, visitor: MaybeVisitor, film: FilmId = "") -> Response:
    """Show the landing page to members too: operators see what they chose."""
    return _landing(request, session, visitor, film=film)


@router.post("/describe")
def post_description(request: Request, session: SessionDep, visitor: MaybeVisitor, form: FormDep) -> Response:
    """Show what a described film costs, and keep the description for the studio; nothing is ordered.

    An htmx request gets only the price.
    """
    limit_tries(f"describe:{network(request)}", tries_max=PRICES_MAX)
    typed, offer, error = text_of(form, "description"), None, None
    try:
        typed = check_description(typed)
        offer = price_description(session, typed).shown()
    except AppError as problem:
        error = problem
    context: dict[str, Any] = {"offer": offer, "offer_error": error, "typed": typed}
    if is_htmx(request):
        response = page(request, "landing/offer.html", **context, **_signup())
    else:
        response = _landing(request, session, visitor, **context)
    if offer is not None:
        keep_description(response, typed)
    return response


@router.get("/describe")
def open_landing(request: Request) -> Response:
    """Lead to the landing page whoever opens the URL of its form again."""
    return redirect(request, "/")


@router.get("/showcase/studio")
def open_studio(request: Request, visitor: MaybeVisitor) -> Response:
    """Lead to the studio with the described film, or to the sign-in before it."""
    return redirect(request, studio_path(request) if visitor else "/sign-in")


@router.get("/showcase/{film_id}/{variant}")
def send_showcase_file(
    request: Request, session: SessionDep, visitor: MaybeVisitor, film_id: str, variant: Literal["video", "thumbnail"]
) -> Response:
    """Send a film of the landing page, or its poster. Admins may see every film that its owner agreed to.

    Raises AppError `not_found` from the moment at which the film leaves the page.
    """
    extension, kind = ("mp4", "video/mp4") if variant == "video" else ("jpg", "image/jpeg")
    body = shipped_file(film_id, extension)
    if body is not None:
        return _send_part(request, body, kind)
    job = find_shown_film(session, film_id, is_chosen=visitor is None or not visitor.is_admin)
    key = job.film_key if variant == "video" else job.poster_key
    if key is None:
        raise AppError("not_found", "This film has no poster.")
    # No cache keeps a film beyond the agreement.
    return deliver(
        session,
        request,
        key,
        account_id="showcase",
        filename=f"{film_id}.{extension}",
        content_type=kind,
        cache_control="no-store",
    )


def _send_part(request: Request, body: bytes, kind: str) -> Response:
    """Return a shipped file, or the byte range that the browser asks for."""
    headers = {"accept-ranges": "bytes", "cache-control": "public, max-age=86400", "x-content-type-options": "nosniff"}
    span = byte_range(request.headers.get("range"), len(body))
    if span is None:
        return Response(body, media_type=kind, headers=headers)
    start, end = span
    headers["content-range"] = f"bytes {start}-{end - 1}/{len(body)}"
    return Response(body[start:end], status_code=206, media_type=kind, headers=headers)


def _landing(
    request: Request, session: Session, visitor: Visitor | None, *, film: str = "", **offered: Any
) -> Response:
    moment = now(session)
    films = showcase_films(session)
    shown = next((each for each in films if each.id == film), films[0] if films else None)
    context: dict[str, Any] = {
        **price_context(session, book_at(session, moment).book, moment),
        "title": gettext("AI films with a price you know first"),
        "films": films,
        "film": shown,
        "offer": None,
        "offer_error": None,
        "typed": kept_description(request),
        "description_max": DESCRIPTION_MAX,
        **_signup(),
        **offered,
    }
    error = context["offer_error"]
    return page(request, "landing/landing.html", status=error.status if error else 200, **context)


def _signup() -> dict[str, Any]:
    """Return who may open an account, for the buttons of the page."""
    return {"signup": get_settings().signup}
