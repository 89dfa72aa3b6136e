"""The studio page: the form, its live price, and the order."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.datastructures import FormData, UploadFile

from app.accounts.caller import require_active
from app.accounts.projects import list_projects
from app.assets.ingest import ingest_upload
from app.assets.tables import Asset
from app.catalog.models import load_catalog
from app.db import new_id
from app.errors import AppError
from app.jobs.check_order import check_order
from app.jobs.file_retention import retention_end, storage_quota
from app.jobs.find import find_job, list_jobs
from app.jobs.idempotency import OrderIdentity, body_fingerprint
from app.jobs.quote import estimate
from app.jobs.rate_limits import count_order
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec
from app.jobs.submit import submit
from app.parsing import parse_integer
from app.request_limits import WorkKind, request_limits
from app.settings import get_settings
from app.web.auth import CreatorDep, FormDep, SessionDep, Visitor, draft_limits, file_of, text_of
from app.web.description import forget_description, kept_description
from app.web.language import gettext
from app.web.problems import validation_error
from app.web.render import is_htmx, page, redirect
from app.web.sentences import sentence
from app.web.studio.declared_pictures import declare_pictures
from app.web.studio.draft import Draft, described_draft, draft_of, draft_request, read_draft, uploads_of, with_picture
from app.web.studio.draft_edits import edit_draft
from app.web.studio.errors import order_error
from app.web.studio.examples import EXAMPLES, example_draft
from app.web.studio.film_card import cards_of
from app.web.studio.form_context import form_context, form_options, model_of
from app.web.studio.order_code import order_snippets
from app.web.studio.queue_notice import closed_reasons
from app.web.studio.understood import ask_about_subject

router = APIRouter(include_in_schema=False)

RECENT = 8


@router.get("/studio")
def show_studio(
    request: Request,
    session: SessionDep,
    visitor: CreatorDep,
    source: Annotated[str | None, Query(alias="from", max_length=64)] = None,
    ordered: Annotated[str | None, Query(max_length=64)] = None,
    example: Annotated[str, Query(max_length=32)] = "",
    described: Annotated[str, Query(max_length=32)] = "",
    model: Annotated[str, Query(max_length=64)] = "auto",
    seed: Literal["", "new"] = "",
) -> Response:
    """Show the form: empty, with an example, with what was described on the landing page, or with the settings of a
    film; the newest films are below it.

    After an order it keeps what was ordered, without its seed: ordered again, it is another film. `seed=new` drops the
    seed of a film too.
    """
    if source is None and ordered is None:
        draft = described_draft(kept_description(request)) if described else example_draft(example)
        model = load_catalog(get_settings().catalog_dir).aliases.get(model, model)
        return _studio(request, session, visitor, replace(draft, model=model))
    job = find_job(session, visitor.caller, source or ordered or "")
    spec = Spec.model_validate(job.spec)
    # An archived project accepts no new films.
    open_ids = {each.id for each in list_projects(session, visitor.caller.account_id)}
    draft = replace(draft_of(spec), project=job.project_id if job.project_id in open_ids else "")
    if source is None:
        return _studio(request, session, visitor, replace(draft, seed=""), ordered=job.id)
    draft = replace(draft, seed="") if seed else draft
    return _studio(request, session, visitor, draft, omitted=_omitted_inputs(spec))


@router.post("/studio/draft")
@request_limits(draft_limits(WorkKind.UPLOAD))
def change_draft(request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep) -> Response:
    """Add, move or remove a shot; an htmx request gets only the storyboard."""
    draft, action = _with_uploads(session, visitor, form, read_draft(form)), text_of(form, "action")
    model = model_of(session, visitor, draft) if action.startswith("word:") else None
    draft = edit_draft(draft, action, model=model)
    if is_htmx(request):
        return page(request, "studio/board.html", opened=None, **form_context(session, visitor, draft))
    return _studio(request, session, visitor, draft, opened=_shot_of(action))


@router.post("/studio/meter")
@request_limits(draft_limits(WorkKind.ORDER))
def show_meter(request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep) -> Response:
    """Return the price of the form's current content, and what the model takes from its prompts."""
    return page(request, "studio/meter.html", is_part=True, **form_context(session, visitor, read_draft(form)))


@router.post("/studio/orders")
@request_limits(draft_limits(WorkKind.ORDER))
def post_order(request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep) -> Response:
    """Order the film at no more than the price that the meter showed."""
    draft = read_draft(form)
    try:
        # A rejected order stores nothing but the pictures that were submitted with it.
        draft = _with_uploads(session, visitor, form, draft)
        order_request = draft_request(draft, max_price=text_of(form, "max_price"))
        _ask(session, visitor, draft, is_confirmed=bool(text_of(form, "anyway")))
        declare_pictures(session, visitor, draft)
        count_order(request, session, visitor.caller)
        order = check_order(session, visitor.caller, _order(order_request, draft))
        with session.begin_nested():
            job = submit(session, visitor.caller, order)
    except ValidationError as error:
        return _refused(request, session, visitor, draft, validation_error(error))
    except AppError as error:
        return _refused(request, session, visitor, draft, order_error(error, text_of(form, "max_price")))
    response = redirect(request, f"/studio?ordered={job.id}")
    forget_description(response)
    return response


