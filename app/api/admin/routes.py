"""The admin interface: every router under /v1/admin."""

from app.api.access import require_key
from app.api.admin import accounts, contracts, members, moderation, money, operations, prices
from app.api.interface import ApiInterface
from app.api.problems import problem_document


def make_interface() -> ApiInterface:
    """Return the admin interface."""
    modules = (prices, contracts, accounts, members, money, operations, moderation)
    return ApiInterface(
        prefix="/v1/admin/",
        routers=tuple(module.router for module in modules),
        error_response=problem_document,
        authorize=require_key,
    )
