"""The command line as a customer: a small client of the HTTP interface, for the loopback address or any other.

Customers' machines reach the service with nothing but the standard library; the guarded door of `app.net` is for
addresses that strangers give us, and refuses the loopback address on purpose.
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
# A server that restarts is away for a moment; requests that may be repeated are.
_TRIES = 5


class Refusal(Exception):
    """The service said no, or could not be reached; the message says which in words."""

    def __init__(self, message: str, *, code: str = "unavailable", status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class _WithoutKey(HTTPRedirectHandler):
    """Follow a redirect to storage, but keep the API key for the service that it belongs to."""

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
        """Return the JSON at `path`. Raises Refusal."""
        return self._json("GET", path, None, {})

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Post `body` as JSON, once however often it has to be sent, and return the answer. Raises Refusal."""
        return self._json("POST", path, body or {}, {"Idempotency-Key": secrets.token_hex(16)})

    def follow(self, video_id: str, on_update: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Ask for a video until it has ended, telling each answer to `told`, and return the last one."""
        while True:
            video = self.get(f"/v1/videos/{quote(video_id)}")
            on_update(video)
            if video["status"] in FINAL:
                return video
            time.sleep(_POLL_SECONDS)

    def download(self, path: str, target: Path) -> int:
        """Write the file at `path` to `target`, whole or not at all, and return its bytes. Raises Refusal."""
        draft = target.with_name(f".{target.name}.part")
        try:
            with self._open("GET", path, None, {}) as answer, draft.open("wb") as file:
                promised = answer.headers.get("Content-Length")
                while chunk := answer.read(_CHUNK_BYTES):
                    file.write(chunk)
                size = file.tell()
            if promised is not None and size != int(promised):
                raise Refusal(f"The download broke off after {size} of {promised} bytes.")
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        return size

    def _json(self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> dict[str, Any]:
        with self._open(method, path, body, headers) as answer:
            body_out = json.loads(answer.read())
        return body_out if isinstance(body_out, dict) else {"data": body_out}

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
                    refusal = _refusal(error)
                if error.code != 503 or not left:
                    raise refusal from None
            except (URLError, BrokenAnswer, TimeoutError, ConnectionError) as error:
                if not left:
                    raise Refusal(f"{self.base_url} cannot be reached: {error}") from None
            time.sleep(_POLL_SECONDS)
        raise AssertionError("the last try returns or raises")


def answers(url: str) -> bool:
    """Say whether `url` answers 200 now."""
    try:
        with _opener(url).open(url, timeout=2.0) as answer:
            return bool(answer.status == 200)
    except (URLError, BrokenAnswer, TimeoutError, ConnectionError):
        return False


def _opener(url: str) -> OpenerDirector:
    # A company's proxy cannot reach this machine's own address.
    here = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    return build_opener(_WithoutKey, *((ProxyHandler({}),) if here else ()))


def _refusal(error: HTTPError) -> Refusal:
    try:
        problem = json.loads(error.read())
        words = f"{problem['detail']}"
        if problem.get("field"):
            words += f" (field: {problem['field']})"
        if problem.get("allowed"):
            allowed = problem["allowed"]
            words += f" Allowed: {', '.join(map(str, allowed)) if isinstance(allowed, list) else allowed}."
        return Refusal(words, code=problem["code"], status=error.code)
    except (ValueError, KeyError, TypeError):
        return Refusal(f"The service answered {error.code} {error.reason}.", status=error.code)
