"""How many workers a pool could use: what runs, and what is ready as far as it may be claimed."""

import re

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from app.dispatch.claim import claim
from tests.factories import make_account, make_queued_job, make_spec
from tests.repo.sources import ROOT

PAGE = ROOT / "deploy" / "helm" / "cinemeter" / "README.md"


def wanted(session: Session, pool: str, worst_class: int = 1) -> int:
    session.flush()
    return session.execute(
        text("SELECT workers_wanted(:pool, :class)"), {"pool": pool, "class": worst_class}
    ).scalar_one()


def test_an_empty_pool_wants_none(session: Session) -> None:
    assert wanted(session, "demo") == 0
    assert wanted(session, "unknown") == 0


def test_ready_units_count_up_to_each_accounts_concurrency(session: Session) -> None:
    alice, bob = make_account(session).id, make_account(session, "Bob").id
    for _ in range(5):
        make_queued_job(session, alice, concurrency=2)
    make_queued_job(session, bob, concurrency=4)
    assert wanted(session, "demo") == 3


def test_running_takes_count_whole_and_use_up_the_concurrency(session: Session) -> None:
    alice = make_account(session).id
    for _ in range(5):
        make_queued_job(session, alice, concurrency=2)
    for worker in ("one", "two"):
        assert claim(session, worker, ["demo"]) is not None
        assert wanted(session, "demo") == 2


def test_flex_counts_only_where_it_is_asked_for(session: Session) -> None:
    make_queued_job(session, make_account(session).id, spec=make_spec(tier="flex"))
    assert wanted(session, "demo") == 0
    assert wanted(session, "demo", 2) == 1


def test_finishes_count_beyond_the_concurrency(session: Session) -> None:
    alice = make_account(session).id
    for _ in range(3):
        make_queued_job(session, alice, concurrency=1)
    session.flush()
    session.execute(text("UPDATE units SET kind = 'finish', pool = 'finish', model = 'finish'"))
    assert wanted(session, "finish") == 3


def test_the_role_of_the_page_can_ask_for_nothing_else(session: Session) -> None:
    """The statements stand in the chart's README.md; the transaction takes the role back."""
    (block,) = re.findall(r"```sql\n(.*?)\s*```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    make_queued_job(session, make_account(session).id)
    session.flush()
    session.execute(text(block))
    session.execute(text("SET LOCAL ROLE cinemeter_autoscaler"))
    assert session.execute(text("SELECT workers_wanted('demo', 1)")).scalar_one() == 1
    for statement in ("SELECT count(*) FROM jobs", "SELECT count(*) FROM lanes", "DELETE FROM takes"):
        with pytest.raises(ProgrammingError, match="permission denied"), session.begin_nested():
            session.execute(text(statement))
    session.execute(text("RESET ROLE"))
