"""The page of one film, its files, and its actions."""

import json
from fractions import Fraction
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.caller import Caller
from app.assets.find import asset_key, get_asset
from app.audit_log.actor import Actor
from app.clock import now
from app.db import new_id
from app.errors import AppError
from app.jobs.cancel import request_cancel
from app.jobs.delete import delete
from app.jobs.find import find_job, receipt_of
from app.jobs.links import make_link, revoke_links
from app.jobs.rate_limits import count_order
from app.jobs.schemas import decimal_seconds
from app.jobs.shot_progress import shot_progress
from app.jobs.showcase import agree_to_showcase, may_be_shown, open_agreement, revoke_agreement
from app.jobs.spec import Spec
from app.jobs.states import JobState
from app.jobs.tables import Job, ReceiptRow
from app.reports.display_names import display_names
from app.reports.receipt_pages import receipt_document, receipt_pdf
from app.reports.statements import project_names
from app.reports.translations import Language, decimals
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.roles import Role
from app.storage import get_storage
from app.web.auth import CreatorDep, FormDep, OwnerDep, SessionDep, text_of
from app.web.language import gettext, language
from app.web.render import download, is_htmx, page, redirect
from app.web.studio.errors import order_error
from app.web.studio.film_card import card_of
from app.web.studio.film_history import callbacks_of, refunds_of
from app.web.studio.film_shares import share_context
from app.web.studio.variations import order_variation, variations_of
from pricing.exact import exact_number
from pricing.labels import label_text
from pricing.money import Money

router = APIRouter(include_in_schema=False)

# How long a browser caches the redirect to a file; the signed link that it leads to is valid for longer.
_REDIRECT_CACHE_SECONDS = 3600


@router.get("/films/{video_id}")
def show_film(request: Request, session: SessionDep, visitor: CreatorDep, video_id: str) -> Response:
    """Show one film: player, shots, receipt and variations."""
    job = find_job(session, visitor.caller, video_id)
    done = request.query_params.get("done", "")
    return page(request, "studio/film.html", done=done, **film_context(session, visitor.caller, job))


@router.get("/films/{video_id}/card")
def show_card(request: Request, session: SessionDep, visitor: CreatorDep, video_id: str) -> Response:
    """Return the card of one film, for browsers whose event streams are blocked."""
    return page(request, "studio/card.html", card=card_of(session, find_job(session, visitor.caller, video_id)))


@router.get("/films/{video_id}/receipt")
def show_receipt(session: SessionDep, visitor: CreatorDep, video_id: str) -> Response:
    """Return the stored bytes of the receipt, which `cinemeter replay` reproduces."""
    row = receipt_of(session, find_job(session, visitor.caller, video_id))
    if row is None:
        raise AppError("not_found", "There is no receipt yet. It is written when the film has ended.")
    return Response(row.body, media_type="application/json", headers={"cache-control": "private, no-store"})


@router.get("/films/{video_id}/receipt.pdf")
def send_receipt_pdf(session: SessionDep, visitor: CreatorDep, video_id: str, language: Language = "en") -> Response:
    """Send the receipt as PDF."""
    document = receipt_document(session, find_job(session, visitor.caller, video_id).id, language)
    return download(receipt_pdf(document), f"cinemeter-receipt-{document.number}.pdf", "application/pdf")


@router.get("/films/{video_id}/{variant}")
def send_file(
    session: SessionDep,
    visitor: CreatorDep,
    video_id: str,
    variant: Literal["video", "thumbnail", "spritesheet", "waveform"],
) -> Response:
    """Redirect to a file of the film by a signed link that expires."""
    job = find_job(session, visitor.caller, video_id)
    if job.film_key is None:
        raise AppError("not_found", "This film has no files.")
    headers = {"cache-control": f"private, max-age={_REDIRECT_CACHE_SECONDS}"}
    return RedirectResponse(urlsplit(make_link(session, job, variant)).path, status_code=302, headers=headers)


@router.post("/films/{video_id}/variations")
@request_limits(RequestLimits(WorkKind.ORDER))
def post_variation(
    request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep, video_id: str
) -> Response:
    """Order a variation at no more than the price that its form showed; errors are shown on the film's page."""
    job = find_job(session, visitor.caller, video_id)
    try:
        count_order(request, session, visitor.caller)
        new = order_variation(session, visitor.caller, form, job)
    except AppError as error:
        shown_error = order_error(error, text_of(form, "max_price"))
        context = film_context(session, visitor.caller, job, form=form)
        status = 200 if error.facts.get("question") else error.status
        return page(request, "studio/film.html", status=status, **{**context, "error": shown_error})
    return redirect(request, f"/films/{new.id}")


@router.post("/films/{video_id}/cancellation")
def post_cancellation(
    request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep, video_id: str
) -> Response:
    """Cancel a film: finished shots are joined and charged, the rest is free."""
    job = request_cancel(session, find_job(session, visitor.caller, video_id, lock=True))
    if is_htmx(request):
        return page(request, "studio/card.html", card=card_of(session, job))
    return redirect(request, f"/films/{video_id}")


@router.post("/films/{video_id}/links/revocation")
def post_links_revocation(
    request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep, video_id: str
) -> Response:
    """Revoke the links to the film that work without signing in."""
    revoke_links(find_job(session, visitor.caller, video_id, lock=True))
    answer = redirect(request, f"/films/{video_id}?done=links")
    # The browser may hold redirects to the old links.
    answer.headers["clear-site-data"] = '"cache"'
    return answer


@router.post("/films/{video_id}/removal")
def post_removal(request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep, video_id: str) -> Response:
    """Delete an ended film and its files; its receipt is kept."""
    delete(session, find_job(session, visitor.caller, video_id, lock=True))
    return redirect(request, "/films")


