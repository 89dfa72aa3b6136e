"""The life of models as orders meet it: retired ones are refused, with the model that replaces them."""

from datetime import datetime

from sqlalchemy import ColumnElement, or_

from app.catalog.models import VideoModel, load_catalog
from app.errors import AppError
from app.jobs.tables import Job
from app.settings import get_settings


def check_not_retired(model: VideoModel, at: datetime) -> None:
    """Refuse a model that has retired by this moment. Raises AppError `model_retired`, which names its successor."""
    if not model.is_retired(at):
        return
    advice = f"order {model.replaced_by} instead" if model.replaced_by else "GET /v1/models lists the others"
    raise AppError(
        "model_retired",
        f"{model.name} retired on {model.retires_at:%Y-%m-%d}; {advice}.",
        field="model",
        value=model.id,
        replaced_by=model.replaced_by or None,
    )


def alias_of(name: str) -> str | None:
    """Return the name under which a model is ordered if it is an alias, else None."""
    return name if name in load_catalog(get_settings().catalog_dir).aliases else None


def has_model(name: str) -> ColumnElement[bool]:
    """Return the condition on jobs for a filter by model: its id, or an alias.

    An alias selects the jobs of the model that it means now, and those that were ordered under it.
    """
    catalog = load_catalog(get_settings().catalog_dir)
    if name in catalog:
        return Job.model == name
    return or_(Job.model == catalog.aliases.get(name, name), Job.model_alias == name)
