"""The public page of a film whose owner shares it by a link. It says nothing of the owner."""

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from app.catalog.models import load_catalog
from app.db import commit_early
from app.errors import AppError
from app.file_delivery import deliver
from app.jobs.present import show_job
from app.jobs.share_links import open_share_link
from app.jobs.spec import Spec
from app.provenance.backfill_tables import registered_marks
from app.settings import get_settings
from app.web.auth import MaybeVisitor, SessionDep
from app.web.devices import network
from app.web.language import gettext
from app.web.render import page
from app.web.signin_limits import limit_tries

router = APIRouter(include_in_schema=False)

# In a quarter of an hour, of one network. A player asks for a film in many parts.
PAGES_MAX = 120
PARTS_MAX = 3000
_ROBOTS = {"x-robots-tag": "noindex, nofollow, noarchive"}


@router.get("/shared/{token}")
def show_shared_film(request: Request, session: SessionDep, visitor: MaybeVisitor, token: str) -> Response:
    """Show the film of a share link. Raises AppError `not_found`, the same whatever the reason, and `rate_limited`."""
    # A signed-in visitor was read from the database; Redis may be slow.
    commit_early(session)
    limit_tries(f"shared:{network(request)}", tries_max=PAGES_MAX)
    job = open_share_link(session, token)
    try:
        spec, shown = Spec.model_validate(job.spec), show_job(job)
    except ValidationError:  # an order that this release cannot read
        raise AppError("not_found", "This link leads to no film.") from None
    model = load_catalog(get_settings().catalog_dir).get(job.model)
    context: dict[str, Any] = {
        "title": gettext("A shared film"),
        "token": token,
        "address": str(request.url.replace(query="", fragment="")),
        "size": f"{spec.width} × {spec.height}",
        "seconds": shown.seconds,
        "model": model.name if model else job.model,
        "marks": registered_marks(session, job.id),
        "visible_label": spec.visible_label != "none",
        "deepfake": spec.deepfake,
    }
    response = page(request, "shared/film.html", **context)
    response.headers.update(_ROBOTS)
    return response


@router.get("/shared/{token}/{variant}")
def send_shared_file(
    request: Request, session: SessionDep, token: str, variant: Literal["video", "thumbnail"]
) -> Response:
    """Send the film of a share link, or its poster. Raises AppError `not_found`, `rate_limited`."""
    limit_tries(f"shared-part:{network(request)}", tries_max=PARTS_MAX)
    job = open_share_link(session, token)
    key = job.film_key if variant == "video" else job.poster_key
    if key is None:
        raise AppError("not_found", "This film has no poster.")
    extension, kind = ("mp4", "video/mp4") if variant == "video" else ("jpg", "image/jpeg")
    # No cache keeps a film beyond its link.
    response = deliver(
        session,
        request,
        key,
        account_id="shared",
        filename=f"film.{extension}",
        content_type=kind,
        cache_control="no-store",
    )
    response.headers.update(_ROBOTS)
    return response
