"""API interfaces: each application has its own list, and each interface its own errors and senders."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from app.api.application import INTERFACES, create_app
from app.api.interface import ApiInterface, add_interfaces, interface_of
from app.api.problems import install
from app.errors import AppError


def make_interface(prefix: str, name: str) -> ApiInterface:
    """An interface with one route that fails, and with errors that carry its name."""
    router = APIRouter(prefix=prefix.rstrip("/"))

    @router.get("/things")
    def get_things() -> None:
        raise AppError("conflict", "Not now.")

    @router.post("/files")
    def post_files(request: Request) -> dict[str, Any]:
        interface = interface_of(request)
        return {"sender": interface is not None and interface.authorize(request)}

    def error_response(error: AppError, request: Request) -> JSONResponse:
        return JSONResponse({"by": name, "code": error.code}, status_code=error.status)

    return ApiInterface(
        prefix=prefix, routers=(router,), error_response=error_response, authorize=lambda request: f"sender of {name}"
    )


def client(*interfaces: ApiInterface) -> TestClient:
    """A client of an application with these interfaces and nothing else."""
    api = FastAPI()
    install(api)
    add_interfaces(api, interfaces)
    return TestClient(api)


def test_each_interface_answers_errors_in_its_own_format() -> None:
    api = client(make_interface("/a/", "outer"), make_interface("/a/b/", "inner"))
    assert api.get("/a/things").json() == {"by": "outer", "code": "conflict"}
    assert api.get("/a/b/things").json() == {"by": "inner", "code": "conflict"}, "the longer prefix decides"
    assert api.get("/a/b/nothing").json() == {"by": "inner", "code": "not_found"}
    assert api.get("/nothing").json()["detail"] == "Not found: /nothing."


def test_each_interface_decides_who_may_send_a_body() -> None:
    api = client(make_interface("/a/", "outer"), make_interface("/b/", "other"))
    assert api.post("/a/files").json() == {"sender": "sender of outer"}
    assert api.post("/b/files").json() == {"sender": "sender of other"}


def test_two_applications_share_no_interface() -> None:
    client(make_interface("/v1/", "elsewhere"))
    first, second = create_app(), create_app()
    assert len({each.prefix for each in first.state.interfaces}) == len(INTERFACES)
    assert TestClient(second).get("/v1/nothing").json()["code"] == "not_found"
    assert not {id(each) for each in first.state.interfaces} & {id(each) for each in second.state.interfaces}
