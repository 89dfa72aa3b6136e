"""List an application's routes: for the allowed methods in a 405 error, and for the access tests."""

from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route


def iter_routes(app: Starlette) -> Iterator[Route]:
    """Yield each route of an application, including those of included routers."""
    pending: list[BaseRoute] = list(app.routes)
    while pending:
        route = pending.pop(0)
        if isinstance(route, Route):
            yield route
        else:
            # FastAPI represents an included router as one route that contains the router.
            pending[:0] = getattr(getattr(route, "original_router", None), "routes", [])


def allowed_methods(app: Starlette, path: str) -> list[str]:
    """Return the methods that a path allows. Starlette's own answer names those of a single route only."""
    matches = [route.methods or () for route in iter_routes(app) if route.path_regex.match(path)]
    return sorted({method for methods in matches for method in methods})
