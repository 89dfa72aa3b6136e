"""What is measured: counters that move with the work, gauges from the database, and the page that Prometheus reads."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.orm import Session

from app.cli.ports import free_port
from app.db import after_commit, transaction
from app.dispatch.claim import claim
from app.dispatch.gauges import QUERIES, DatabaseGauges
from app.liveness import Liveness
from app.metrics import REGISTRY, serve_metrics
from app.redis_client import get_redis
from app.settings import get_settings
from app.takedowns.reports import ReportForm, submit_report
from tests.api_client import World

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}

ACCEPTED = {"service_tier": "standard", "door": "native"}


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def gauges() -> dict[str, dict[tuple[str, ...], float]]:
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in DatabaseGauges().collect()
    }


@pytest.fixture
def metrics_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    port = free_port(0, "127.0.0.1")
    monkeypatch.setenv("CINEMETER_METRICS_PORT", str(port))
    get_settings.cache_clear()
    yield port
    get_settings.cache_clear()


def test_a_job_is_counted_from_order_to_receipt(world: World) -> None:
    watched = [
        ("cinemeter_jobs_accepted_total", {**ACCEPTED, "model": "synthetic", "test": "False"}),
        ("cinemeter_jobs_ended_total", {"state": "completed", "model": "synthetic", "test": "False"}),
        ("cinemeter_claims_total", {"pool": "synthetic", "kind": "segment"}),
        ("cinemeter_claims_total", {"pool": "finish", "kind": "finish"}),
        ("cinemeter_takes_ended_total", {"kind": "segment", "pool": "synthetic", "outcome": "succeeded"}),
        ("cinemeter_stage_seconds_count", {"stage": "upload", "model": "synthetic"}),
        ("cinemeter_stage_seconds_count", {"stage": "finish", "model": "finish"}),
        ("cinemeter_delivered_seconds_total", {"model": "synthetic"}),
        ("cinemeter_requests_total", {"route": "/v1/videos", "method": "POST", "status": "200"}),
    ]  # fmt: skip
    before = [value(name, **labels) for name, labels in watched]
    revenue = value("cinemeter_revenue_minor_units_total", currency="CNY")
    job = world.post("/v1/videos", ORDER).json()
    assert gauges()["cinemeter_jobs"] == {("queued", "waiting"): 1.0}
    assert gauges()["cinemeter_units_ready"] == {("synthetic", "standard"): 1.0}
    assert gauges()["cinemeter_queue_age_seconds"][("synthetic", "standard")] >= 0
    assert gauges()["cinemeter_holds_open"] == {(): 1.0}
    assert gauges()["cinemeter_held_minor_units"] == {("CNY",): float(job["price"]["total"].replace(".", ""))}
    world.work()
    charged = world.get(f"/v1/videos/{job['id']}").json()["charged"]
    for (name, labels), old in zip(watched, before, strict=True):
        assert value(name, **labels) == old + 1, (name, labels)
    earned = value("cinemeter_revenue_minor_units_total", currency="CNY") - revenue
    assert earned == float(charged.replace(".", ""))
    assert gauges()["cinemeter_jobs"] == {}
    assert gauges()["cinemeter_holds_open"] == {(): 0.0}


def test_a_take_that_a_cancel_ends_is_counted(world: World) -> None:
    order = world.post("/v1/videos", ORDER).json()
    with transaction() as session:
        claimed = claim(session, "worker-1", ["synthetic"])
    assert claimed is not None
    labels = {"kind": "segment", "pool": "synthetic", "outcome": "released"}
    before = value("cinemeter_takes_ended_total", **labels)
    assert world.post(f"/v1/videos/{order['id']}/cancel").status_code == 200
    assert value("cinemeter_takes_ended_total", **labels) == before + 1


def test_test_jobs_earn_nothing(world: World) -> None:
    revenue = value("cinemeter_revenue_minor_units_total", currency="CNY")
    world.post("/v1/videos", ORDER, key=world.test_key)
    world.work()
    assert value("cinemeter_revenue_minor_units_total", currency="CNY") == revenue


def test_what_is_rolled_back_is_not_counted(session: Session) -> None:
    done: list[str] = []
    with session.begin_nested():
        after_commit(session, lambda: done.append("savepoint"))
    assert done == [], "a savepoint makes no facts"
    session.rollback()
    session.commit()
    assert done == []


def test_what_follows_a_commit_cannot_undo_it(engine: object) -> None:
    done: list[str] = []

    def breaks() -> None:
        raise RuntimeError("the metrics are broken")

    with transaction() as session:
        after_commit(session, breaks)
        after_commit(session, lambda: done.append("next"))
        session.connection()
    assert done == ["next"]


def test_every_gauge_reads_an_empty_database(engine: object, redis_url: str) -> None:
    read = gauges()
    assert set(QUERIES) < set(read)
    assert read["cinemeter_database_up"] == read["cinemeter_redis_up"] == {(): 1.0}


def test_the_clock_of_reports_is_absent_without_one(engine: object, redis_url: str) -> None:
    due = "cinemeter_content_report_due_seconds"
    assert gauges()[due] == {}
    form = ReportForm("child_abuse", "elsewhere", "A child.", "Chen Wei", "chen@example.com", is_truthful=True)
    with transaction() as session:
        report = submit_report(session, form)
        report.due_at -= timedelta(hours=3)
    read = gauges()
    assert read["cinemeter_content_reports_open"] == {(): 1.0}
    assert -7200 < read[due][()] <= -3600


def test_an_unreachable_database_or_redis_is_a_gauge_of_zero(
    engine: object, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CINEMETER_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    get_settings.cache_clear()
    assert gauges() == {"cinemeter_database_up": {(): 0.0}, "cinemeter_redis_up": {(): 1.0}}
    monkeypatch.setenv("CINEMETER_REDIS_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    get_redis.cache_clear()
    assert gauges() == {"cinemeter_database_up": {(): 0.0}, "cinemeter_redis_up": {(): 0.0}}
    get_redis.cache_clear()


def test_the_page_is_served_on_its_own_port(engine: object, redis_url: str, metrics_port: int) -> None:
    gauges_of_all = DatabaseGauges()
    assert serve_metrics("scheduler", [gauges_of_all]) == metrics_port
    page = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert {"cinemeter_takes_ended", "cinemeter_jobs", "cinemeter_queue_age_seconds"} <= set(families)
    assert all(family.documentation.endswith(".") for family in families.values()), "every metric says what it is"
    assert httpx.get(f"http://127.0.0.1:{metrics_port}/anything").status_code == 404
    assert serve_metrics("scheduler") is None, "a port that is taken is a warning"
    REGISTRY.unregister(gauges_of_all)


def test_the_probe_fails_where_the_loop_has_stopped(metrics_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    liveness = Liveness()
    monkeypatch.setattr("app.metrics_server.LIVENESS", liveness)
    serve_metrics("courier")
    probe = f"http://127.0.0.1:{metrics_port}/livez"
    assert httpx.get(probe).text == "ok\n", "a process without a loop lives as long as it answers"
    liveness.record_step()
    assert httpx.get(probe).status_code == 200
    monkeypatch.setattr("app.liveness.SILENT_SECONDS", 0.0)
    assert httpx.get(probe).status_code == 503
    assert httpx.get(probe).text.startswith("Nothing has been done ")


def test_no_label_grows_with_jobs() -> None:
    page = generate_latest(REGISTRY).decode()
    assert not re.search(r"(video|take|acct|req)_[0-9a-z]{24}", page)
