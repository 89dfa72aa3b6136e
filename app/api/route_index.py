"""List an application's routes: for the allowed methods in a 405 error, for limits of bodies, and for access tests."""

from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from app.request_limits import DEFAULT_LIMITS, RequestLimits, declared_limits


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


def build_routes(app: Starlette) -> None:
    """Build what FastAPI builds of included routes at the first request, on the event loop: 0.5 to 1 s."""
    scope = {"type": "http", "method": "GET", "path": "/no/such/path", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(dict(scope))


def allowed_methods(app: Starlette, path: str) -> list[str]:
    """Return the methods that a path allows. Starlette's own answer names those of a single route only."""
    matches = [route.methods or () for route in iter_routes(app) if route.path_regex.match(path)]
    return sorted({method for methods in matches for method in methods})


def limits_of_route(request: Request) -> RequestLimits:
    """Return the limits that a request's route declares, before the request is routed; else the default ones."""
    state = request.app.state
    if not hasattr(state, "limited_routes"):
        declared = [(route, declared_limits(route.endpoint)) for route in iter_routes(request.app)]
        state.limited_routes = [(route, limits) for route, limits in declared if limits is not DEFAULT_LIMITS]
    for route, limits in state.limited_routes:
        if request.method in (route.methods or ()) and route.path_regex.match(request.url.path):
            return limits  # type: ignore[no-any-return]
    return DEFAULT_LIMITS


def pattern_of(request: Request) -> str:
    """Return the pattern of a request's route, for one that is refused before it is routed; `-` where there is none."""
    routes = (route for route in iter_routes(request.app) if route.path_regex.match(request.url.path))
    return next((route.path for route in routes if request.method in (route.methods or ())), "-")
