"""Files and the webhook secret of the Replicate interface. A file is an asset of the account like any other."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from app.accounts.caller import require_active
from app.api.access import VideosCaller, WebhooksCaller
from app.api.replicate.errors import REFUSALS
from app.api.replicate.translate import to_file
from app.api.videos.translate import Body, read_body
from app.assets.find import get_asset
from app.assets.ingest import ingest_upload
from app.assets.limits import ORDER_FORM_BYTES_MAX
from app.errors import AppError
from app.jobs.file_retention import retention_end, storage_quota
from app.jobs.prediction import PREFIX
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.request_session import SessionDep
from app.webhooks.callback_secret import reveal_callback_secret

router = APIRouter(prefix=PREFIX, tags=["replicate"], responses=REFUSALS)

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "title": "ReplicateFile",
                    "type": "object",
                    "required": ["content"],
                    "properties": {"content": {"type": "string", "format": "binary"}, "metadata": {"type": "string"}},
                }
            }
        },
    }
}


@router.post("/files", openapi_extra=_FORM, status_code=201)
@request_limits(RequestLimits(WorkKind.UPLOAD, form_bytes_max=ORDER_FORM_BYTES_MAX))
def create_replicate_file(
    session: SessionDep, caller: VideosCaller, body: Annotated[Body, Depends(read_body)]
) -> dict[str, Any]:
    """Upload a picture, clip or sound that a prediction may use by the URL in the answer."""
    require_active(caller)
    file = body.files.get("content")
    if file is None:
        raise AppError("invalid_request", "The form must contain the file in the field `content`.", field="content")
    asset = ingest_upload(
        session,
        caller,
        file.file,
        field="content",
        filename=file.filename or "",
        expires_at=retention_end(session, caller.account_id),
        quota_bytes=storage_quota(session, caller.account_id),
    )
    return to_file(asset)


@router.get("/files/{asset_id}")
def get_replicate_file(session: SessionDep, caller: VideosCaller, asset_id: str) -> dict[str, Any]:
    """Return the facts of an uploaded file."""
    return to_file(get_asset(session, caller, asset_id))


@router.get("/webhooks/default/secret")
def get_default_webhook_secret(session: SessionDep, caller: WebhooksCaller) -> dict[str, Any]:
    """Return the secret that signs the webhooks of the account's predictions, as Replicate's clients verify them."""
    return {"key": reveal_callback_secret(session, caller)}
