"""The OpenAPI document: it is complete, and its examples match its schemas."""

import re
from typing import Any

import jsonschema_rs
import pytest

from app.api.application import create_app
from app.api.openapi_examples import read_examples

DOCUMENT = create_app().openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
each_operation = pytest.mark.parametrize("name", OPERATIONS)


def bodies_of(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """The JSON bodies of an operation: its request and its successful responses."""
    contents = [operation.get("requestBody", {}).get("content", {})]
    contents += [answer.get("content", {}) for status, answer in operation["responses"].items() if status[0] == "2"]
    return [content["application/json"] for content in contents if "application/json" in content]


@each_operation
def test_every_operation_says_what_it_does_and_gives_examples(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.get("description")
    assert all("example" in body or "examples" in _schema(body) for body in bodies_of(operation))


@each_operation
def test_every_example_keeps_to_its_schema(name: str) -> None:
    for body in bodies_of(OPERATIONS[name]):
        validator = jsonschema_rs.Draft202012Validator({**body["schema"], "components": DOCUMENT["components"]})
        assert "example" not in body or validator.is_valid(body["example"]), [
            error.message for error in validator.iter_errors(body["example"])
        ]


def test_operation_ids_are_unique_plain_names() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert sorted(set(ids)) == sorted(ids)
    assert [each for each in ids if not is_plain_name(each)] == []


def is_plain_name(operation_id: str) -> bool:
    """Return whether an id is a verb and a noun in snake_case, without the path and method that FastAPI adds."""
    words = operation_id.split("_")
    is_snake_case = re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+){1,4}", operation_id) is not None
    return is_snake_case and "v1" not in words and words[-1] not in ("get", "post", "put", "patch", "delete")


def test_an_id_with_its_path_in_it_is_not_a_plain_name() -> None:
    assert not is_plain_name("approve_one_contract_v1_admin_contracts__contract_id__approve_post")
    assert not is_plain_name("live_healthz_get")
    assert is_plain_name("create_video")


def test_no_example_outlives_its_operation() -> None:
    assert read_examples().keys() <= {operation["operationId"] for operation in OPERATIONS.values()}


def _schema(body: dict[str, Any]) -> dict[str, Any]:
    name = body["schema"].get("$ref", "").rpartition("/")[2]
    schema: dict[str, Any] = DOCUMENT["components"]["schemas"].get(name, body["schema"])
    return schema
