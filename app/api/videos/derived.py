"""Routes that make a new film from an existing one: remixes, retakes, edits and extensions."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.api.access import VideosCaller
from app.api.handling import HandlingDep
from app.api.model_headers import announce_model
from app.api.videos.received_order import read_order
from app.api.videos.routes import ORDER_LIMITS, answer_order
from app.api.videos.submit_order import receive_order, repeated_job, submit_order, submit_received, with_inputs
from app.api.videos.translate import Body, read_body
from app.assets.ingest import add_asset
from app.assets.tables import Asset
from app.errors import AppError
from app.jobs.check_order import check_order, film_prompts
from app.jobs.derive import check_clips, extension, remix, retake
from app.jobs.field_types import NegativePrompt, Prompt, Seconds
from app.jobs.file_retention import retention_end
from app.jobs.film_reuse import copy_film, job_of_film
from app.jobs.find import find_job
from app.jobs.idempotency import OrderIdentity
from app.jobs.retention_request import Retention
from app.jobs.schemas import StrictModel, VideoOut, VideoRequest
from app.jobs.spec import Spec
from app.jobs.tables import Job
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.request_session import SessionDep

router = APIRouter(prefix="/v1/videos", tags=["videos"])

BodyDep = Annotated[Body, Depends(read_body)]


class RemixRequest(StrictModel):
    """A variation of a film: another prompt with the same settings."""

    prompt: Prompt
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    retention: Retention | None = None


class RetakeRequest(StrictModel):
    """Render one shot again. The other clips are reused, and only this shot's seconds are charged."""

    shot: int = Field(ge=0, description="Index of the shot, from 0.")
    prompt: Prompt | None = None
    negative_prompt: NegativePrompt | None = None
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    retention: Retention | None = None


class ExtensionRequest(StrictModel):
    """Continue a film where it ends. `video` is the id of one of your videos, or its file."""

    prompt: Prompt
    seconds: Seconds = 5
    video: str | dict[Literal["id"], str] | None = Field(None, description="The OpenAI client sends an object.")
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    retention: Retention | None = None


@router.post("/{video_id}/remix")
@request_limits(RequestLimits(WorkKind.ORDER))
def remix_video(
    http: Request, response: Response, session: SessionDep, caller: VideosCaller, video_id: str, body: RemixRequest
) -> VideoOut:
    """Order a variation of a completed video, with its settings and its seed."""
    job = find_job(session, caller, video_id)
    spec = remix(job, prompt=body.prompt, seed=body.seed)
    order = replace(_order(http, body.prompt, job, "remix", _body_text(body), body.retention), spec=spec)
    return answer_order(response, session, submit_order(http, session, caller, order))


@router.post("/{video_id}/retakes")
@request_limits(RequestLimits(WorkKind.ORDER))
def retake_shot(
    http: Request, response: Response, session: SessionDep, caller: VideosCaller, video_id: str, body: RetakeRequest
) -> VideoOut:
    """Render one shot of a completed storyboard again. Only its seconds are charged."""
    job = find_job(session, caller, video_id)
    spec = retake(
        session,
        job,
        shot=body.shot,
        prompt=body.prompt,
        negative_prompt=body.negative_prompt,
        seed=body.seed,
    )
    order = _order(http, spec.shots[-1].prompt, job, "retake", _body_text(body), body.retention)
    order = replace(order, spec=spec)
    order = receive_order(http, session, caller, order)
    retaken = repeated_job(session, caller, order)
    if retaken is None:
        check_clips(session, caller.account_id, spec)
        retaken = submit_received(http, session, caller, order)
    announce_model(http, retaken.model)
    return answer_order(response, session, retaken)


def _body_schema(model: str) -> dict[str, Any]:
    media_types = ("application/json", "multipart/form-data")
    schema = {"schema": {"$ref": f"#/components/schemas/{model}"}}
    return {"requestBody": {"required": True, "content": dict.fromkeys(media_types, schema)}}


