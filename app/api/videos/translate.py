"""Parse the bodies of OpenAI's and other clients: JSON, forms, files and bracketed field names."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from app.api.body_checks import JSON_BYTES_MAX, check_json
from app.api.problems import is_form, is_json, wrong_type
from app.api.text_validation import parse_json_object, parse_large, require_text
from app.errors import AppError
from app.jobs.idempotency import body_fingerprint
from app.parsing import parse_integer

_PART = re.compile(r"\[([^\[\]]*)\]")
# Names of file parts of OpenAI's clients, and the native names. As a value the field is read by `dialects`.
RENAMED_FILES = {"input_reference": "first_frame"}
DEPTH_MAX = 8
# A storyboard of fifty shots has about 320 fields.
FORM_FIELDS_MAX = 500
FORM_FILES_MAX = 16


@dataclass
class Body:
    """A request's body as plain values, its uploaded files by field, and its fingerprint."""

    values: dict[str, Any]
    files: dict[str, UploadFile] = field(default_factory=dict)
    fingerprint: str = ""


async def read_body(request: Request) -> AsyncIterator[Body]:
    """Yield a JSON or form body as plain values, and close the form's files afterwards.

    Raises AppError `invalid_json` and `unsupported_media_type`, and `invalid_request` for a form that contradicts
    itself.
    """
    if is_form(request):
        async with request.form(
            max_files=FORM_FILES_MAX, max_fields=FORM_FIELDS_MAX, max_part_size=JSON_BYTES_MAX
        ) as form:
            yield await run_in_threadpool(_read_form, request, form)
        return
    if not is_json(request):
        raise wrong_type(request, ["application/json", "multipart/form-data"])

    def read(raw: bytes) -> Body:
        values = parse_json_object(raw) if raw.strip() else {}
        remove_empty_prompt(values)
        return Body(values, fingerprint=body_fingerprint(request.method, request.url.path, raw))

    yield await parse_large(read, await request.body())


async def read_json(request: Request) -> dict[str, Any]:
    """Return a JSON body. Raises AppError `invalid_json` and `unsupported_media_type`."""
    if not is_json(request):
        raise wrong_type(request, ["application/json"])
    return await parse_large(parse_json_object, await request.body())


def _content_hash(file: UploadFile) -> str:
    digest = hashlib.file_digest(file.file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.file.seek(0)
    return digest


def _read_form(request: Request, form: FormData) -> Body:
    values: dict[str, Any] = {}
    files: dict[str, UploadFile] = {}
    parts: list[str] = []
    has_numbers = any(re.search(r"\[\d", key) for key in form)
    for key, value in form.multi_items():
        if isinstance(value, UploadFile):
            files[RENAMED_FILES.get(key, key)] = value
            parts.append(f"{key}=file:{value.filename}:{_content_hash(value)}")
        else:
            insert_field(values, key, value)
            parts.append(f"{key}={value}")
    require_text(values)
    remove_empty_prompt(values)
    if not has_numbers:
        resolve_lists(values)
    # The boundary of a multipart body is random, so the fingerprint covers the parsed fields.
    fingerprint = body_fingerprint(request.method, request.url.path, "\n".join(parts).encode())
    return Body(values, files, fingerprint)


def insert_field(values: dict[str, Any], key: str, value: str) -> None:
    """Insert a form field with a bracketed name (`shots[][prompt]`, `metadata[scene]`) into nested values.

    Raises AppError `invalid_request` for a name that cannot be read or that contradicts another field.
    """
    name, rest = re.match(r"([^\[]*)(.*)", key, re.DOTALL).groups()  # type: ignore[union-attr]
    parts = _PART.findall(rest)
    if not name or "".join(f"[{part}]" for part in parts) != rest or len(parts) > DEPTH_MAX:
        raise AppError("invalid_request", f"The field name {key!r} is malformed.", field=key)
    _insert(values, [name, *parts], value, key)


def _insert(here: Any, path: list[str], value: str, key: str) -> None:
    part, beyond = path[0], path[1:]
    if isinstance(here, list):
        if not beyond:
            here.append(value)
        else:
            _insert(_element(here, part, beyond, key), beyond, value, key)
    elif not isinstance(here, dict):
        raise AppError("invalid_request", f"The field {key!r} contradicts another field.", field=key)
    elif not beyond:
        if part in here:
            raise AppError("invalid_request", f"The field {key!r} was sent twice.", field=key)
        here[part] = value
    else:
        is_list = beyond[0] == "" or parse_integer(beyond[0]) is not None
        _insert(here.setdefault(part, [] if is_list else {}), beyond, value, key)


def _element(here: list[Any], part: str, beyond: list[str], key: str) -> Any:
    """Return the element of a list that a field belongs to.

    `[]` means the first element that does not have the field yet, or a new one. `resolve_lists` then rejects lists
    whose elements have different fields, because it is unclear which value belongs to which element.
    """
    if part == "":
        # The n-th value of a field belongs to the n-th element: OpenAI's client sends all prompts, then all seconds.
        name = beyond[0]
        for element in here:
            if isinstance(element, dict) and (len(beyond) > 1 or name not in element):
                return element
        here.append({})
        return here[-1]
    index = parse_integer(part)
    if index == len(here):
        here.append({})
    if index is None or index >= len(here):
        raise AppError("invalid_request", f"The index in the field name {key!r} is out of order.", field=key)
    return here[index]


def resolve_lists(values: dict[str, Any]) -> None:
    """Parse lists that a form contains as JSON text, and reject `[]` lists whose elements have different fields."""
    shots = values.get("shots")
    if isinstance(shots, str):
        check_json(shots.encode("utf-8", "replace"))
        try:
            values["shots"] = json.loads(shots, parse_float=str)
        except (ValueError, RecursionError) as error:
            raise AppError("invalid_request", "shots is not valid JSON.", field="shots") from error
        require_text({"shots": values["shots"]})
    for name, listed in values.items():
        if isinstance(listed, list) and len({frozenset(each) for each in listed if isinstance(each, dict)}) > 1:
            message = f"The elements of {name}[] have different fields; number them ({name}[0][…]) or send JSON."
            raise AppError("invalid_request", message, field=name)


def remove_empty_prompt(values: dict[str, Any]) -> None:
    """Remove an empty prompt beside `shots`: OpenAI's client always sends one."""
    prompt = values.get("prompt")
    if values.get("shots") and (prompt is None or (isinstance(prompt, str) and not prompt.strip())):
        values.pop("prompt", None)
