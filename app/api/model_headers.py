"""Response headers about the life of a model: `Deprecation` (RFC 9745) and `Sunset` (RFC 8594), at every interface."""

from datetime import UTC
from email.utils import format_datetime

from starlette.requests import Request

from app.catalog.models import load_catalog
from app.settings import get_settings


def announce_model(request: Request, model_id: str) -> None:
    """Let the answer to a request say when this model is deprecated and retires, if it does."""
    request.state.announced_model = model_id


def model_headers(request: Request) -> dict[str, str]:
    """Return the header fields about the model that was announced for this answer."""
    model_id = getattr(request.state, "announced_model", None)
    model = None if model_id is None else load_catalog(get_settings().catalog_dir).get(model_id)
    if model is None:
        return {}
    headers = {}
    if model.deprecated_at is not None:
        headers["deprecation"] = f"@{int(model.deprecated_at.timestamp())}"
    if model.retires_at is not None:
        headers["sunset"] = format_datetime(model.retires_at.astimezone(UTC), usegmt=True)
    if model.replaced_by:
        headers["link"] = f'<{get_settings().base_url()}/v1/models/{model.replaced_by}>; rel="successor-version"'
    return headers
