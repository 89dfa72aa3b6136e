"""Every route of the operators' door."""

from fastapi import APIRouter

from app.api.admin import accounts, contracts, members, money, operations, prices

router = APIRouter()
for each in (prices, contracts, accounts, members, money, operations):
    router.include_router(each.router)
