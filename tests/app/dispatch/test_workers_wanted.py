"""How many workers a pool could use: what runs, and what is ready as far as it may be claimed."""

import re
from decimal import Decimal
from random import Random

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from app.dispatch.claim import claim
from app.dispatch.pool_plans import write_pool_plans
from app.dispatch.queue_snapshot import refresh_queue_snapshot
from app.dispatch.tables import Throughput
from app.dispatch.worker_registry import register_worker
from tests.autoscaling.wanted import Horizons, Running, Waiting, workers_wanted
from tests.factories import make_account, make_queued_job, make_spec
from tests.pool_file import WritePools, write_pools  # noqa: F401
from tests.repo.sources import ROOT

PAGE = ROOT / "deploy" / "helm" / "cinemeter" / "README.md"


def wanted(session: Session, pool: str, worst_class: int = 1, gpu: str | None = None) -> int:
    session.flush()
    inputs = {"pool": pool, "class": worst_class, "gpu": gpu}
    total = session.execute(text("SELECT workers_wanted(:pool, :class, :gpu)"), inputs).scalar_one()
    if gpu is None:
        assert session.execute(text("SELECT workers_wanted(:pool, :class)"), inputs).scalar_one() == total
    return int(total)


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


def measured(session: Session, seconds: int) -> None:
    """Let a unit of two seconds of film, 16 frames, take so long."""
    pace = Decimal(seconds) / 16
    quantiles = {"p50": pace, "p90": 2 * pace, "gpu_p50": pace}
    session.add(Throughput(model="demo", kind="segment", shape="720P", samples=9, **quantiles))
    session.flush()


def test_short_units_want_no_worker_each(session: Session) -> None:
    measured(session, 30)
    alice = make_account(session).id
    for _ in range(11):
        make_queued_job(session, alice)
    refresh_queue_snapshot(session)
    assert wanted(session, "demo") == 3, "three workers make eleven half minutes in two minutes"
    assert claim(session, "one", ["demo"]) is not None
    refresh_queue_snapshot(session)
    assert wanted(session, "demo") == 3, "the one that runs makes three more of the ten that wait"
    session.execute(text("UPDATE units SET class = 0"))
    refresh_queue_snapshot(session)
    assert wanted(session, "demo") == 6, "priority work starts within a minute"


def test_the_function_is_the_rule_that_the_simulation_uses(session: Session) -> None:
    random = Random(5)
    measured(session, 40)
    limits = {make_account(session, f"Account {number}").id: random.randint(1, 9) for number in range(6)}
    for account, limit in limits.items():
        for _ in range(random.randint(0, 7)):
            spec = make_spec(tier=random.choice(("priority", "standard", "flex")))
            make_queued_job(session, account, spec=spec, concurrency=limit)
    horizons = Horizons(60, 120)
    seen = set()
    for number in range(30):
        refresh_queue_snapshot(session)
        queues = session.execute(text("SELECT account_id, class, sum(ready) FROM lanes GROUP BY 1, 2")).all()
        waiting = [Waiting(account, each_class, int(units), 40.0) for account, each_class, units in queues]
        takes = session.execute(
            text(
                "SELECT account_id, greatest(0, 40 - extract(epoch FROM now() - started_at)) FROM takes"
                " WHERE state = 'running'"
            )
        )
        running = [Running(account, float(left)) for account, left in takes]
        for worst_class in (1, 2):
            expected = workers_wanted(waiting, running, limits, horizons, worst_class)
            assert wanted(session, "demo", worst_class) == expected, (waiting, running)
            seen.add(expected)
        if claim(session, f"worker-{number}", ["demo"]) is None:
            break
        age = {"seconds": random.uniform(0, 60)}
        session.execute(
            text(
                "UPDATE takes SET started_at = now() - :seconds * interval '1 second'"
                " WHERE id = (SELECT max(id) FROM takes WHERE renewed_at IS NULL)"
            ),
            age,
        )
    assert len(seen) > 4


CLASSES = """
[pools.demo]
start_seconds = 60
[[pools.demo.gpus]]
name = "24g"
memory_gib = 24
workers_max = 4
[[pools.demo.gpus]]
name = "80g"
memory_gib = 80
features = ["fp8"]
workers_max = 4
"""


def test_a_unit_wants_the_first_class_of_gpu_that_it_fits(session: Session, write_pools: WritePools) -> None:  # noqa: F811
    write_pools(CLASSES)
    assert write_pool_plans(session) == 3
    assert write_pool_plans(session) == 0, "nothing has changed"
    alice, needs = make_account(session).id, [(8, []), (8, []), (30, []), (8, ["fp8"]), (99, []), (99, [])]
    jobs = [make_queued_job(session, alice, concurrency=9) for _ in needs]
    session.flush()
    for job, (memory, features) in zip(jobs, needs, strict=True):
        values = {"id": job.id, "mb": memory * 1024, "features": features}
        session.execute(text("UPDATE units SET memory_mb = :mb, features = :features WHERE job_id = :id"), values)
    assert [wanted(session, "demo", 1, gpu) for gpu in ("24g", "80g", None)] == [2, 2, 4], "two units fit none"
    session.execute(text("UPDATE shares SET concurrency = 3"))
    assert [wanted(session, "demo", 1, gpu) for gpu in ("24g", "80g", None)] == [2, 1, 3]
    facts = {"host": "here", "pid": 1, "device": "cuda:0", "facts": {"memory_bytes": 24 * 2**30, "features": []}}
    register_worker(session, "small", pools=["demo"], **facts)
    assert claim(session, "small", ["demo"]) is not None
    assert [wanted(session, "demo", 1, gpu) for gpu in ("24g", "80g", None)] == [2, 1, 3], "one of them runs"
    write_pools("[pools]")
    assert write_pool_plans(session) == 3
    session.execute(text("UPDATE shares SET concurrency = 9"))
    assert wanted(session, "demo") == 2, "without classes, what fits no worker wants no more of them"


def test_a_class_that_may_not_be_started_is_wanted_by_no_unit(session: Session, write_pools: WritePools) -> None:  # noqa: F811
    write_pools(CLASSES.replace("workers_max = 4", "workers_max = 0", 1))
    assert write_pool_plans(session) == 2
    make_queued_job(session, make_account(session).id)
    assert [wanted(session, "demo", 1, gpu) for gpu in ("24g", "80g", None)] == [0, 1, 1]
