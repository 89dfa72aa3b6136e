"""Derive a new film from a finished one: remix, retake one shot, extend, or edit."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.caller import Caller
from app.assets.ingest import add_asset
from app.assets.tables import Asset
from app.catalog.models import VideoModel, load_catalog
from app.errors import AppError
from app.jobs.check_order import check_order, film_prompts
from app.jobs.derive import check_clips, extension, finished_spec, remix, retake
from app.jobs.file_retention import retention_end
from app.jobs.film_reuse import copy_film
from app.jobs.find import find_job
from app.jobs.idempotency import OrderIdentity, body_fingerprint
from app.jobs.quote import price_spec
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec
from app.jobs.submit import submit
from app.jobs.tables import Job
from app.parsing import parse_integer
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.settings import get_settings
from app.web.auth import CreatorDep, FormDep, SessionDep, text_of
from app.web.render import page
from app.web.sentences import sentence
from app.web.studio.understood import ask_about_subject
from pricing.rate_key import Mode

router = APIRouter(prefix="/films", include_in_schema=False)

KINDS = ("remix", "retake", "extension", "edit")
EXTENSION_SECONDS = 5
# Stands for the film as an input while only the price is computed.
_PLACEHOLDER_SOURCE = Asset(id="asset_unborn")


@dataclass(frozen=True)
class VariationOptions:
    """The form of a variation."""

    kind: str
    prompt: str
    shot: int = 0
    seconds: int = EXTENSION_SECONDS


@router.post("/{video_id}/variations/price")
@request_limits(RequestLimits(WorkKind.ORDER))
def show_price(request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep, video_id: str) -> Response:
    """Return the price of a variation."""
    job, options = find_job(session, visitor.caller, video_id), _read(form)
    try:
        price = _price(session, visitor.caller, _spec(session, job, options))
        return page(request, "studio/variation_price.html", price=price, price_error=None)
    except AppError as error:
        return page(request, "studio/variation_price.html", price=None, price_error=sentence(error))


def order_variation(session: Session, caller: Caller, form: FormData, job: Job) -> Job:
    """Order a variation at no more than the price that its form showed; return its job. Raises AppError."""
    options = _read(form)
    if not options.prompt:
        raise AppError("invalid_request", "Write a prompt for the new film.", field="prompt")
    model = load_catalog(get_settings().catalog_dir).get(finished_spec(job).model)
    # A model that has left the catalogue is refused below, in the words of every other way of ordering.
    if model is not None:
        ask_about_subject(model, [options.prompt], is_confirmed=bool(text_of(form, "anyway")))
    # Checked before the film is copied, so that a refusal stores nothing.
    order = check_order(session, caller, _variation(session, form, job, options, _PLACEHOLDER_SOURCE))
    if order.spec is not None and options.kind == "retake":
        check_clips(session, caller.account_id, order.spec)
    source = copy_film(session, job) if options.kind in ("extension", "edit") else None
    if source is not None:
        order = replace(_variation(session, form, job, options, source), checked=order.checked)
        order = check_order(session, caller, order, new_files=[source])
    # A failure writes nothing.
    with session.begin_nested():
        if source is not None:
            add_asset(session, source, expires_at=retention_end(session, job.account_id))
        return submit(session, caller, order)


def variations_of(session: Session, caller: Caller, job: Job, form: FormData | None = None) -> list[dict[str, Any]]:
    """Return the possible variations of a film with their prices; `form` is a rejected variation's form."""
    submitted = None if form is None else _read(form)
    try:
        spec = finished_spec(job)
    except AppError:
        return []
    model = load_catalog(get_settings().catalog_dir)[spec.model]
    offers = [VariationOptions("remix", spec.shots[0].prompt)] if len(spec.shots) == 1 else []
    if len(spec.shots) > 1:
        offers += [VariationOptions("retake", shot.prompt, shot=number) for number, shot in enumerate(spec.shots)]
    offers += [VariationOptions("extension", spec.shots[-1].prompt)] if "extend" in model.modes else []
    offers += [VariationOptions("edit", spec.shots[0].prompt)] if "edit" in model.modes else []
    variations = []
    for offer in offers:
        is_open = submitted is not None and (submitted.kind, submitted.shot) == (offer.kind, offer.shot)
        options = submitted if is_open and submitted is not None else offer
        try:
            price = _price(session, caller, _spec(session, job, options))
        except AppError:
            if not is_open:
                continue
            price = None
        variations.append(
            {"options": options, "price": price, "seconds_max": model.shot_seconds_max, "is_open": is_open}
        )
    return variations


