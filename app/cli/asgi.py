"""The complete site in one ASGI application: the API and the pages, which are independent of each other."""

from fastapi import FastAPI

from app.api.application import create_app
from app.web.routes import mount


def create_site() -> FastAPI:
    """Return the application that `cinemeter api` serves."""
    site = create_app()
    mount(site)
    return site
