"""Asset routes: images, clips and sound files, uploaded with the request or directly to storage."""

import tempfile
from collections.abc import AsyncIterator
from typing import Annotated, Any, BinaryIO, Literal, cast

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.accounts.caller import Caller, require_active
from app.api.access import VideosCaller
from app.api.videos.translate import Body, read_body, read_json
from app.assets import find, remove
from app.assets.declarations import require_declaration
from app.assets.ingest import ingest_upload, ingest_url
from app.assets.limits import ORDER_FORM_BYTES_MAX
from app.assets.links import PATH, open_upload_link
from app.assets.schemas import AssetFromHash, AssetFromUrl, AssetOut, AssetUpload, Declaration, Sha256, UploadOut
from app.assets.sniff import Kind
from app.assets.upload import UPLOAD_SECONDS, begin_upload, confirm, receive
from app.clock import now
from app.db import transaction
from app.errors import AppError
from app.jobs.file_retention import retention_end, storage_quota
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.request_session import SessionDep

router = APIRouter(prefix="/v1/assets", tags=["assets"])


class AssetPage(BaseModel):
    """A page of assets, newest first."""

    object: Literal["list"] = "list"
    data: list[AssetOut]
    last_id: str | None
    has_more: bool


class AssetDeleted(BaseModel):
    """Confirmation that an asset was deleted."""

    id: str
    object: Literal["asset.deleted"] = "asset.deleted"
    deleted: bool = True


