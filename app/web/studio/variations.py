"""Make a new film out of a finished one: remix it, take one shot again, go on where it ends, or edit the picture."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.caller import Caller
from app.assets.tables import Asset
from app.catalog.models import VideoModel, load_catalog
from app.errors import AppError
from app.jobs.derive import extension, finished_spec, remix, retake
from app.jobs.film_reuse import film_as_asset
from app.jobs.find import find_job
from app.jobs.idempotency import OrderIdentity, body_fingerprint
from app.jobs.quote import price_spec
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec
from app.jobs.submit import submit
from app.jobs.tables import Job
from app.parsing import parse_integer
from app.settings import get_settings
from app.web.auth import CreatorDep, FormDep, SessionDep, text_of
from app.web.render import page
from pricing.rate_key import Mode

router = APIRouter(prefix="/films", include_in_schema=False)

KINDS = ("remix", "retake", "extension", "edit")
EXTENSION_SECONDS = 5
# Stands for the film as an input while only its price is asked.
_UNBORN = Asset(id="asset_unborn")


@dataclass(frozen=True)
class VariationOptions:
    """What the form of a variation says."""

    kind: str
    prompt: str
    shot: int = 0
    seconds: int = EXTENSION_SECONDS


@router.post("/{video_id}/variations/price")
def show_price(request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep, video_id: str) -> Response:
    """Return what a variation would cost."""
    job, wish = find_job(session, visitor.caller, video_id), _read(form)
    try:
        shown = _price(session, visitor.caller, _spec(session, job, wish))
        return page(request, "studio/variation_price.html", price=shown, refusal=None)
    except AppError as error:
        return page(request, "studio/variation_price.html", price=None, refusal=error.message)


def order_variation(session: Session, caller: Caller, form: FormData, job: Job) -> Job:
    """Order a variation and return its job; it costs at most what its form showed. Raises AppError."""
    wish = _read(form)
    if not wish.prompt:
        raise AppError("invalid_request", "Say what the new film shows.", field="prompt")
    source = film_as_asset(session, job) if wish.kind in ("extension", "edit") else _UNBORN
    spec, mode = _spec(session, job, wish, source=source), None
    asked = VideoRequest(
        prompt=wish.prompt,
        model=job.model,
        project=job.project_id,
        max_price=text_of(form, "max_price") or None,  # type: ignore[arg-type]
    )
    if wish.kind == "edit":
        # An edit is a request like any other, whose clip is the old film.
        size = f"{spec.width}x{spec.height}"
        asked, mode = (
            asked.model_copy(update={"video": source.id, "size": size, "seconds": _whole_seconds(job)}),
            "edit",
        )
    return submit(session, caller, _order(form, job, wish, asked, spec if mode is None else None))


def variations_of(session: Session, caller: Caller, job: Job, sent: FormData | None = None) -> list[dict[str, Any]]:
    """Return the variations that can be made of a film, each with its price; `sent` is one that was refused."""
    refused = None if sent is None else _read(sent)
    try:
        spec = finished_spec(job)
    except AppError:
        return []
    model = load_catalog(get_settings().catalog_dir)[spec.model]
    wishes = [VariationOptions("remix", spec.shots[0].prompt)] if len(spec.shots) == 1 else []
    if len(spec.shots) > 1:
        wishes += [VariationOptions("retake", shot.prompt, shot=number) for number, shot in enumerate(spec.shots)]
    wishes += [VariationOptions("extension", spec.shots[-1].prompt)] if "extend" in model.modes else []
    wishes += [VariationOptions("edit", spec.shots[0].prompt)] if "edit" in model.modes else []
    found = []
    for offered in wishes:
        is_open = refused is not None and (refused.kind, refused.shot) == (offered.kind, offered.shot)
        wish = refused if is_open and refused is not None else offered
        try:
            price = _price(session, caller, _spec(session, job, wish))
        except AppError:
            if not is_open:
                continue
            price = None
        found.append({"wish": wish, "price": price, "seconds_max": model.shot_seconds_max, "is_open": is_open})
    return found


def _read(form: FormData) -> VariationOptions:
    kind, shot, seconds = text_of(form, "kind"), text_of(form, "shot", "0"), text_of(form, "seconds")
    if kind not in KINDS:
        raise AppError("invalid_request", "There is no such variation.", field="kind", value=kind, allowed=KINDS)
    return VariationOptions(
        kind=kind,
        prompt=text_of(form, "prompt"),
        shot=parse_integer(shot) or 0,
        seconds=parse_integer(seconds) or EXTENSION_SECONDS,
    )


def _spec(session: Session, job: Job, wish: VariationOptions, *, source: Asset = _UNBORN) -> Spec:
    prompt = wish.prompt or "…"
    if wish.kind == "remix":
        return remix(job, prompt=prompt)
    if wish.kind == "retake":
        return retake(session, job, shot=wish.shot, prompt=prompt)
    if wish.kind == "extension":
        return extension(job, source, prompt=prompt, seconds=wish.seconds)
    return _edited(job, source, prompt)


def _edited(job: Job, source: Asset, prompt: str) -> Spec:
    """Return the Spec that an edit of the whole film will have, as far as its price asks."""
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
            "frames": shot.frames,
            "video": source.id,
            "video_seconds": str(Fraction(frames, spec.fps)),
        }
    )


def _whole_seconds(job: Job) -> int:
    """Return the film's length in whole seconds, at least one: what an edit can ask for."""
    spec = Spec.model_validate(job.spec)
    return max(1, int(Fraction(spec.frames, spec.fps)))


def _price(session: Session, caller: Caller, spec: Spec) -> dict[str, Any]:
    model: VideoModel = load_catalog(get_settings().catalog_dir)[spec.model]
    priced = price_spec(session, caller, spec, model)
    lines = [{"label": line.label, "amount": line.amount.text} for line in priced.price.lines]
    return {"currency": priced.price.currency, "total": priced.price.total.text, "lines": lines}


def _order(form: FormData, job: Job, wish: VariationOptions, asked: VideoRequest, spec: Spec | None) -> OrderIdentity:
    mode: Mode | None = "edit" if wish.kind == "edit" else None
    print_ = body_fingerprint("POST", f"/films/{job.id}/variations", f"{wish!r}".encode())
    nonce = text_of(form, "nonce")
    return OrderIdentity(
        request=asked,
        door="web",
        mode=mode,
        idempotency_key=f"variation-{nonce}-{print_[:32]}" if nonce else None,
        fingerprint=print_,
        parent_id=job.id,
        parent_kind=wish.kind,
        spec=spec,
    )
