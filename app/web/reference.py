"""The API reference: the OpenAPI document, drawn by a library that we serve ourselves, in a page like any other."""

from fastapi import APIRouter, Request, Response

from app.web.render import page
from app.web.visitor import MaybeVisitor

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def show_reference(request: Request, visitor: MaybeVisitor) -> Response:
    """Show every address of the API. Calls can be tried with a key that is typed in and kept by this page alone."""
    return page(request, "reference.html", document=request.app.openapi_url)