@router.post("/edits", openapi_extra=_body_schema("VideoRequest"))
@request_limits(ORDER_LIMITS)
def edit_video(
    http: Request, response: Response, session: SessionDep, caller: VideosCaller, body: BodyDep, handling: HandlingDep
) -> VideoOut:
    """Change a clip as a prompt says. `video` is a file, an asset id, a URL, or the id of one of your videos."""
    values = dict(body.values)
    parent = _named_job(session, caller, values, body)
    if parent is not None:
        values["video"] = parent.id
        values.setdefault("model", parent.model)
        if parent.spec.get("deepfake"):
            values["deepfake"] = True
        values.setdefault("size", f"{parent.spec['width']}x{parent.spec['height']}")
    received = read_order(replace(body, values=values), handling)
    order = OrderIdentity(
        request=received.request,
        warnings=received.warnings,
        mode="edit",
        fingerprint=body.fingerprint,
        parent_id=parent.id if parent else None,
        parent_kind="edit" if parent else None,
        earlier_prompts=film_prompts(Spec.model_validate(parent.spec)) if parent else "",
    )

    if parent is None:
        return answer_order(response, session, submit_order(http, session, caller, order, body.files))
    order = receive_order(http, session, caller, order)
    job = repeated_job(session, caller, order)
    if job is None:
        order = check_order(session, caller, order)
        film = copy_film(session, parent)
        order = replace(order, request=order.request.model_copy(update={"video": film.id}))
        order = _with_film(session, caller, order, film)
        job = submit_received(http, session, caller, with_inputs(session, caller, order))
    announce_model(http, job.model)
    return answer_order(response, session, job)


@router.post("/extensions", openapi_extra=_body_schema("ExtensionRequest"))
@request_limits(ORDER_LIMITS)
def extend_video(
    http: Request, response: Response, session: SessionDep, caller: VideosCaller, body: BodyDep
) -> VideoOut:
    """Continue a film where it ends. The new film's `seconds` are the total length; only the added ones are charged."""
    values = dict(body.values)
    parent = _named_job(session, caller, values, body)
    if parent is None:
        message = "Pass the id of one of your completed videos, or upload its file unchanged."
        raise AppError("invalid_request", message, field="video")
    extension_request = ExtensionRequest.model_validate({**values, "video": parent.id})
    retention = extension_request.retention
    order = _order(http, extension_request.prompt, parent, "extension", body.fingerprint, retention)
    order = replace(order, earlier_prompts=film_prompts(Spec.model_validate(parent.spec)))
    order = receive_order(http, session, caller, order)
    job = repeated_job(session, caller, order)
    if job is None:
        # Checked before the film becomes an input, so that a refusal stores nothing.
        order = check_order(
            session, caller, replace(order, spec=_extension(parent, Asset(id="asset_unborn"), extension_request))
        )
        film = copy_film(session, parent)
        order = _with_film(session, caller, replace(order, spec=_extension(parent, film, extension_request)), film)
        job = submit_received(http, session, caller, order)
    announce_model(http, job.model)
    return answer_order(response, session, job)


def _with_film(session: Session, caller: Caller, order: OrderIdentity, film: Asset) -> OrderIdentity:
    """Return an order that reads a film, whose pictures were checked, and write the film's asset."""
    order = check_order(session, caller, order, new_files=[film])
    add_asset(session, film, expires_at=retention_end(session, caller.account_id))
    return order


def _extension(parent: Job, source: Asset, body: ExtensionRequest) -> Spec:
    return extension(parent, source, prompt=body.prompt, seconds=body.seconds, seed=body.seed)


def _named_job(session: Session, caller: Caller, values: dict[str, Any], body: Body) -> Job | None:
    """Return the caller's job that `video` refers to by id, by `{"id": …}`, or by the unchanged file of its film."""
    reference = values.get("video")
    if isinstance(reference, dict):
        reference = values["video"] = reference.get("id")
    if isinstance(reference, str) and reference.startswith("video_"):
        return find_job(session, caller, reference)
    if "video" in body.files:
        return job_of_film(session, caller, body.files["video"].file)
    return None


def _body_text(body: RemixRequest | RetakeRequest) -> str:
    """Return a body by which calls are compared; a later field that is absent leaves it what it was."""
    return body.model_dump_json(exclude=None if body.retention else {"retention"})


def _order(
    http: Request, prompt: str, parent: Job, kind: str, body_text: str, retention: Retention | None
) -> OrderIdentity:
    """Return the order of a film that is made from another one. Its Spec is added later.

    It is kept as long as the other film was ordered to be, where it names no retention itself.
    """
    model = str(parent.spec["model"])
    if retention is None and parent.retention:
        retention = Retention.model_validate(parent.retention)
    return OrderIdentity(
        request=VideoRequest(prompt=prompt, model=model, project=parent.project_id, retention=retention),
        fingerprint=f"{http.url.path}:{body_text}",
        parent_id=parent.id,
        parent_kind=kind,
    )
