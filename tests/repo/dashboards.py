"""The dashboards of Grafana in deploy/dashboards, made from lists of panels; `make fmt` writes them.

Each query names metrics of the service only, and the data source is a variable: whoever imports a dashboard chooses it.
"""

import json
from dataclasses import dataclass
from typing import Any

from tests.repo.sources import ROOT

FOLDER = ROOT / "deploy" / "dashboards"
# Grafana divides a row into so many columns; two panels fill one.
_COLUMNS, _WIDTH, _HEIGHT = 24, 12, 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_ALL = "sum(rate(cinemeter_requests_total[$__rate_interval]))"
_MONEY = "sum by (currency)"


@dataclass(frozen=True)
class Panel:
    """A diagram over time: its title, its unit in Grafana's words, and each query with the legend of its series."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    text: str = ""


SERVICE = (
    Panel(
        "Requests a second by status",
        "reqps",
        (("sum by (status) (rate(cinemeter_requests_total[$__rate_interval]))", "{{status}}"),),
    ),
    Panel(
        "Share of requests answered with a server error",
        "percentunit",
        ((f'sum(rate(cinemeter_requests_total{{status=~"5.."}}[$__rate_interval])) / {_ALL}', "errors"),),
        "The objective is 0.1 %; RequestBudgetBurns pages when it is used up too fast.",
    ),
    Panel(
        "Seconds until an answer",
        "s",
        tuple(
            (
                f"histogram_quantile({share}, sum by (le) (rate(cinemeter_request_seconds_bucket[$__rate_interval])))",
                name,
            )
            for share, name in (("0.5", "half"), ("0.95", "95 %"), ("0.99", "99 %"))
        ),
    ),
    Panel("Open event streams", "short", (("sum(cinemeter_streams)", "streams"),)),
    Panel(
        "Jobs accepted in an hour by tier",
        "short",
        (('sum by (service_tier) (increase(cinemeter_jobs_accepted_total{test="False"}[1h]))', "{{service_tier}}"),),
    ),
    Panel(
        "Jobs ended in an hour by state",
        "short",
        (('sum by (state) (increase(cinemeter_jobs_ended_total{test="False"}[1h]))', "{{state}}"),),
    ),
    Panel(
        "Revenue in an hour, in minor units",
        "short",
        ((f"{_MONEY} (increase(cinemeter_revenue_minor_units_total[1h]))", "{{currency}}"),),
        "Counters restart with their process: for money to the cent read the statements.",
    ),
    Panel(
        "Money in open holds, in minor units",
        "short",
        (("max by (currency) (cinemeter_held_minor_units)", "{{currency}}"), ("max(cinemeter_holds_open)", "holds")),
    ),
    Panel(
        "GPU-seconds for each delivered second",
        "short",
        (
            (
                "sum(rate(cinemeter_gpu_seconds_total[1h])) / sum(rate(cinemeter_delivered_seconds_total[1h]))",
                "all models",
            ),
        ),
        "Times the cost of a GPU-second, this is what a delivered second costs.",
    ),
    Panel(
        "Webhooks",
        "short",
        (
            ("sum by (outcome) (rate(cinemeter_attempts_total[$__rate_interval]))", "{{outcome}} a second"),
            ("max(cinemeter_deliveries_pending)", "pending"),
            ("max(cinemeter_endpoints_failing)", "endpoints that fail"),
        ),
    ),
    Panel("Seconds by which webhooks are late", "s", (("max(cinemeter_delivery_overdue_seconds)", "late"),)),
    Panel(
        "Reports of films",
        "short",
        (
            ("max(cinemeter_content_reports_open)", "open"),
            ("min(cinemeter_content_report_due_seconds) / 60", "minutes until the first is due"),
        ),
    ),
    Panel(
        "Tries to sign in",
        "short",
        (("sum by (result) (increase(cinemeter_sign_ins_total[15m]))", "{{result}}"),),
    ),
    Panel(
        "Decisions of moderation in an hour",
        "short",
        (
            (
                "sum by (stage, outcome, checker) (increase(cinemeter_moderation_total[1h]))",
                "{{stage}}: {{outcome}} ({{checker}})",
            ),
        ),
    ),
    Panel(
        "Answers of checkers in a quarter of an hour",
        "short",
        (
            (
                "sum by (stage, checker, result) (increase(cinemeter_moderation_checks_total[15m]))",
                "{{stage}}: {{checker}}, {{result}}",
            ),
        ),
        "CheckersFail pages where more than a fifth of them are no answer.",
    ),
    Panel(
        "Files seen by checkers in an hour",
        "short",
        (
            (
                "sum by (stage, checker, answer) (increase(cinemeter_pictures_checked_total[1h]))",
                "{{stage}}: {{checker}}, {{answer}}",
            ),
        ),
        "`known` are files that were seen before; a rise of `failed` calls for a look at the checker.",
    ),
    Panel(
        "Seconds of a check of pictures",
        "s",
        tuple(
            (
                f"histogram_quantile({share}, sum by (le, checker) "
                "(rate(cinemeter_picture_check_seconds_bucket[$__rate_interval])))",
                f"{{{{checker}}}} {name}",
            )
            for share, name in (("0.5", "half"), ("0.95", "95 %"))
        ),
    ),
    Panel(
        "Accounts and projects whose orders were slowed or stopped in a day",
        "short",
        (("sum by (kind) (increase(cinemeter_orders_restrained_total[1d]))", "{{kind}}"),),
    ),
    Panel(
        "Reviews that wait, and decisions in an hour",
        "short",
        (
            ("sum by (stage) (max by (stage) (cinemeter_reviews_waiting))", "{{stage}} waits"),
            (
                "sum by (decision, decided_by) (increase(cinemeter_reviews_decided_total[1h]))",
                "{{decision}} by {{decided_by}}",
            ),
        ),
    ),
    Panel(
        "Age of the oldest review",
        "s",
        (("max(cinemeter_review_age_seconds)", "oldest"),),
        "ReviewsWait opens a ticket at two hours.",
    ),
)
QUEUE = (
    Panel(
        "Units ready by pool and class",
        "short",
        (("max by (pool, class) (cinemeter_units_ready)", "{{pool}} {{class}}"),),
    ),
    Panel(
        "Age of the oldest unit by pool and class",
        "s",
        (("max by (pool, class) (cinemeter_queue_age_seconds)", "{{pool}} {{class}}"),),
    ),
    Panel(
        "Workers by pool and state",
        "short",
        (
            ("max by (pool, state) (cinemeter_workers)", "{{pool}} {{state}}"),
            ('max by (pool) (cinemeter_workers_wanted{class="flex"})', "{{pool}} wanted"),
        ),
    ),
    Panel(
        "Ready units that fit no worker",
        "short",
        (("max by (pool) (cinemeter_units_unfit)", "{{pool}}"),),
        "They need more memory or other features than any GPU of their pool has.",
    ),
    Panel(
        "Seconds of a cold start, and of the oldest work that waits",
        "s",
        (
            ("max by (pool) (cinemeter_cold_start_seconds)", "{{pool}} cold start"),
            ('max by (pool) (cinemeter_queue_age_seconds{class!="flex"})', "{{pool}} waits"),
        ),
        "Only pools that an autoscaler starts have a cold start; pools.toml says it.",
    ),
    Panel(
        "Share of workers that are busy",
        "percentunit",
        (
            (
                'sum by (pool) (max by (pool, state) (cinemeter_workers{state="busy"}))'
                " / sum by (pool) (max by (pool, state) (cinemeter_workers))",
                "{{pool}}",
            ),
        ),
    ),
    Panel("Running takes by pool", "short", (("max by (pool) (cinemeter_takes_running)", "{{pool}}"),)),
    Panel(
        "Wait for the first lease, 95 %",
        "s",
        (
            (
                "histogram_quantile(0.95, sum by (le, service_tier) (rate(cinemeter_wait_seconds_bucket[15m])))",
                "{{service_tier}}",
            ),
        ),
    ),
    Panel(
        "Takes ended in an hour by outcome",
        "short",
        (("sum by (outcome) (increase(cinemeter_takes_ended_total[1h]))", "{{outcome}}"),),
    ),
    Panel(
        "Share of GPU-seconds whose take did not succeed",
        "percentunit",
        (
            (
                'sum(rate(cinemeter_gpu_seconds_total{outcome!="succeeded"}[1h]))'
                " / sum(rate(cinemeter_gpu_seconds_total[1h]))",
                "all models",
            ),
        ),
    ),
    Panel(
        "Seconds of a take by stage, mean",
        "s",
        (
            (
                "sum by (stage) (rate(cinemeter_stage_seconds_sum[1h]))"
                " / sum by (stage) (rate(cinemeter_stage_seconds_count[1h]))",
                "{{stage}}",
            ),
        ),
    ),
    Panel(
        "Unfinished jobs by stage", "short", (("sum by (stage) (max by (state, stage) (cinemeter_jobs))", "{{stage}}"),)
    ),
    Panel(
        "Share of jobs that ended within their forecast",
        "percentunit",
        (("max by (pool) (cinemeter_eta_within_ratio)", "{{pool}}"),),
    ),
    Panel(
        "Repairs by the scheduler, and what came too late",
        "short",
        (
            ("max by (repair) (increase(cinemeter_repairs_total[1h]))", "{{repair}}"),
            ("sum(increase(cinemeter_stale_writes_total[1h]))", "stale writes"),
            ("max(cinemeter_leases_overdue)", "leases overdue"),
        ),
    ),
    Panel(
        "Database, Redis, leader",
        "short",
        (
            ("min(cinemeter_database_up)", "database"),
            ("min(cinemeter_redis_up)", "Redis"),
            ("max by (role) (cinemeter_leader_term)", "term of the leader: {{role}}"),
        ),
    ),
)
DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "service": ("Cinemeter: service and money", SERVICE),
    "queue": ("Cinemeter: queue and GPU pools", QUEUE),
}


def dashboard(name: str) -> str:
    """Return the JSON of the dashboard of this name."""
    title, panels = DASHBOARDS[name]
    variable = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }
    content = {
        "uid": f"cinemeter-{name}",
        "title": title,
        "tags": ["cinemeter"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(content, indent=1) + "\n"


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    left = number * _WIDTH % _COLUMNS
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": {"x": left, "y": number * _WIDTH // _COLUMNS * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(panel.queries)
        ],
    }
