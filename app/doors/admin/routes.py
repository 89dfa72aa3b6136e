"""Every route of the operators' door."""

from fastapi import APIRouter

from app.doors.admin import accounts, contracts, money, operations, people, prices

router = APIRouter()
for each in (prices, contracts, accounts, people, money, operations):
    router.include_router(each.router)
