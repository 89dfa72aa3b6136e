"""What an API interface is: one set of routes with its own way of answering errors, under one path prefix."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.routing import BaseRoute

from app.errors import AppError


@asynccontextmanager
async def no_lifespan() -> AsyncIterator[None]:
    """Do nothing while the API runs."""
    yield


@dataclass(frozen=True)
class ApiInterface:
    """One API interface of the application.

    Errors of every request whose path starts with `prefix` are answered by `error_response`; of two prefixes that
    match, the longer one decides. `authorize` decides whether the sender of a request may send a body, before any of it
    is read, at every route that declares no other: it returns the account's id, and raises AppError. `routes` are plain
    Starlette routes that FastAPI does not document. `lifespan` surrounds the whole time in which the application
    answers requests.
    """

    prefix: str
    routers: tuple[APIRouter, ...]
    error_response: Callable[[AppError, Request], JSONResponse]
    authorize: Callable[[Request], str]
    routes: tuple[BaseRoute, ...] = ()
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = no_lifespan


def add_interfaces(api: FastAPI, interfaces: tuple[ApiInterface, ...]) -> None:
    """Add the routes of these interfaces to the application, and keep the interfaces on its state."""
    api.state.interfaces = interfaces
    for interface in interfaces:
        for router in interface.routers:
            api.include_router(router)
        api.router.routes.extend(interface.routes)


def interface_of(request: Request) -> ApiInterface | None:
    """Return the interface that a request's path belongs to, or None for a path of none (`/healthz`, `/x`)."""
    path = request.url.path
    matches = [each for each in request.app.state.interfaces if path.startswith(each.prefix)]
    return max(matches, key=lambda each: len(each.prefix), default=None)
