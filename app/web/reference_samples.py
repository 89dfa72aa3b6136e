"""Samples of the API reference: one call as curl and as Python, from the recorded example of an operation."""

import json
import re
import shlex
from collections.abc import Mapping
from pprint import pformat
from typing import Any

# Paths that need no key.
_OPEN_PATHS = ("/files/", "/healthz", "/readyz", "/health")
_KEY = "$CINEMETER_API_KEY"


def samples_of(base: str, path: str, method: str, operation: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the samples of an operation as pairs of language and text."""
    # What a reader fills in stands in capitals: /v1/videos/VIDEO_ID.
    url = base + re.sub(r"{(\w+)}", lambda match: match[1].upper(), path)
    content = operation.get("requestBody", {}).get("content", {})
    body = content.get("application/json", {}).get("example")
    sends_file = "multipart/form-data" in content and "application/json" not in content
    has_key = not path.startswith(_OPEN_PATHS)
    return (
        ("curl", _curl(url, method, body, has_key=has_key, sends_file=sends_file)),
        ("Python", _python(url, method, body, has_key=has_key, sends_file=sends_file)),
    )


def _curl(url: str, method: str, body: Any, *, has_key: bool, sends_file: bool) -> str:
    implied = "get" if body is None and not sends_file else "post"
    option = {implied: "", "head": "--head "}.get(method, f"-X {method.upper()} ")
    parts = [f"curl {option}{url}"]
    if has_key:
        parts.append(f'-H "Authorization: Bearer {_KEY}"')
    if sends_file:
        parts.append("-F file=@picture.png")
    if body is not None:
        parts += [
            '-H "Content-Type: application/json"',
            "-d " + shlex.quote(json.dumps(body, indent=2, ensure_ascii=False)),
        ]
    return " \\\n  ".join(parts) + "\n"


def _python(url: str, method: str, body: Any, *, has_key: bool, sends_file: bool) -> str:
    lines = ["import os", "", "import httpx", ""] if has_key else ["import httpx", ""]
    arguments = [f'"{url}"']
    if has_key:
        lines.append('headers = {"Authorization": f"Bearer {os.environ[\'CINEMETER_API_KEY\']}"}')
        arguments.append("headers=headers")
    if sends_file:
        arguments.append('files={"file": open("picture.png", "rb")}')
    if body is not None:
        lines.append(f"body = {pformat(body, width=60, sort_dicts=False)}")
        arguments.append("json=body")
    lines.append(f"response = httpx.{method}({', '.join(arguments)})")
    lines.append("response.raise_for_status()")
    return "\n".join(lines) + "\n"
