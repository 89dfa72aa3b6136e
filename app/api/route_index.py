"""Every address of an application: what a refusal names as allowed, and what the access walk of the tests visits."""

from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route


def iter_routes(app: Starlette) -> Iterator[Route]:
    """Yield each route of an application, those of included routers too."""
    pending: list[BaseRoute] = list(app.routes)
    while pending:
        route = pending.pop(0)
        if isinstance(route, Route):
            yield route
        else:
            # FastAPI keeps an included router as one route that holds the router itself.
            pending[:0] = getattr(getattr(route, "original_router", None), "routes", [])


def allowed_methods(app: Starlette, path: str) -> list[str]:
    """Return the methods that the address of a path knows; Starlette's own answer names those of one route only."""
    matches = [route.methods or () for route in iter_routes(app) if route.path_regex.match(path)]
    return sorted({method for methods in matches for method in methods})
