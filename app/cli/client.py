"""A small HTTP client with which the command line uses the API as a customer, on loopback or any other host.

It uses the standard library only. The guarded HTTP client in `app.net` is for URLs from untrusted users, and refuses
loopback addresses on purpose.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException as BrokenAnswer  # noqa: TID251 - see above
from http.client import HTTPResponse  # noqa: TID251 - see above
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener  # noqa: TID251

FINAL = ("completed", "failed", "cancelled", "expired")
_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.5
_CHUNK_BYTES = 1 << 20
# A restarting server is unavailable for a moment, so requests are retried; an Idempotency-Key makes that safe.
_TRIES = 5


class ApiError(Exception):
    """The service answered with an error, or could not be reached. The message says which."""

    def __init__(self, message: str, *, code: str = "unavailable", status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class _WithoutKey(HTTPRedirectHandler):
    """Follow a redirect to storage without sending the API key to another host."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


class Client:
    """One customer at one service."""

    def __init__(self, base_url: str, key: str) -> None:
        self.base_url = base_url.rstrip("/")
        self.key = key
        self._opener = _opener(self.base_url)

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON at `path`. Raises ApiError."""
        return self._json("GET", path, None, {})

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Post `body` as JSON with an Idempotency-Key, so that retries are safe. Raises ApiError."""
        return self._json("POST", path, body or {}, {"Idempotency-Key": secrets.token_hex(16)})

    def follow(self, video_id: str, on_update: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Poll a video until it has ended, calling `on_update` with each answer, and return the last one."""
        while True:
            video = self.get(f"/v1/videos/{quote(video_id)}")
            on_update(video)
            if video["status"] in FINAL:
                return video
            time.sleep(_POLL_SECONDS)

    def download(self, path: str, target: Path) -> int:
        """Download the file at `path` to `target`, completely or not at all, and return its bytes. Raises ApiError."""
        draft = target.with_name(f".{target.name}.part")
        try:
            with self._open("GET", path, None, {}) as answer, draft.open("wb") as file:
                expected = answer.headers.get("Content-Length")
                while chunk := answer.read(_CHUNK_BYTES):
                    file.write(chunk)
                size = file.tell()
            if expected is not None and size != int(expected):
                raise ApiError(f"The download stopped after {size} of {expected} bytes.")
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        return size

    def _json(self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> dict[str, Any]:
        with self._open(method, path, body, headers) as answer:
            document = json.loads(answer.read())
        return document if isinstance(document, dict) else {"data": document}

    @contextmanager
    def _open(
        self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]
    ) -> Iterator[HTTPResponse]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.base_url + path, data=data, method=method)
        for name, value in {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            **headers,
        }.items():
            request.add_header(name, value)
        with self._send(request) as answer:
            yield answer

    def _send(self, request: Request) -> HTTPResponse:
        for left in reversed(range(_TRIES)):
            try:
                answer: HTTPResponse = self._opener.open(request, timeout=_TIMEOUT_SECONDS)
                return answer
            except HTTPError as error:
                with error:
                    api_error = _api_error(error)
                if error.code != 503 or not left:
                    raise api_error from None
            except (URLError, BrokenAnswer, TimeoutError, ConnectionError) as error:
                if not left:
                    raise ApiError(_unreachable(self.base_url, error)) from None
            time.sleep(_POLL_SECONDS)
        raise AssertionError("the last attempt returns or raises")


def _unreachable(base_url: str, error: Exception) -> str:
    """Return why a service does not answer, and what to do about it, as a sentence."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ConnectionRefusedError):
        return f"Nothing answers at {base_url}. Start the service with `cinemeter up`."
    return f"{base_url} cannot be reached: {reason}"


def answers(url: str) -> bool:
    """Return whether `url` answers 200 now."""
    try:
        with _opener(url).open(url, timeout=2.0) as answer:
            return bool(answer.status == 200)
    except (URLError, BrokenAnswer, TimeoutError, ConnectionError):
        return False


def _opener(url: str) -> OpenerDirector:
    # A company's proxy cannot reach this machine's loopback address.
    here = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    return build_opener(_WithoutKey, *((ProxyHandler({}),) if here else ()))


def _api_error(error: HTTPError) -> ApiError:
    try:
        problem = json.loads(error.read())
        message = f"{problem['detail']}"
        if problem.get("field"):
            message += f" (field: {problem['field']})"
        allowed = problem.get("allowed")
        listed = ", ".join(map(str, allowed)) if isinstance(allowed, list) else str(allowed or "")
        if listed and listed not in message:
            message += f" Allowed: {listed}."
        return ApiError(message, code=problem["code"], status=error.code)
    except (ValueError, KeyError, TypeError):
        return ApiError(f"The service answered {error.code} {error.reason}.", status=error.code)