class UploadForm(BaseModel):
    """The text fields of an upload form."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind | None = Field(None, description="The kind that the file must have. If omitted, any kind is accepted.")
    declaration: Declaration | None = None


# The route parses the form itself, after the caller is authenticated: FastAPI reads declared bodies before it checks
# who sends them, and would write an unauthenticated client's gigabytes to our disk.
UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "An image, clip or sound file."},
                        "kind": UploadForm.model_json_schema()["properties"]["kind"],
                        **{
                            f"declaration[{name}]": schema
                            for name, schema in Declaration.model_json_schema()["properties"].items()
                        },
                    },
                }
            }
        },
    }
}


# Parsed by the route too: a data URL may be large, and is parsed in a thread.
FROM_URL_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/AssetFromUrl"}}},
    }
}


@router.post("", openapi_extra=UPLOAD_SCHEMA)
@request_limits(RequestLimits(WorkKind.UPLOAD, form_bytes_max=ORDER_FORM_BYTES_MAX))
def upload_asset(session: SessionDep, caller: VideosCaller, body: Annotated[Body, Depends(read_body)]) -> AssetOut:
    """Upload a file with the request. It is probed and re-encoded in a sandbox before it can be used."""
    require_active(caller)
    form = UploadForm.model_validate(body.values)
    file = body.files.get("file")
    if file is None or len(body.files) > 1:
        raise AppError("invalid_request", "The form must contain exactly one file, in the field `file`.", field="file")
    declaration = _declaration(caller, form.declaration)
    until = retention_end(session, caller.account_id)
    asset = ingest_upload(
        session,
        caller,
        file.file,
        kind=form.kind,
        filename=file.filename or "",
        expires_at=until,
        quota_bytes=storage_quota(session, caller.account_id),
        declaration=declaration,
    )
    return AssetOut.of(asset)


def _declaration(caller: Caller, declaration: Declaration | None) -> dict[str, Any] | None:
    """Return what is stored with the file. Raises AppError where the account has to declare its files."""
    account = caller.account
    is_required = account.declarations_required and account.rights_declared_at is None
    return require_declaration(declaration, is_required=is_required)


@router.post("/from_url", openapi_extra=FROM_URL_SCHEMA)
@request_limits(RequestLimits(WorkKind.UPLOAD, data_urls=True))
def create_asset_from_url(
    session: SessionDep, caller: VideosCaller, values: Annotated[dict[str, Any], Depends(read_json)]
) -> AssetOut:
    """Fetch a file from an https: or data: URL. Every redirect is checked."""
    require_active(caller)
    body = AssetFromUrl.model_validate(values)
    declaration = _declaration(caller, body.declaration)
    until = retention_end(session, caller.account_id)
    quota = storage_quota(session, caller.account_id)
    terms: dict[str, Any] = {"expires_at": until, "quota_bytes": quota, "declaration": declaration}
    return AssetOut.of(ingest_url(session, caller, body.url, kind=body.kind, **terms))


@router.post("/from_hash")
@request_limits(RequestLimits(WorkKind.UPLOAD))
def create_asset_from_hash(session: SessionDep, caller: VideosCaller, body: AssetFromHash) -> AssetOut:
    """Use a file again that the account has uploaded before, without sending it. It is kept as long as a new one.

    A file that is not there, or is another account's, is `not_found`: upload it.
    """
    require_active(caller)
    asset = find.find_by_hash(session, caller, body.sha256, kind=body.kind, lock=True)
    asset.expires_at = max(asset.expires_at or now(session), retention_end(session, caller.account_id))
    return AssetOut.of(asset)


@router.head("/by_hash/{sha256}", response_class=Response, responses={404: {"description": "Not uploaded yet"}})
def check_asset_hash(
    session: SessionDep,
    caller: VideosCaller,
    sha256: Annotated[Sha256, Path(description="In hex, lower case.")],
) -> Response:
    """Tell by the status whether a file is here already, so that `from_hash` need not send it."""
    find.find_by_hash(session, caller, sha256)
    return Response()


@router.post("/uploads")
def create_asset_upload(session: SessionDep, caller: VideosCaller, body: AssetUpload) -> AssetOut:
    """Start an upload directly to storage: PUT the file to the URL in the response, then confirm it."""
    require_active(caller)
    asset, upload = begin_upload(
        session,
        caller,
        kind=body.kind,
        filename=body.filename,
        content_type=body.content_type,
        size=body.bytes,
        quota_bytes=storage_quota(session, caller.account_id),
        declaration=_declaration(caller, body.declaration),
    )
    expires_at = int(now(session).timestamp()) + UPLOAD_SECONDS
    return AssetOut.of(asset, upload=UploadOut.of(upload, expires_at=expires_at))


async def _put_body(http: Request) -> AsyncIterator[BinaryIO]:
    """Yield the bytes of a PUT request as a file."""
    with tempfile.SpooledTemporaryFile(max_size=2**20) as file:
        async for chunk in http.stream():
            file.write(chunk)
        file.seek(0)
        yield cast(BinaryIO, file)


def _authorize_put(http: Request) -> str:
    """Return the account for whose asset a request brings the bytes. Raises AppError `not_found` for other URLs."""
    link = open_upload_link(http.url.path.removeprefix(PATH))
    with transaction() as session:
        return find.account_of(session, link.asset_id)


def _put_bytes_max(http: Request) -> int:
    return open_upload_link(http.url.path.removeprefix(PATH)).size


@router.put("/uploads/{token}", response_class=Response)
@request_limits(RequestLimits(WorkKind.UPLOAD, bytes_max=_put_bytes_max, authorize=_authorize_put))
def put_asset_upload(token: str, file: Annotated[BinaryIO, Depends(_put_body)], session: SessionDep) -> Response:
    """Receive the bytes of an upload where the storage accepts none itself. The signed URL replaces the key."""
    receive(session, open_upload_link(token), file)
    return Response()


@router.post("/{asset_id}/confirm")
@request_limits(RequestLimits(WorkKind.UPLOAD))
def confirm_asset(session: SessionDep, caller: VideosCaller, asset_id: str) -> AssetOut:
    """Confirm that the file of an upload is stored. It is probed and re-encoded now."""
    require_active(caller)
    until = retention_end(session, caller.account_id)
    quota = storage_quota(session, caller.account_id)
    return AssetOut.of(confirm(session, caller, asset_id, expires_at=until, quota_bytes=quota))


@router.get("")
def list_assets(
    session: SessionDep,
    caller: VideosCaller,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> AssetPage:
    """List the caller's assets, newest first."""
    cursor = None
    if after is not None:
        try:
            last = find.get_asset(session, caller, after)
        except AppError as error:
            raise AppError(
                "invalid_request", "There is no asset with this id to continue after.", field="after"
            ) from error
        cursor = (last.created_at, last.id)
    rows = find.list_assets(session, caller, limit=limit + 1, after=cursor)
    data = [AssetOut.of(each) for each in rows[:limit]]
    return AssetPage(data=data, last_id=data[-1].id if data else None, has_more=len(rows) > limit)


@router.get("/{asset_id}")
def get_asset(session: SessionDep, caller: VideosCaller, asset_id: str) -> AssetOut:
    """Return an asset with its media properties."""
    return AssetOut.of(find.get_asset(session, caller, asset_id))


@router.delete("/{asset_id}")
def delete_asset(session: SessionDep, caller: VideosCaller, asset_id: str) -> AssetDeleted:
    """Delete an asset and its file."""
    remove.delete_asset(session, caller, asset_id)
    return AssetDeleted(id=asset_id)
