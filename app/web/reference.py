"""The API reference: the operations of the OpenAPI document as pages, each with fields, samples and an example."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.routing import APIRoute, iter_route_contexts
from markupsafe import Markup
from starlette.routing import BaseRoute

from app.web.markdown import render_inline, render_paragraphs
from app.web.reference_samples import samples_of
from app.web.reference_titles import ADMIN_TAG, GROUPS, group_of, operation_title

METHODS = ("get", "post", "put", "patch", "delete", "head")
# How deep the fields of a body are listed: a storyboard's shots, but not what a shot holds.
_DEPTH_MAX = 2


@dataclass(frozen=True)
class FieldLine:
    """One parameter, or one field of a body."""

    name: str
    type: str
    is_required: bool
    description: Markup
    place: str = ""  # path, query or header, for parameters


@dataclass(frozen=True)
class Operation:
    """One operation of the API."""

    id: str
    method: str
    path: str
    title: str
    description: Markup
    parameters: tuple[FieldLine, ...]
    body: tuple[FieldLine, ...]
    body_name: str
    answer: tuple[FieldLine, ...]
    example: str
    samples: tuple[tuple[str, str], ...]
    refusals: tuple[tuple[str, str], ...]

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return self.id.replace("_", "-")


@dataclass(frozen=True)
class OperationLine:
    """One operation in the list of a group."""

    id: str
    method: str
    path: str
    title: str

    @property
    def anchor(self) -> str:
        """Its place on the page of its group."""
        return self.id.replace("_", "-")


@dataclass(frozen=True)
class OperationGroup:
    """The operations of one tag, as lines."""

    tag: str
    name: str
    title: str
    is_admin: bool
    lines: tuple[OperationLine, ...]


def operation_groups(routes: Sequence[BaseRoute]) -> tuple[OperationGroup, ...]:
    """Return the groups of an application's routes, in the order of the reference."""
    by_tag: dict[str, list[OperationLine]] = {tag: [] for tag in GROUPS}
    for route in iter_route_contexts(routes):
        if isinstance(route.original_route, APIRoute) and route.include_in_schema:
            tag, name = str((route.tags or ["other"])[0]), str(route.operation_id or route.name)
            lines = [
                OperationLine(name, method, str(route.path), operation_title(name))
                for method in sorted(route.methods or ())
            ]
            by_tag.setdefault(tag, []).extend(lines)
    return tuple(
        OperationGroup(tag, *group_of(tag), tag.startswith(ADMIN_TAG), tuple(lines))
        for tag, lines in by_tag.items()
        if lines
    )


def operations_of(document: Mapping[str, Any], base: str) -> tuple[Operation, ...]:
    """Return the operations of an OpenAPI document; `base` is the base URL of the samples."""
    return tuple(
        _operation(document, base, path, method, methods[method])
        for path, methods in document["paths"].items()
        for method in METHODS
        if method in methods
    )


def without_admin(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document without the operations of operators, and without the schemas that only they use."""
    paths = {
        path: methods
        for path, methods in document["paths"].items()
        if not any(str(tag).startswith(ADMIN_TAG) for each in methods.values() for tag in each.get("tags", ()))
    }
    schemas = document["components"]["schemas"]
    names = _names_of_schemas(paths)
    while added := {name for each in names for name in _names_of_schemas(schemas.get(each, {}))} - names:
        names |= added
    used = {name: schema for name, schema in schemas.items() if name in names}
    return {**document, "paths": paths, "components": {**document["components"], "schemas": used}}


def _names_of_schemas(part: object) -> set[str]:
    """Return the names of the schemas that a part of a document refers to."""
    if isinstance(part, Mapping):
        own = {str(part["$ref"]).rpartition("/")[2]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(_names_of_schemas(each) for each in part.values()))
    if isinstance(part, list):
        return set().union(*(_names_of_schemas(each) for each in part))
    return set()


def _operation(
    document: Mapping[str, Any], base: str, path: str, method: str, operation: Mapping[str, Any]
) -> Operation:
    success: Mapping[str, Any] = next(
        (each for status, each in operation["responses"].items() if status.startswith("2")), {}
    )
    answer = success.get("content", {}).get("application/json", {})
    schema = _body_schema(operation)
    return Operation(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        title=operation_title(operation["operationId"]),
        description=render_paragraphs(operation.get("description", "")),
        parameters=tuple(_parameter(each) for each in operation.get("parameters", ())),
        body=tuple(_fields(document, schema)),
        body_name=str(schema.get("$ref", "")).rpartition("/")[2],
        answer=tuple(_fields(document, answer.get("schema", {}))),
        example=json.dumps(answer["example"], indent=2, ensure_ascii=False) if "example" in answer else "",
        samples=samples_of(base, path, method, operation),
        refusals=tuple(
            (status, str(each.get("description", "")))
            for status, each in operation["responses"].items()
            if status.startswith(("4", "5"))
        ),
    )


def _body_schema(operation: Mapping[str, Any]) -> Mapping[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    kind: Mapping[str, Any] = content.get("application/json") or next(iter(content.values()), {})
    return dict(kind.get("schema", {}))


def _parameter(parameter: Mapping[str, Any]) -> FieldLine:
    schema = parameter.get("schema", {})
    text = parameter.get("description") or schema.get("description", "")
    required = bool(parameter.get("required"))
    return FieldLine(parameter["name"], _type(schema), required, render_inline(text), parameter["in"])


def _fields(
    document: Mapping[str, Any], schema: Mapping[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[FieldLine]:
    """Yield the fields of an object, and those of the objects inside it with dotted names."""
    schema = _resolved(document, schema)
    required = schema.get("required", ())
    for name, each in schema.get("properties", {}).items():
        text = each.get("description", "")
        yield FieldLine(f"{prefix}{name}", _type(each), name in required, render_inline(text))
        if depth + 1 < _DEPTH_MAX:
            inner, is_list = _inner(document, each)
            yield from _fields(document, inner, f"{prefix}{name}{'[]' if is_list else ''}.", depth + 1)


def _inner(document: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Return the object that a field holds, or that its list holds, and whether it is a list."""
    for each in (schema, *schema.get("anyOf", ())):
        if "$ref" in each:
            return _resolved(document, each), False
        if each.get("type") == "array" and "$ref" in each.get("items", {}):
            return _resolved(document, each["items"]), True
    return {}, False


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    return document["components"]["schemas"].get(name, {}) if name else schema


def _type(schema: Mapping[str, Any]) -> str:
    """Return the type of a value as a reader writes it: `integer 1–600`, `list of ShotIn`, `"cut" or "crossfade"`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " or ".join(json.dumps(each) for each in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema:
        kinds = [_type(each) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    least, most = schema.get("minimum"), schema.get("maximum")
    bounds = f" {least}–{most}" if least is not None and most is not None else ""
    return f"{schema.get('type', 'any')}{bounds}"
