"""The native interface under /v1: a superset of the OpenAI Videos API, and everything around it."""

from app.api import (
    agent_guide,
    assets,
    billing,
    billing_reports,
    health,
    keys,
    models,
    projects,
    server_info,
    verify,
    webhooks,
)
from app.api.access import require_key
from app.api.interface import ApiInterface
from app.api.problems import problem_document
from app.api.videos import content, derived, events, groups, share_links, sync
from app.api.videos import routes as videos


def make_interface() -> ApiInterface:
    """Return the native interface."""
    modules = (
        *(groups, videos, share_links, sync, derived, events, models, billing, billing_reports),
        *(projects, keys, assets, webhooks, verify, content, health, agent_guide, server_info),
    )
    return ApiInterface(
        prefix="/v1/",
        routers=tuple(module.router for module in modules),
        error_response=problem_document,
        authorize=require_key,
    )
