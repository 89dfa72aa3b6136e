"""Models of the Replicate interface: the enabled ones of the catalogue, each with one version of its own id."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session

from app.api.access import VideosCaller
from app.api.replicate.errors import REFUSALS
from app.api.replicate.translate import to_model, to_version, unknown_model
from app.catalog.models import VideoModel, load_catalog
from app.errors import AppError
from app.jobs.model_terms import on_sale
from app.jobs.prediction import OWNER, PREFIX
from app.request_session import SessionDep
from app.settings import get_settings

router = APIRouter(prefix=f"{PREFIX}/models", tags=["replicate"], responses=REFUSALS)


def _models(session: Session) -> dict[str, VideoModel]:
    models = on_sale(session, load_catalog(get_settings().catalog_dir).values())
    return {model.id: model for model in models}


def _model(session: Session, owner: str, model_id: str) -> VideoModel:
    model = load_catalog(get_settings().catalog_dir).find(model_id) if owner == OWNER else None
    if model is None or not on_sale(session, [model]):
        raise unknown_model(f"{owner}/{model_id}")
    return model


@router.get("")
def list_replicate_models(session: SessionDep, _caller: VideosCaller) -> dict[str, Any]:
    """List the enabled models, in one page."""
    results = [to_model(model) for model in _models(session).values()]
    return {"previous": None, "next": None, "results": results}


@router.get("/{owner}/{model_id}")
def get_replicate_model(session: SessionDep, _caller: VideosCaller, owner: str, model_id: str) -> dict[str, Any]:
    """Return one enabled model; `latest_version.openapi_schema` names its inputs and their limits."""
    return to_model(_model(session, owner, model_id))


@router.get("/{owner}/{model_id}/versions")
def list_model_versions(session: SessionDep, _caller: VideosCaller, owner: str, model_id: str) -> dict[str, Any]:
    """List the versions of a model: one, with the model's id."""
    return {"previous": None, "next": None, "results": [to_version(_model(session, owner, model_id))]}


@router.get("/{owner}/{model_id}/versions/{version_id}")
def get_model_version(
    session: SessionDep, _caller: VideosCaller, owner: str, model_id: str, version_id: str
) -> dict[str, Any]:
    """Return the version of a model."""
    model = _model(session, owner, model_id)
    if version_id != model.id:
        raise AppError("not_found", "There is no version with this id.", noun="version", id=version_id)
    return to_version(model)
