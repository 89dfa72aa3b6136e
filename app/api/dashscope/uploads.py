"""Local files of DashScope's clients, which send them before the task that uses them.

`img_url="file:///…"` makes a client ask for a policy, post the file to the host that the policy names, and then call
it `oss://{upload_dir}/{name}` in the task. With Alibaba the host is its object storage; here it is this door, and the
file becomes an asset of the account like any other. The client makes up the name by itself, so the asset's id is
computed from it; the folder in it is random, so nobody else can name it.
"""

import hashlib
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request

from app.accounts.caller import require_active
from app.api.access import SessionDep, VideosCaller
from app.api.videos.translate import Body, read_body
from app.assets.ingest import ingest_upload
from app.assets.limits import BYTES_MAX, MEBIBYTE
from app.assets.owner import OwnerIds
from app.assets.tables import Asset
from app.clock import now
from app.db import new_id
from app.errors import AppError
from app.jobs.file_retention import retention_end
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
    """Say where a client may put local files for the next minutes. The address itself is the permission."""
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
        # Fields of Alibaba's object storage: its clients send them along, and nothing here reads them.
        "policy": "",
        "signature": "",
        "oss_access_key_id": "",
        "x_oss_object_acl": "private",
        "x_oss_forbid_overwrite": "true",
    }
    return {"request_id": http.state.request_id, "data": data}


def verify_policy(session: SessionDep, permit: str) -> tuple[OwnerIds, str]:
    """Return the owner and the folder of a permission. Raises AppError `forbidden` if it is forged or has expired."""
    owner, folder, token = _read(permit)
    if token.has_expired(now(session)):
        raise AppError("forbidden", "This address for an upload has expired; ask for a new policy.")
    return owner, folder


def authorize_upload(request: Request) -> None:
    """Let a file be read whose address we gave out. Raises AppError `forbidden`."""
    _read(request.url.path.rpartition("/")[2])


def _read(permit: str) -> tuple[OwnerIds, str, SignedToken]:
    """Return the owner, the folder and the token of a permission. Raises AppError `forbidden` if it is forged."""
    try:
        token = read_token(TokenPurpose.DASHSCOPE_UPLOAD, permit)
        account_id, project_id, side, folder = token.values
    except (InvalidToken, ValueError):
        raise AppError("forbidden", "This upload URL is not valid; request a policy.") from None
    return OwnerIds(account_id, project_id or None, side == "test"), folder, token


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
def upload_file(
    http: Request,
    session: SessionDep,
    permission: Annotated[tuple[OwnerIds, str], Depends(verify_policy)],
    body: Annotated[Body, Depends(read_body)],
) -> dict[str, Any]:
    """Take a local file; it is probed and written anew before it counts, and is then known by its key."""
    owner, folder = permission
    file, key = body.files.get("file"), body.values.get("key")
    if file is None or not isinstance(key, str) or not key.startswith(f"{folder}/"):
        raise AppError("invalid_request", f"The form needs a file and a key in the folder {folder}.", field="key")
    asset_id = stored_asset(STORED + key)
    if session.get(Asset, asset_id) is not None:
        raise AppError("conflict", f"There is a file {key} already.", field="key")
    until = retention_end(session, owner.account_id)
    name = key.removeprefix(f"{folder}/")
    ingest_upload(session, owner, file.file, filename=name, expires_at=until, asset_id=asset_id)
    return {"request_id": http.state.request_id, "key": key}


def stored_asset(address: str) -> str:
    """Return the id of the asset that was uploaded under an `oss://` address."""
    return f"asset_{hashlib.sha256(address.encode()).hexdigest()[:32]}"