@router.post("/films/{video_id}/showcase")
def post_showcase(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, video_id: str) -> Response:
    """Agree that everybody may see a film, or revoke that: it leaves the landing page at once."""
    job = find_job(session, visitor.caller, video_id, lock=True)
    change = agree_to_showcase if text_of(form, "agree") == "yes" else revoke_agreement
    change(session, Actor.of(visitor.caller), job)
    return redirect(request, f"/films/{video_id}#showcase")


@router.get("/studio/pictures/{asset_id}")
def send_picture(session: SessionDep, visitor: CreatorDep, asset_id: str) -> Response:
    """Send one of the account's pictures, for the form that uses it. Raises AppError `not_found`."""
    asset = get_asset(session, visitor.caller, asset_id)
    key = asset_key(session, asset_id)
    if asset.kind != "picture":
        raise AppError("not_found", f"No picture has the id {asset_id}.")
    body = get_storage().read_range(key, 0, asset.bytes or 0)
    headers = {"cache-control": "private, max-age=86400", "x-content-type-options": "nosniff"}
    return StreamingResponse(body, media_type=asset.content_type or "image/jpeg", headers=headers)


def film_context(session: Session, caller: Caller, job: Job, *, form: FormData | None = None) -> dict[str, Any]:
    """Return the context of a film's page; `form` is the form of a rejected variation."""
    card, row = card_of(session, job), receipt_of(session, job)
    spec = Spec.model_validate(job.spec)
    variations = variations_of(session, caller, job, form)
    return {
        "title": card.title[:60],
        "card": card,
        "fps": spec.fps,
        "tiles": [] if card.is_ended else shot_progress(session, job),
        "receipt": None if row is None else _receipt(row, job),
        "files_gone": job.files_removed_at is not None,
        "no_film_text": _no_film_text(job),
        "refunds": refunds_of(session, job),
        "callbacks": callbacks_of(session, job),
        "reorder_url": _reorder_url(session, caller, job),
        "extended_film": _extended_film(session, caller, job, spec),
        "project": project_names(session, caller.account_id).get(job.project_id or ""),
        "variations": variations,
        "retakes": {each["options"].shot for each in variations if each["options"].kind == "retake"},
        "nonce": new_id("form"),
        "showcase": _showcase(session, caller, job),
        "sharing": share_context(session, caller, job),
        "error": None,
    }


def _showcase(session: Session, caller: Caller, job: Job) -> dict[str, Any] | None:
    """Return what an owner has agreed to for a film that can be shown to everybody; None for others."""
    if Role.OWNER not in caller.roles or not may_be_shown(job, now(session)):
        return None
    agreement = open_agreement(session, job.id)
    return {
        "agreement": agreement,
        "agreed_by": "" if agreement is None else display_names(session, [agreement.agreed_by])[agreement.agreed_by],
        "is_shown": agreement is not None and agreement.chosen_at is not None,
    }


def _reorder_url(session: Session, caller: Caller, job: Job) -> str:
    """Return the URL for ordering this film again; an extension or edit is repeated from its parent's page."""
    if job.parent_kind in ("extension", "edit") and _parent(session, caller, job) is not None:
        return f"/films/{job.parent_id}#{job.parent_kind}-prompt"
    return f"/studio?from={job.id}"


def _extended_film(session: Session, caller: Caller, job: Job, spec: Spec) -> dict[str, str] | None:
    """Return the film that this one extends, or None. The first shot of an extension is that whole film."""
    if spec.mode != "extend":
        return None
    seconds = decimal_seconds(spec.shots[0].frames, spec.fps)
    # The parent of a retake is the extended film itself, not the film that it extends.
    known = job.parent_kind == "extension" and _parent(session, caller, job) is not None
    return {"seconds": seconds, "id": str(job.parent_id) if known else ""}


def _parent(session: Session, caller: Caller, job: Job) -> Job | None:
    """Return the parent of a film, or None where it was deleted."""
    try:
        return find_job(session, caller, job.parent_id or "")
    except AppError:
        return None


def _no_film_text(job: Job) -> str:
    """Return why an ended job has no film to show, as a sentence."""
    if job.files_removed_at is not None:
        return gettext("The files were deleted at the end of their retention period. The receipt is kept.")
    return {
        JobState.FAILED: gettext("This film could not be generated."),
        JobState.CANCELLED: gettext("This film was cancelled before a shot was finished."),
        JobState.EXPIRED: gettext("No worker was free in time, so this film was not started."),
    }.get(JobState(job.state), "")


def _reuse(job: Job, body: dict[str, Any], frames: int, fps: int) -> dict[str, str]:
    """Return the seconds of a retake that were rendered and paid, and those that were reused; else empty texts."""
    billed = exact_number(body["billed_seconds"])
    reused = Fraction(frames, fps) - billed
    if job.parent_kind != "retake" or reused <= 0:
        return {"billed": "", "reused": ""}
    return {"billed": decimals(billed), "reused": decimals(reused)}


def _receipt(row: ReceiptRow, job: Job) -> dict[str, Any]:
    """Return a receipt's content with its lines in words."""
    body = json.loads(row.body)
    frames, fps = body["delivered"]["facts"].get("frames"), body["delivered"]["facts"].get("fps")
    return {
        "number": row.number,
        "total": body["total"],
        "is_free": job.test or row.total == 0,
        "quoted": Money(row.quoted, row.currency).text,
        "book": body["book"]["name"],
        "seconds": decimal_seconds(int(frames), int(fps)) if frames and fps else "0",
        **_reuse(job, body, int(frames or 0), int(fps or 1)),
        "lines": [
            {
                "label": label_text(line["key"], line["facts"], language()),
                "rule": line["rule"],
                "amount": line["amount"],
            }
            for line in body["lines"]
        ],
    }
