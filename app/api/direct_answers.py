"""Routes whose requests are so frequent that the middleware answers them by itself.

FastAPI finds the route of a request and solves its parameters and dependencies at each request; for a poll that takes
longer than the rest of the answer. Such a route is declared as any other, so documents and access tests show it, and
its handler names the function that answers in its place.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.route_index import iter_routes

Handler = TypeVar("Handler", bound=Callable[..., Any])
DirectAnswer = Callable[[Request], Awaitable[Response]]

_ATTRIBUTE = "direct_answer"


def answered_directly(answer: DirectAnswer) -> Callable[[Handler], Handler]:
    """Return the decorator of a handler whose GET requests `answer` answers; both have to answer the same.

    `answer` may raise AppError; it finds the parameters of the path in `request.path_params`.
    """

    def declare(handler: Handler) -> Handler:
        setattr(handler, _ATTRIBUTE, answer)
        return handler

    return declare


def direct_answer_of(request: Request) -> DirectAnswer | None:
    """Return the function that answers a request in place of its route, or None for most requests.

    The request is then routed: its scope has the route and the parameters of its path.
    """
    if request.method != "GET":
        return None
    state, path = request.app.state, request.scope["path"]
    if not hasattr(state, "direct_routes"):
        state.direct_routes = _direct_routes(list(iter_routes(request.app)))
    for route, others in state.direct_routes:
        match = route.path_regex.match(path)
        if match is not None and path not in others:
            request.scope["route"] = route
            request.scope["path_params"] = {
                name: route.param_convertors[name].convert(value) for name, value in match.groupdict().items()
            }
            answer: DirectAnswer = getattr(route.endpoint, _ATTRIBUTE)
            return answer
    return None


def _direct_routes(routes: list[Route]) -> list[tuple[Route, frozenset[str]]]:
    """Return the routes that are answered directly, each with the paths of other routes that its pattern matches."""
    return [
        (route, frozenset(other.path for other in routes if other is not route and route.path_regex.match(other.path)))
        for route in routes
        if hasattr(route.endpoint, _ATTRIBUTE) and "GET" in (route.methods or ())
    ]
