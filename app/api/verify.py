"""Verify a file without a key: which marks it has, and of which films of this service it is made."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from app.api.videos.translate import Body, read_body
from app.errors import AppError
from app.request_limits import request_limits
from app.verification.requests import VERIFICATION_LIMITS, leave_gate, machine_of_request
from app.verification.verify import IDS_MAX, Verification, verify_upload, verify_url

router = APIRouter(prefix="/v1/verify", tags=["verify"])

State = Literal["found", "absent", "broken"]


class FileUrl(BaseModel):
    """A file to be fetched and verified."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"url": "https://example.com/film.mp4"}]})

    url: str = Field(min_length=1, max_length=4096, description="An https: URL. Every redirect is checked.")


class MarksOut(BaseModel):
    """The state of each mark of a file."""

    c2pa: State = Field(description="The signed manifest inside the file. `broken`: the file was changed after it.")
    aigc: State = Field(description="The `AIGC` label of GB 45438 in the file's metadata.")
    watermark: State = Field(
        description="The invisible watermark of this service in the pixels. `broken`: it is there and cannot be read."
    )
    registry: State = Field(
        description="Whether this file, or frames that look like its own, are of a film that this service delivered. "
        "Pictures, and videos of one still, are compared by their hash alone."
    )


class VerificationOut(BaseModel):
    """What a file says of its origin. Nothing of the file is kept, and no person is named."""

    object: Literal["verification"] = "verification"
    marks: MarksOut
    ids: list[str] = Field(
        description=f"The films of this service that the file is made of, at most {IDS_MAX}: those that the file or "
        "its watermarks name, else those that look alike, the most alike first."
    )

    @classmethod
    def of(cls, verification: Verification) -> "VerificationOut":
        """Return the response for a verification."""
        states = {name: str(getattr(verification, name)) for name in MarksOut.model_fields}
        return cls(marks=MarksOut.model_validate(states), ids=list(verification.ids))


# The route parses the body itself, as it accepts two types.
VERIFY_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "A picture, clip or sound file."}
                    },
                }
            },
            "application/json": {"schema": {"$ref": "#/components/schemas/FileUrl"}},
        },
    }
}


@router.post("", openapi_extra=VERIFY_SCHEMA, dependencies=[Depends(leave_gate)])
@request_limits(VERIFICATION_LIMITS)
def verify_file(request: Request, body: Annotated[Body, Depends(read_body)]) -> VerificationOut:
    """Say whether a file was generated here, by its marks. Anybody may ask, without a key, some times a minute."""
    machine = machine_of_request(request)
    if not body.files:
        return VerificationOut.of(verify_url(FileUrl.model_validate(body.values).url, machine=machine))
    file = body.files.get("file")
    if file is None or len(body.files) > 1 or body.values:
        raise AppError("invalid_request", "The form must contain one file, in the field `file`.", field="file")
    return VerificationOut.of(verify_upload(file.file, machine=machine))
