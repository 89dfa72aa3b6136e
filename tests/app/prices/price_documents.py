"""Books, contracts and people to act on them."""

from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.prices.books import approve_book, draft_book
from app.prices.tables import StoredBook
from app.roles import Role
from pricing.books import read_shipped

AUTHOR = Actor("ada", "key_ada", frozenset({Role.PRICING_AUTHOR}))
APPROVER = Actor("bob", "key_bob", frozenset({Role.PRICING_APPROVER}))
OPERATOR = Actor("eve", "key_eve", frozenset({Role.OPERATOR}))
# One person who is both author and approver, as in a company of one.
ALONE = Actor("ada", "key_ada", frozenset({Role.PRICING_AUTHOR, Role.PRICING_APPROVER}))

CONTRACT = """
format = 1
name = "{name}"
title = {{ en = "Agreed", zh = "约定" }}
currency = "CNY"

[[rates]]
id = "agreed-720p"
resolution = "720P"
per_second = "{per_second}"
"""

# A promotion that runs out: 3.00 of discount for one account, 5.00 for all together. It is for a model that no worked
# example of the shipped book uses.
CAPPED = """
[[promotions]]
id = "welcome"
title = { en = "Welcome", zh = "欢迎" }
factor = "0.5"
priority = 20
models = ["wan2.1-*"]
cap_per_account = "3.00"
budget = "5.00"
"""


def book_text(name: str, *, extra: str = "", tax: str = "0.06") -> str:
    """The shipped book under another name, with another tax rate or further tables."""
    text = read_shipped().replace('name = "2026-04-27"', f'name = "{name}"', 1)
    return text.replace('tax_rate = "0.06"', f'tax_rate = "{tax}"', 1) + extra


def contract_text(per_second: str = "0.50", name: str = "wu-2026") -> str:
    return CONTRACT.format(name=name, per_second=per_second)


def approved(session: Session, name: str) -> StoredBook:
    """A book that was drafted by one and approved by another."""
    stored = draft_book(session, AUTHOR, book_text(name))
    return approve_book(session, APPROVER, stored.id, content_hash=stored.content_hash)
