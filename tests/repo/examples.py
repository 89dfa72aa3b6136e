"""Record the examples of the OpenAPI document: for each operation, one request and response of the tests.

`make examples` runs the tests of the API with this plugin and writes app/api/examples.json. Of several exchanges
the one that says most within MOST_CHARACTERS is kept. Secrets are cut, hosts and ports of the test are replaced.
"""

import json
import re
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.api.openapi_examples import FILE, read_examples

MOST_CHARACTERS = 2500
LIST_ITEMS = 2
_REPLACED = (
    (re.compile(r"https?://(testserver|127\.0\.0\.1:\d+|localhost:\d+)"), "https://video.example.com"),
    (re.compile(r"(whsec_|cm_(?:live|test)_)[A-Za-z0-9+/=_-]+"), r"\1…"),
    (re.compile(r"(data:[a-z/]+;base64,[A-Za-z0-9+/]{24})[A-Za-z0-9+/=]+"), r"\1…"),
    (re.compile(r"(/files/|/uploads/|/shared/)[A-Za-z0-9_.~=-]{24,}"), r"\1…"),
)


class Recorder:
    """Records the exchanges of every client of the tests, by operation."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    def hear(self, operations: list[tuple[str, re.Pattern[str], str]], answer: httpx.Response) -> None:
        """Keep an exchange whose answer is a success in JSON."""
        request = answer.request
        if not answer.is_success or not answer.headers.get("content-type", "").startswith("application/json"):
            return
        for method, pattern, operation in operations:
            if method == request.method and pattern.fullmatch(request.url.path):
                self._keep(operation, _example(request, answer))
                return

    def _keep(self, operation: str, example: dict[str, Any]) -> None:
        size = len(json.dumps(example))
        before = self.kept.get(operation)
        if before is None or len(json.dumps(before)) < size <= MOST_CHARACTERS:
            self.kept[operation] = example

    def write(self) -> None:
        """Write the new examples; operations without a recorded exchange keep their old ones."""
        merged = dict(sorted({**read_examples(), **self.kept}.items()))
        FILE.write_text(json.dumps(merged, indent=1, ensure_ascii=False) + "\n")


def operations_of(document: dict[str, Any]) -> list[tuple[str, re.Pattern[str], str]]:
    """Return (method, pattern of its paths, operation id) of a document; fixed paths come before those with ids."""
    found = [
        (method.upper(), re.compile(re.sub(r"{\w+}", "[^/]+", path)), operation["operationId"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return sorted(found, key=lambda each: each[1].pattern.count("[^/]+"))


def _example(request: httpx.Request, answer: httpx.Response) -> dict[str, Any]:
    example: dict[str, Any] = {}
    if request.headers.get("content-type", "").startswith("application/json") and request.content:
        example["request"] = _tidy(json.loads(request.content))
    example["answer"] = _tidy(answer.json())
    return example


def _tidy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tidy(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_tidy(each) for each in value[:LIST_ITEMS]]
    if isinstance(value, str):
        for pattern, replacement in _REPLACED:
            value = pattern.sub(replacement, value)
    return value


_recorder = Recorder()


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop() -> Any:
    """Record while the tests run."""
    ask, known = TestClient.request, {}

    def listen(client: TestClient, *args: Any, **options: Any) -> httpx.Response:
        answer = ask(client, *args, **options)
        api = client.app
        if hasattr(api, "openapi"):
            if id(api) not in known:
                known[id(api)] = operations_of(api.openapi())
            _recorder.hear(known[id(api)], answer)
        return answer

    TestClient.request = listen  # type: ignore[method-assign]
    try:
        return (yield)
    finally:
        TestClient.request = ask  # type: ignore[method-assign]
        _recorder.write()
