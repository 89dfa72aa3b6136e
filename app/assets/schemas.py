"""Request and response schemas of assets."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.assets.sniff import Kind
from app.assets.tables import Asset
from app.storage import Upload

_EXAMPLE: dict[str, Any] = {"filename": "lighthouse.png", "content_type": "image/png", "bytes": 1_482_113}


class Declaration(BaseModel):
    """What a customer declares of a file that they upload."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"rights": True}]})

    rights: bool = Field(description="The uploader may use the file. Only true is accepted.")
    likeness: bool = Field(
        False, description="It shows a real person. Films made with it are deepfakes: they show a visible label."
    )
    consent: bool = Field(False, description="With a likeness: the person agreed. Only true is accepted then.")


class AssetUpload(BaseModel):
    """A new upload: the response has the URL to put the file to; then it has to be confirmed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    filename: Annotated[str, StringConstraints(max_length=200)] = Field("", description="Only for your own reference.")
    content_type: Annotated[str, StringConstraints(pattern=r"^(image|video|audio)/[a-z0-9.+-]{1,60}$")]
    bytes: int = Field(ge=1, description="Size of the file.")
    kind: Kind | None = Field(None, description="The required kind; default: any.")
    declaration: Declaration | None = None


class AssetFromUrl(BaseModel):
    """A URL to fetch a file from."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"url": "https://example.com/a.png"}]})

    url: Annotated[str, StringConstraints(min_length=1)] = Field(description="An https: or data: URL.")
    kind: Kind | None = Field(None, description="The required kind; default: any.")
    declaration: Declaration | None = None


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class AssetFromHash(BaseModel):
    """A file that the account has uploaded before, by the SHA-256 of its bytes as they were sent."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}]
        },
    )

    sha256: Sha256 = Field(description="In hex, lower case.")
    kind: Kind | None = Field(None, description="The required kind; default: any.")


class UploadOut(BaseModel):
    """The upload URL: send `method` to `url` with these headers before it expires."""

    url: str
    method: Literal["PUT"] = "PUT"
    headers: dict[str, str]
    expires_at: int

    @classmethod
    def of(cls, upload: Upload, *, expires_at: int) -> Self:
        """Return the schema of an upload URL."""
        return cls(url=upload.url, headers=upload.headers, expires_at=expires_at)


class AssetOut(BaseModel):
    """A picture, clip or sound. Its facts are those of the re-encoded file; `seconds` is exact."""

    id: str
    object: Literal["asset"] = "asset"
    state: Literal["pending", "ready", "refused"]
    kind: Kind | None
    refused_reason: str | None = None
    filename: str
    content_type: str | None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    fps: str | None = Field(None, description="Frames per second, as an exact fraction.")
    seconds: str | None = Field(None, description="Length, as an exact fraction.")
    has_audio: bool
    sha256: str | None = None
    source_sha256: str | None = Field(None, description="SHA-256 of the file as it was sent, for `from_hash`.")
    declaration: Declaration | None = None
    created_at: int
    expires_at: int | None
    upload: UploadOut | None = None

    @classmethod
    def of(cls, asset: Asset, *, upload: UploadOut | None = None) -> Self:
        """Return the schema of an asset's row."""
        facts = {name: getattr(asset, name) for name in cls.model_fields.keys() & Asset.__table__.columns.keys()}
        facts["created_at"] = int(asset.created_at.timestamp())
        facts["expires_at"] = int(asset.expires_at.timestamp()) if asset.expires_at else None
        return cls(**facts, upload=upload)
