"""Alerts and dashboards: what they ask for exists, and alerts fire when they should and not otherwise."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from app import metrics
from app.dispatch.gauges import CLASSES, OF_POOLS, QUERIES, UP
from app.dispatch.retention import chores
from app.dispatch.scheduler import REPAIRS
from app.jobs.states import JobState, TakeState
from tests.deploy.chart import TOOLS
from tests.repo.dashboards import DASHBOARDS, FOLDER, dashboard
from tests.repo.sources import ROOT

ALERTS = ROOT / "deploy" / "alerts.yaml"
COUNTED = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
needs_promtool = pytest.mark.skipif(
    not (TOOLS / "promtool").exists(), reason="promtool is not installed: `make charts` installs it where there is apt"
)


@pytest.fixture(scope="module")
def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def labels_of_series() -> dict[str, set[str]]:
    """The labels of every series that a process can show, by the name that a query uses."""
    labels = {name: set(own) for name, (_, own, _) in QUERIES.items()}
    labels |= {name: {"pool"} for name in OF_POOLS}
    labels |= {name: set() for name in UP} | {"cinemeter_repairs_total": {"repair"}}
    labels |= {"cinemeter_eta_off_seconds": {"pool", "what"}, "cinemeter_eta_within_ratio": {"pool"}}
    for metric in COUNTED:
        for family in metric.describe():
            own = set(metric._labelnames)
            names = {"counter": ["_total"], "histogram": ["_sum", "_count"]}.get(family.type, [""])
            labels |= {family.name + suffix: own for suffix in names}
            if isinstance(metric, Histogram):
                labels[f"{family.name}_bucket"] = own | {"le"}
    return labels


def words() -> dict[str, set[str]]:
    """The values of labels that take few."""
    return {
        "outcome": {str(state) for state in TakeState},
        "repair": set(REPAIRS) | {chore.name for chore in chores()},
        "class": set(CLASSES.values()),
        "test": {"True", "False"},
        "role": {"scheduler"},
        "result": {"answered", "timeout", "failed"} | {"ok", "wrong", "slowed", "refused"},
        "state": {str(state) for state in JobState} | {"refused", "idle", "busy", "draining"},
    }


def check_query(query: str) -> None:
    """Refuse a query for a metric, a label or a word that does not exist: it is empty for ever."""
    labels, known = labels_of_series(), words()
    named: set[str] = set()
    for name, selector in re.findall(r"(cinemeter_[a-z_]+)(?:\{([^}]*)\})?", query):
        own = labels[name]
        named |= own
        for label, negated, value in re.findall(r'(\w+)(?:=|(!=)|=~)"([^"]*)"', selector):
            assert label in own, (query, name, label)
            if label in known:
                assert set(value.split("|")) <= known[label], (query, label, value, negated)
    assert named or "cinemeter_" in query
    for listed in re.findall(r"(?:by|on) \(([a-z_, ]+)\)", query):
        assert {label.strip() for label in listed.split(",")} <= named, query


def test_alerts_ask_for_what_exists_and_tell_what_to_do(alerts: list[dict[str, Any]]) -> None:
    headings = re.findall(r"^### (.+)$", (ROOT / "deploy/runbook.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    anchors = {"#" + heading.lower().replace(" ", "-") for heading in headings}
    assert len({rule["alert"] for rule in alerts}) == len(alerts) >= 10
    for rule in alerts:
        check_query(rule["expr"])
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["runbook"] in anchors


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_are_made_anew_and_ask_for_what_exists(name: str) -> None:
    text = dashboard(name)
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text, "`make fmt` writes it"
    content = json.loads(text)
    (variable,) = content["templating"]["list"]
    assert variable["current"] == {}, "a data source of another Grafana would be unknown"
    panels = content["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["datasource"]["uid"] == f"${{{variable['name']}}}"
        for target in panel["targets"]:
            check_query(target["expr"])
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = {
                each.strip() for listed in re.findall(r"by \(([^)]*)\)", target["expr"]) for each in listed.split(",")
            }
            assert shown <= kept, target["expr"]


def test_every_metric_of_the_service_is_on_a_dashboard() -> None:
    shown = "".join(dashboard(name) for name in DASHBOARDS)
    missing = {name for name in labels_of_series() if not name.endswith(("_sum", "_count")) and name not in shown}
    # One number each that another panel shows from a nearer side.
    assert missing == {
        "cinemeter_claims_total",
        "cinemeter_job_seconds_bucket",
        "cinemeter_stage_seconds_bucket",
        "cinemeter_eta_off_seconds",
    }, "add a panel in tests/repo/dashboards.py, then `make fmt`"


@needs_promtool
@pytest.mark.parametrize("name", DASHBOARDS)
def test_prometheus_can_read_every_query_of_a_dashboard(name: str, tmp_path: Path) -> None:
    queries = [query for panel in DASHBOARDS[name][1] for query, _ in panel.queries]
    rules = [
        {"record": f"panel_{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    run_promtool(tmp_path, "rules", {"groups": [{"name": "panels", "rules": rules}]}, "check")


# Series by minute, when they are looked at, and which alert then fires with which labels (None: it does not).
ANSWERS = 'cinemeter_requests_total{route="/v1/videos", method="GET", status="%s"}'
JOBS = 'cinemeter_jobs_ended_total{state="%s", model="demo", test="%s"}'
CHECKED = 'cinemeter_moderation_checks_total{stage="%s", checker="http", result="%s"}'
AGE = 'cinemeter_queue_age_seconds{pool="wan", class="standard"}'
CASES: list[tuple[str, str, dict[str, str], str, dict[str, str] | None]] = [
    ("a fault of an hour", "RequestBudgetBurns", {ANSWERS % 200: "0+980x60", ANSWERS % 500: "0+20x60"}, "1h", {}),
    (
        "the fault has ended",
        "RequestBudgetBurns",
        {ANSWERS % 200: "0+980x500", ANSWERS % 500: "0+20x60 1200x440"},
        "3h",
        None,
    ),
    ("a slow fault", "RequestBudgetBurns", {ANSWERS % 200: "0+9920x400", ANSWERS % 500: "0+80x400"}, "6h30m", {}),
    (
        "within the budget",
        "RequestBudgetBurns",
        {ANSWERS % 200: "0+9990x400", ANSWERS % 500: "0+10x400"},
        "6h30m",
        None,
    ),
    (
        "jobs fail",
        "JobBudgetBurns",
        {JOBS % ("completed", False): "0+9x60", JOBS % ("failed", False): "0+1x60"},
        "1h",
        {},
    ),
    (
        "one job of few fails",
        "JobBudgetBurns",
        {JOBS % ("completed", False): "0+0x30 0+1x5", JOBS % ("failed", False): "0x30 1x30"},
        "32m",
        None,
    ),
    ("only test jobs fail", "JobBudgetBurns", {JOBS % ("failed", True): "0+5x60"}, "1h", None),
    ("forecasts", "ForecastsAreOff", {'cinemeter_eta_within_ratio{pool="wan"}': "0.5x90"}, "70m", {"pool": "wan"}),
    ("forecasts are good", "ForecastsAreOff", {'cinemeter_eta_within_ratio{pool="wan"}': "0.9x90"}, "70m", None),
    (
        "nothing is made",
        "QueueStandsStill",
        {AGE: "0+60x30", 'cinemeter_units_ready{pool="wan", class="standard"}': "3x30"},
        "20m",
        {"pool": "wan", "class": "standard"},
    ),
    (
        "something is made",
        "QueueStandsStill",
        {AGE: "0+60x30", 'cinemeter_takes_running{pool="wan"}': "1x30"},
        "20m",
        None,
    ),
    (
        "no worker",
        "NoWorkers",
        {'cinemeter_units_ready{pool="wan", class="standard"}': "3x30"},
        "10m",
        {"pool": "wan"},
    ),
    ("a report is late", "ReportsAreDue", {"cinemeter_content_report_due_seconds": "7200-60x180"}, "3h", {}),
    ("a report has time", "ReportsAreDue", {"cinemeter_content_report_due_seconds": "7200-60x180"}, "1h", None),
    ("no report", "ReportsAreDue", {"cinemeter_content_reports_open": "0x180"}, "1h", None),
    (
        "a pool sleeps, its worker is being started",
        "NoWorkers",
        {
            'cinemeter_units_ready{pool="wan", class="standard"}': "3x30",
            'cinemeter_cold_start_seconds{pool="wan"}': "240x30",
            'cinemeter_queue_age_seconds{pool="wan", class="standard"}': "0+10x30",
        },
        "10m",
        None,
    ),
    (
        "a pool sleeps, and only flex work waits for its idle workers",
        "NoWorkers",
        {
            'cinemeter_units_ready{pool="wan", class="flex"}': "3x30",
            'cinemeter_cold_start_seconds{pool="wan"}': "240x30",
            'cinemeter_queue_age_seconds{pool="wan", class="flex"}': "9000x30",
        },
        "10m",
        None,
    ),
    (
        "a cold start that lasts too long",
        "NoWorkers",
        {
            'cinemeter_units_ready{pool="wan", class="standard"}': "3x30",
            'cinemeter_cold_start_seconds{pool="wan"}': "240x30",
            'cinemeter_queue_age_seconds{pool="wan", class="standard"}': "0+60x30",
        },
        "14m",
        {"pool": "wan"},
    ),
    (
        "nothing runs while a pool starts",
        "QueueStandsStill",
        {
            'cinemeter_units_ready{pool="wan", class="standard"}': "3x30",
            'cinemeter_cold_start_seconds{pool="wan"}': "600x30",
            'cinemeter_queue_age_seconds{pool="wan", class="standard"}': "1000x30",
        },
        "10m",
        None,
    ),
    ("units that fit nobody", "UnitsFitNoWorker", {'cinemeter_units_unfit{pool="wan"}': "2x30"}, "6m", {"pool": "wan"}),
    ("a review of three hours", "ReviewsWait", {"cinemeter_review_age_seconds": "0+60x180"}, "2h30m", {}),
    ("reviews are decided", "ReviewsWait", {"cinemeter_review_age_seconds": "0+60x100 0+60x100"}, "3h20m", None),
    (
        "a checker answers nothing",
        "CheckersFail",
        {CHECKED % ("output", "timeout"): "0+1x40"},
        "30m",
        {"stage": "output", "checker": "http"},
    ),
    (
        "a checker fails at one stage of two",
        "CheckersFail",
        {
            CHECKED % ("prompt", "answered"): "0+50x40",
            CHECKED % ("input", "answered"): "0+3x40",
            CHECKED % ("input", "failed"): "0+2x40",
        },
        "30m",
        {"stage": "input", "checker": "http"},
    ),
    (
        "a checker fails now and then",
        "CheckersFail",
        {CHECKED % ("prompt", "answered"): "0+9x40", CHECKED % ("prompt", "failed"): "0+1x40"},
        "30m",
        None,
    ),
    (
        "one check of few fails",
        "CheckersFail",
        {CHECKED % ("prompt", "answered"): "1x40", CHECKED % ("prompt", "failed"): "0x10 1x30"},
        "20m",
        None,
    ),
    ("no scheduler", "DatabaseAway", {'cinemeter_redis_up{instance="a"}': "1x10"}, "5m", {}),
]


@needs_promtool
@pytest.mark.parametrize("alert", sorted({alert for _, alert, *_ in CASES}))
def test_alerts_fire_when_they_should_and_not_otherwise(
    alert: str, alerts: list[dict[str, Any]], tmp_path: Path
) -> None:
    (rule,) = [rule for rule in alerts if rule["alert"] == alert]
    # This rule alone: promtool would evaluate all of them for each minute of each case.
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [rule]}]}), encoding="utf-8")
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": [{"series": each, "values": values} for each, values in series.items()],
            "alert_rule_test": [{"eval_time": moment, "alertname": alert, "exp_alerts": expected(rule, labels)}],
        }
        for name, tested, series, moment, labels in CASES
        if tested == alert
    ]
    content = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}
    run_promtool(tmp_path, "rules", content, "test")


@needs_promtool
def test_prometheus_can_read_the_alerts(tmp_path: Path) -> None:
    run_promtool(tmp_path, "rules", yaml.safe_load(ALERTS.read_text(encoding="utf-8")), "check")


def expected(rule: dict[str, Any], labels: dict[str, str] | None) -> list[dict[str, Any]]:
    """The alerts that promtool shall see: one with these labels of its series, or none."""
    if labels is None:
        return []
    texts = {
        key: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: labels[match[1]], text)
        for key, text in rule["annotations"].items()
    }
    return [{"exp_labels": {**rule["labels"], **labels}, "exp_annotations": texts}]


def run_promtool(folder: Path, kind: str, content: dict[str, Any], verb: str) -> None:
    """Write `content` to a file and have promtool check or test it."""
    path = folder / "content.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    run = subprocess.run([TOOLS / "promtool", verb, kind, path], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
