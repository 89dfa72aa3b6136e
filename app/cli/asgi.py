"""The whole site in one application: the API's doors and the pages, which do not know of one another."""

from fastapi import FastAPI

from app.api.application import create_app
from app.web.routes import mount


def create_site() -> FastAPI:
    """Return the application that `cinemeter api` serves."""
    site = create_app()
    mount(site)
    return site
