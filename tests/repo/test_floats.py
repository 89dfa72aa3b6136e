"""A float handed to any money function is a TypeError; a money function is whatever has an amount among its names."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy.orm import Session

import app.accounts
import app.admin
import app.jobs
import app.prices
import app.reports
import app.wallet
import pricing
from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.accounts.projects import create_project, set_budget
from app.admin import accounts, money
from app.admin.accounts import KeyOptions
from app.admin.top_ups import needs_second_operator
from app.audit_log.actor import SYSTEM_ACTOR
from app.clock import now
from app.jobs.usd import in_us_cents, in_usd
from app.prices.promotion_budgets import reserve_of_budget, return_to_budget
from app.prices.reservations import PriceUse, reserve, reserve_by
from app.prices.reservations import settle_reservation as settle_reservation
from app.prices.seed import seed_book
from app.reports.translations import decimals
from app.wallet.balance import decimal_text, open_wallet, set_credit_limit, set_low_balance
from app.wallet.budgets import above_cap, budget_exceeded, refund_budgets
from app.wallet.funds import correct, refund, top_up
from app.wallet.hold import capture, hold, place_holds
from app.wallet.lots import draw, pin, unpin
from app.wallet.tables import BudgetScope, DrawCause, TransferKind
from app.wallet.transfer import apply_transfer, change_wallet, write_transfer
from pricing.diff import figure_text
from pricing.exact import exact_text, parse_exact
from pricing.money import Money, only_money, require_integer, round_to_minor, split
from pricing.price import tax_inside
from pricing.rate_key import RateKey
from pricing.receipt import Delivered
from pricing.simulate import simulate
from pricing.toml_edit import toml_literal
from pricing.usage import Customer, Usage
from tests.pricing.inputs import DEFAULT

# Names of parameters that hold money, or the exact numbers that money is made of.
AMOUNTS = frozenset(
    {
        *(
            "amount",
            "amounts",
            "uses",
            "minor",
            "value",
            "number",
            "total",
            "parts",
            "spent",
            "posted_change",
            "held_change",
            "credit_limit",
            "threshold",
        ),
        *("budget_month", "budget_total", "job_cap", "free_seconds", "promotions", "cost_per_gpu_second"),
    }
)
# What takes a whole Price, its text or a number of calls under one of these names.
OTHERS = {
    "app.jobs.priced.price_out(amount)",
    "app.jobs.prediction.progress_lines(total)",
    "app.jobs.rate_limits.count_use(uses)",
}

Call = Callable[[Any], object]


def money_functions() -> Iterator[str]:
    """Every public function of the packages that handle money, once for each amount that it takes."""
    for package in (pricing, app.wallet, app.prices, app.accounts, app.reports, app.admin, app.jobs):
        for name in sorted(each.name for each in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")):
            if not name.endswith("__main__"):
                yield from _functions(importlib.import_module(name))


def _functions(module: ModuleType) -> Iterator[str]:
    for name, member in vars(module).items():
        if inspect.isfunction(member) and member.__module__ == module.__name__ and not name.startswith("_"):
            for parameter in inspect.signature(member).parameters:
                if parameter in AMOUNTS:
                    yield f"{module.__name__}.{name}({parameter})"


def calls(session: Session, account: str) -> dict[str, Call]:
    """How each money function is called with one amount, all else in order."""
    top_up(session, account, 1_000, kind="purchased", reference="first")
    project = create_project(session, account, "Trailer").id
    held = hold(session, account_id=account, job_id="video_held", amount=100)
    hold(session, account_id=account, job_id="video_paid", amount=100)
    paid = capture(session, "video_paid", 100)
    assert paid is not None
    until = now(session) + timedelta(days=1)
    terms: dict[str, Any] = {"book": DEFAULT, "membership": DEFAULT.membership("free"), "month": "2026-05"}
    acts: dict[str, Call] = {
        "pricing.diff.figure_text(amount)": figure_text,
        "pricing.exact.parse_exact(value)": parse_exact,
        "pricing.exact.exact_text(value)": exact_text,
        "pricing.money.only_money(amount)": only_money,
        "pricing.money.round_to_minor(amount)": lambda it: round_to_minor(it, "CNY"),
        "pricing.money.split(parts)": lambda it: split(Money(1, "CNY"), [it]),
        "pricing.money.split(total)": lambda it: split(it, [1]),
        "pricing.money.require_integer(amount)": require_integer,
        "pricing.price.tax_inside(total)": lambda it: tax_inside(DEFAULT, it),
        "pricing.simulate.simulate(cost_per_gpu_second)": lambda it: simulate(DEFAULT, [], cost_per_gpu_second=it),
        "pricing.toml_edit.toml_literal(value)": toml_literal,
        "app.jobs.usd.in_usd(minor)": lambda it: in_usd(it, "CNY", "0.14"),
        "app.jobs.usd.in_us_cents(minor)": lambda it: in_us_cents(it, "CNY", "0.14", up=True),
        "app.wallet.balance.decimal_text(minor)": lambda it: decimal_text(it, "CNY"),
        "app.wallet.balance.open_wallet(credit_limit)": lambda it: open_wallet(session, account, credit_limit=it),
        "app.wallet.balance.set_credit_limit(credit_limit)": lambda it: set_credit_limit(session, account, it),
        "app.wallet.balance.set_low_balance(threshold)": lambda it: set_low_balance(session, account, it),
        "app.wallet.budgets.above_cap(amount)": lambda it: above_cap(it, 1, "CNY"),
        "app.wallet.budgets.budget_exceeded(amount)": lambda it: budget_exceeded(
            session, BudgetScope.KEY, "key_x", "", amount=it, limit=1, currency="CNY"
        ),
        "app.wallet.budgets.refund_budgets(amount)": lambda it: refund_budgets(session, held, it),
        "app.wallet.funds.top_up(amount)": lambda it: top_up(
            session, account, it, kind="granted", reference="x", expires_at=until
        ),
        "app.wallet.funds.refund(amount)": lambda it: refund(session, "video_paid", it, reference="x", reason="x"),
        "app.wallet.funds.correct(amount)": lambda it: correct(session, account, it, reference="x", reason="x"),
        "app.wallet.hold.hold(amount)": lambda it: hold(session, account_id=account, job_id="video_x", amount=it),
        "app.wallet.hold.place_holds(amounts)": lambda it: place_holds(
            session, {"video_y": it}, account_id=account, month="2026-05", currency="CNY"
        ),
        "app.wallet.hold.capture(amount)": lambda it: capture(session, "video_held", it),
        "app.wallet.lots.pin(amounts)": lambda it: pin(session, account, {held.id: it}),
        "app.wallet.lots.unpin(spent)": lambda it: unpin(session, held, it, None, ours=True),
        "app.wallet.lots.draw(amount)": lambda it: draw(session, account, it, paid.id, DrawCause.DEBT),
        "app.wallet.transfer.write_transfer(amount)": lambda it: write_transfer(
            session, account, TransferKind.GRANT, it, reference="x"
        ),
        "app.wallet.transfer.apply_transfer(held_change)": lambda it: apply_transfer(session, paid, held_change=it),
        "app.wallet.transfer.change_wallet(posted_change)": lambda it: change_wallet(
            session, account, posted_change=it
        ),
        "app.wallet.transfer.change_wallet(held_change)": lambda it: change_wallet(session, account, held_change=it),
        "app.prices.promotion_budgets.reserve_of_budget(amount)": lambda it: reserve_of_budget(
            session, "launch-2026", it, 100
        ),
        "app.prices.promotion_budgets.return_to_budget(amount)": lambda it: return_to_budget(
            session, "launch-2026", it
        ),
        "app.prices.reservations.reserve(uses)": lambda it: reserve(
            session, account, {"quote_x": PriceUse(promotions={"launch-2026": it})}
        ),
        "app.prices.reservations.reserve_by(uses)": lambda it: reserve_by(
            session, account, {"quote_x": PriceUse(it)}, **terms
        ),
        "app.prices.reservations.settle_reservation(free_seconds)": lambda it: settle_reservation(
            session, "quote_x", free_seconds=it, promotions={}
        ),
        "app.prices.reservations.settle_reservation(promotions)": lambda it: settle_reservation(
            session, "quote_x", free_seconds=parse_exact(0), promotions={"launch-2026": it}
        ),
        "app.accounts.keys.issue_key(budget_total)": lambda it: issue_key(
            session, account, scopes=["videos"], budget_total=it
        ),
        "app.accounts.keys.issue_key(job_cap)": lambda it: issue_key(session, account, scopes=["videos"], job_cap=it),
        "app.accounts.projects.create_project(budget_month)": lambda it: create_project(
            session, account, "Another", budget_month=it
        ),
        "app.accounts.projects.set_budget(budget_month)": lambda it: set_budget(session, account, project, it),
        "app.admin.accounts.create_account_project(budget_month)": lambda it: accounts.create_account_project(
            session, SYSTEM_ACTOR, account, "Another", it
        ),
        "app.admin.accounts.set_project_budget(budget_month)": lambda it: accounts.set_project_budget(
            session, SYSTEM_ACTOR, account, project, it
        ),
        "app.admin.money.correct_balance(amount)": lambda it: money.correct_balance(
            session, SYSTEM_ACTOR, account, it, reference="x", reason="x"
        ),
        "app.admin.money.set_account_credit_limit(credit_limit)": lambda it: money.set_account_credit_limit(
            session, SYSTEM_ACTOR, account, it
        ),
        "app.admin.money.set_low_balance_alert(threshold)": lambda it: money.set_low_balance_alert(
            session, SYSTEM_ACTOR, account, it
        ),
        "app.admin.money.require_positive(amount)": money.require_positive,
        "app.admin.top_ups.needs_second_operator(amount)": lambda it: needs_second_operator(
            session, SYSTEM_ACTOR, it, "CNY"
        ),
        "app.reports.translations.decimals(number)": decimals,
    }
    return acts


# These take no amount by such a name but make it of what they are given.
MADE: dict[str, Call] = {
    "Money": lambda it: Money(it, "CNY"),
    "Usage.seconds": lambda it: Usage(RateKey("demo", "720P"), it),
    "Usage.input_seconds": lambda it: Usage(RateKey("demo", "720P", "edit"), parse_exact(1), it),
    "Customer.free_seconds": lambda it: Customer("free", free_seconds=it),
    "Customer.promotions_left": lambda it: Customer("free", promotions_left={"p": it}),
    "Delivered.seconds": lambda it: Delivered("completed", it),
}


def test_a_float_is_a_type_error_in_every_money_function(session: Session) -> None:
    seed_book(session)
    account = create_account(session, "Wu").id
    open_wallet(session, account)
    acts = calls(session, account)
    # A refund asks first whose job it is, and a key what it is to do: both are asked through their own verbs above.
    covered = {*acts, *OTHERS, "app.admin.money.refund_job(amount)"}
    assert set(money_functions()) == covered
    for name, call in {**acts, **MADE}.items():
        for value in (1.0, 0.5, float("nan")):
            assert refuses(session, call, value), f"{name} takes {value!r}"


def refuses(session: Session, call: Call, value: float) -> bool:
    with session.begin_nested() as tried:
        try:
            call(value)
        except TypeError:
            return True
        finally:
            tried.rollback()
    return False


def test_a_key_request_with_a_float_is_refused(session: Session) -> None:
    account = create_account(session, "Wu").id
    with pytest.raises(TypeError):
        accounts.create_key(session, SYSTEM_ACTOR, account, KeyOptions(scopes=("videos",), budget_total=1.5))  # type: ignore[arg-type]
