"""Local files of DashScope's clients, which upload them before the task that uses them.

For `img_url="file:///…"` a client gets an upload policy, posts the file to the host in the policy, and then refers to
it as `oss://{upload_dir}/{name}` in the task. At Alibaba the host is its object storage; here it is this interface, and
the file becomes an asset of the account like any other. The client chooses the name itself, so the asset's id is
computed from it; the folder in it is random, so nobody else can guess it.
"""

import hashlib
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request

from app.accounts.caller import require_active
from app.api.access import VideosCaller
from app.api.videos.translate import Body, read_body
from app.assets.ingest import ingest_upload
from app.assets.limits import BYTES_MAX, MEBIBYTE, ORDER_FORM_BYTES_MAX
from app.assets.owner import OwnerIds
from app.assets.tables import Asset
from app.clock import now
from app.db import new_id
from app.errors import AppError
from app.jobs.file_retention import retention_end, storage_quota
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.request_session import SessionDep
from app.settings import get_settings
from app.signed_tokens import InvalidToken, SignedToken, TokenPurpose, read_token, sign_token

PATH = "/api/v1/uploads"
router = APIRouter(prefix=PATH, tags=["dashscope"])

STORED = "oss://"
POLICY_SECONDS = 900


@router.get("")
def get_upload_policy(
    http: Request,
    session: SessionDep,
    caller: VideosCaller,
    action: Literal["getPolicy"] = "getPolicy",
    model: Annotated[str, Query(max_length=64)] = "",
) -> dict[str, Any]:
    """Return where the client may upload local files for the next minutes. The signed URL grants the permission."""
    require_active(caller)
    folder = new_id("folder")
    token = sign_token(
        TokenPurpose.DASHSCOPE_UPLOAD,
        caller.account_id,
        caller.project_id or "",
        "test" if caller.test else "live",
        folder,
        expires_at=now(session) + timedelta(seconds=POLICY_SECONDS),
    )
    data = {
        "upload_host": f"{get_settings().base_url()}{PATH}/{token}",
        "upload_dir": folder,
        "expire_in_seconds": POLICY_SECONDS,
        "max_file_size_mb": BYTES_MAX // MEBIBYTE,
        # Fields of Alibaba's object storage: its clients send them back, and nothing here reads them.
        "policy": "",
        "signature": "",
        "oss_access_key_id": "",
        "x_oss_object_acl": "private",
        "x_oss_forbid_overwrite": "true",
    }
    return {"request_id": http.state.request_id, "data": data}


def verify_policy(session: SessionDep, permit: str) -> tuple[OwnerIds, str]:
    """Return the owner and the folder of an upload token. Raises AppError `forbidden` if it is invalid or expired."""
    owner, folder, token = _read(permit)
    if token.has_expired(now(session)):
        raise AppError("forbidden", "This upload URL has expired. Request a new upload policy.")
    return owner, folder


def authorize_upload(request: Request) -> str:
    """Return the account for which we issued the upload URL of a request. Raises AppError `forbidden` if we did not."""
    return _read(request.url.path.rpartition("/")[2])[0].account_id


def _read(permit: str) -> tuple[OwnerIds, str, SignedToken]:
    """Return the owner, the folder and the signed token of an upload URL. Raises AppError `forbidden`."""
    try:
        token = read_token(TokenPurpose.DASHSCOPE_UPLOAD, permit)
        account_id, project_id, mode, folder = token.values
    except (InvalidToken, ValueError):
        raise AppError("forbidden", "This upload URL is invalid. Request an upload policy.") from None
    return OwnerIds(account_id, project_id or None, mode == "test"), folder, token


_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["key", "file"],
                    "properties": {"key": {"type": "string"}, "file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.post("/{permit}", openapi_extra=_FORM)
@request_limits(RequestLimits(WorkKind.UPLOAD, form_bytes_max=ORDER_FORM_BYTES_MAX, authorize=authorize_upload))
def upload_file(
    http: Request,
    session: SessionDep,
    permission: Annotated[tuple[OwnerIds, str], Depends(verify_policy)],
    body: Annotated[Body, Depends(read_body)],
) -> dict[str, Any]:
    """Upload a local file. It is probed and re-encoded before a task can refer to it by its key."""
    owner, folder = permission
    file, key = body.files.get("file"), body.values.get("key")
    if file is None or not isinstance(key, str) or not key.startswith(f"{folder}/"):
        raise AppError(
            "invalid_request", f"The form must contain a file and a key in the folder {folder}.", field="key"
        )
    asset_id = stored_asset(STORED + key)
    if session.get(Asset, asset_id) is not None:
        raise AppError("conflict", f"A file with the key {key} already exists.", field="key")
    until = retention_end(session, owner.account_id)
    name = key.removeprefix(f"{folder}/")
    quota = storage_quota(session, owner.account_id)
    ingest_upload(session, owner, file.file, filename=name, expires_at=until, asset_id=asset_id, quota_bytes=quota)
    return {"request_id": http.state.request_id, "key": key}


def stored_asset(url: str) -> str:
    """Return the id of the asset that was uploaded under an `oss://` URL."""
    return f"asset_{hashlib.sha256(url.encode()).hexdigest()[:32]}"