def _read(form: FormData) -> VariationOptions:
    kind, shot, seconds = text_of(form, "kind"), text_of(form, "shot", "0"), text_of(form, "seconds")
    if kind not in KINDS:
        raise AppError("invalid_request", "Unknown kind of variation.", field="kind", value=kind, allowed=KINDS)
    return VariationOptions(
        kind=kind,
        prompt=text_of(form, "prompt"),
        shot=parse_integer(shot) or 0,
        seconds=parse_integer(seconds) or EXTENSION_SECONDS,
    )


def _spec(session: Session, job: Job, options: VariationOptions, *, source: Asset = _PLACEHOLDER_SOURCE) -> Spec:
    prompt = options.prompt or "…"
    if options.kind == "remix":
        return remix(job, prompt=prompt)
    if options.kind == "retake":
        return retake(session, job, shot=options.shot, prompt=prompt)
    if options.kind == "extension":
        return extension(job, source, prompt=prompt, seconds=options.seconds)
    return _edit_spec(job, source, prompt)


def _edit_spec(job: Job, source: Asset, prompt: str) -> Spec:
    """Return the Spec of an edit of the whole film, as far as its price depends on it."""
    spec = finished_spec(job)
    shot = spec.shots[0].model_copy(
        update={
            "prompt": prompt,
            "seconds": _whole_seconds(job),
            "frames": _whole_seconds(job) * spec.fps,
            "reuse_clips": (),
        }
    )
    frames = int(job.film["frames"]) if job.film else spec.frames
    return spec.model_copy(
        update={
            "mode": "edit",
            "shots": (shot,),
            "style": "",
            "frames": shot.frames,
            "video": source.id,
            "video_seconds": str(Fraction(frames, spec.fps)),
        }
    )


def _whole_seconds(job: Job) -> int:
    """Return the film's length in whole seconds, at least 1: the length that an edit can request."""
    spec = Spec.model_validate(job.spec)
    return max(1, int(Fraction(spec.frames, spec.fps)))


def _price(session: Session, caller: Caller, spec: Spec) -> dict[str, Any]:
    model: VideoModel = load_catalog(get_settings().catalog_dir)[spec.model]
    priced = price_spec(session, caller, spec, model)
    return {
        "currency": priced.price.currency,
        "total": priced.price.total.text,
        "list_total": priced.price.list_total.text,
        "is_less": priced.price.total < priced.price.list_total,
        "seconds": priced.usage.seconds,
        "context": priced.usage.input_seconds,
    }


def _variation(session: Session, form: FormData, job: Job, options: VariationOptions, source: Asset) -> OrderIdentity:
    """Return the order of a variation; `source` is the film as an input, where the variation reads it."""
    spec = _spec(session, job, options, source=source)
    body = VideoRequest(
        prompt=options.prompt,
        model=job.model,
        project=job.project_id,
        max_price=text_of(form, "max_price") or None,  # type: ignore[arg-type]
    )
    if options.kind != "edit":
        return _order(form, job, options, body, spec)
    # An edit is an ordinary request whose input clip is the old film.
    size = f"{spec.width}x{spec.height}"
    changes = {"video": source.id, "size": size, "seconds": _whole_seconds(job), "sound": spec.sound}
    changes["deepfake"] = spec.deepfake
    return _order(form, job, options, body.model_copy(update=changes), None)


def _order(form: FormData, job: Job, options: VariationOptions, body: VideoRequest, spec: Spec | None) -> OrderIdentity:
    mode: Mode | None = "edit" if options.kind == "edit" else None
    fingerprint = body_fingerprint("POST", f"/films/{job.id}/variations", f"{options!r}".encode())
    nonce = text_of(form, "nonce")
    return OrderIdentity(
        request=body,
        door="web",
        mode=mode,
        idempotency_key=f"variation-{nonce}-{fingerprint[:32]}" if nonce else None,
        fingerprint=fingerprint,
        parent_id=job.id,
        parent_kind=options.kind,
        earlier_prompts=film_prompts(finished_spec(job)) if options.kind in ("extension", "edit") else "",
        spec=spec,
    )