@router.post("/studio/code")
@request_limits(draft_limits(WorkKind.ORDER))
def show_code(request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep) -> Response:
    """Show the form's order as code; an htmx request gets only the snippets."""
    draft = _with_uploads(session, visitor, form, read_draft(form))
    meter = form_context(session, visitor, draft)["meter"]
    snippets = order_snippets(draft, meter["total"]) if meter else []
    if is_htmx(request):
        return page(request, "studio/code.html", snippets=snippets)
    return _studio(request, session, visitor, draft, snippets=snippets)


@router.post("/studio/pictures")
@request_limits(draft_limits(WorkKind.UPLOAD))
def post_picture(session: SessionDep, visitor: CreatorDep, form: FormDep) -> Response:
    """Store a picture that was dropped onto a shot; return its asset id, or why it is refused."""
    file = file_of(form, "file")
    try:
        if file is None:
            raise AppError("invalid_request", "Choose a file.", field="file")
        asset = _store_picture(session, visitor, file, field="file")
    except AppError as error:
        session.rollback()
        # The page shows it beside the picture.
        return JSONResponse({"code": error.code, "detail": sentence(error)}, status_code=error.status)
    return JSONResponse({"id": asset.id})


def _shot_of(action: str) -> int | None:
    """Return the shot to whose prompt a button adds a word; the page shows its words again."""
    verb, _, rest = action.partition(":")
    return parse_integer(rest.partition(":")[0]) if verb == "word" else None


def _order(order_request: VideoRequest, draft: Draft) -> OrderIdentity:
    # Submitted twice (double click, reload) it is one order; changed and submitted again it is another.
    fingerprint = body_fingerprint("POST", "/studio/orders", f"{draft!r}".encode())
    key = f"studio-{draft.nonce}-{fingerprint[:32]}" if draft.nonce else None
    return OrderIdentity(request=order_request, door="web", idempotency_key=key, fingerprint=fingerprint)


def _with_uploads(session: Session, visitor: Visitor, form: FormData, draft: Draft) -> Draft:
    for row, name, file in uploads_of(form, draft):
        asset = _store_picture(session, visitor, file, field=f"shots.{row}.{name}")
        draft = with_picture(draft, row, name, asset.id)
    return draft


def _store_picture(session: Session, visitor: Visitor, file: UploadFile, *, field: str) -> Asset:
    require_active(visitor.caller)
    expires_at = retention_end(session, visitor.caller.account_id)
    return ingest_upload(
        session,
        visitor.caller,
        file.file,
        kind="picture",
        field=field,
        expires_at=expires_at,
        quota_bytes=storage_quota(session, visitor.caller.account_id),
    )


def _ask(session: Session, visitor: Visitor, draft: Draft, *, is_confirmed: bool) -> None:
    """Ask before an order whose subject the model does not know. Raises AppError with the fact `question`."""
    if visitor.test or is_confirmed:
        return
    model = estimate(session, visitor.caller, draft_request(draft)).model
    ask_about_subject(model, [shot.prompt for shot in draft.shots], is_confirmed=is_confirmed)


def _refused(request: Request, session: Session, visitor: Visitor, draft: Draft, error: AppError) -> Response:
    # A question is no failure: the page asks, and its button orders.
    status = 200 if error.facts.get("question") else error.status
    return _studio(request, session, visitor, draft, error=error, status=status)


def _studio(
    request: Request,
    session: Session,
    visitor: Visitor,
    draft: Draft,
    *,
    error: AppError | None = None,
    status: int = 200,
    omitted: str = "",
    ordered: str = "",
    snippets: list[dict[str, str]] | None = None,
    opened: int | None = None,
) -> Response:
    jobs, more = list_jobs(session, visitor.caller, limit=RECENT)
    context: dict[str, Any] = {
        "title": gettext("Studio"),
        "is_part": False,
        "error": error,
        "omitted": omitted,
        "snippets": snippets,
        "draft": draft,
        "nonce": new_id("form"),
        # A submitted form shows what was submitted; a new one may be filled from the draft stored in the browser.
        "is_fresh": request.method == "GET",
        "closed": closed_reasons(session, visitor),
        "options": form_options(session, visitor, draft.model),
        "cards": cards_of(session, jobs),
        "more": more,
        "ordered": ordered,
        "examples": [] if any(shot.prompt for shot in draft.shots) else EXAMPLES,
        "opened": opened,
        **form_context(session, visitor, draft, error=error),
    }
    return page(request, "studio/studio.html", status=status, **context)


def _omitted_inputs(spec: Spec) -> str:
    """Return which inputs of a film the form cannot carry over, as a sentence; empty for most films."""
    parts = {
        gettext("the source clip"): spec.video,
        gettext("the audio track"): spec.audio,
    }
    missing = [name for name, asset in parts.items() if asset is not None]
    names = gettext(" and ").join(missing)
    return gettext("Not carried over from that film: %(names)s.", names=names) if missing else ""
