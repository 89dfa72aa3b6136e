"""Gauges read from the database when the scheduler is scraped: one small query each, none over history."""

import logging
from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.catalog.pools import load_pools
from app.clock import lease_now, now
from app.db import transaction
from app.dispatch.eta_accuracy import accuracy
from app.dispatch.unfit import unfit_units
from app.moderation.tables import IS_OPEN
from app.redis_client import get_redis
from app.settings import get_settings

log = logging.getLogger(__name__)

# Limit of each statement: measuring must never slow the queue down.
STATEMENT_MILLISECONDS = 2000
CLASSES = {0: "priority", 1: "standard", 2: "flex"}

# Each reads a partial index of open rows, or a table with one row per worker, pool, repair or wallet.
QUERIES: dict[str, tuple[str, list[str], str]] = {
    "cinemeter_jobs": (
        "Unfinished jobs by state and stage.",
        ["state", "stage"],
        "SELECT state, stage, count(*) FROM jobs WHERE state IN ('queued', 'in_progress') GROUP BY 1, 2",
    ),
    "cinemeter_units_ready": (
        "Units that a worker can claim now or after their back-off, by pool and class.",
        ["pool", "class"],
        "SELECT pool, class, count(*) FROM units WHERE state = 'ready' GROUP BY 1, 2",
    ),
    "cinemeter_queue_age_seconds": (
        "Seconds that the oldest ready unit has waited, by pool and class.",
        ["pool", "class"],
        "SELECT pool, class, extract(epoch FROM CAST(:now AS timestamptz) - min(queued_at)) FROM units"
        " WHERE state = 'ready' GROUP BY 1, 2",
    ),
    "cinemeter_takes_running": (
        "Running takes by pool.",
        ["pool"],
        "SELECT pool, count(*) FROM takes WHERE state = 'running' GROUP BY 1",
    ),
    "cinemeter_leases_overdue": (
        "Running takes whose lease has expired and that no repair has requeued yet.",
        [],
        "SELECT count(*) FROM takes WHERE state = 'running' AND lease_until < CAST(:lease_now AS timestamptz)",
    ),
    "cinemeter_reviews_waiting": (
        "Orders and films that wait for a moderator, by the stage of the check.",
        ["stage"],
        f"SELECT stage, count(*) FROM moderation_outcomes WHERE {IS_OPEN} GROUP BY 1",
    ),
    "cinemeter_review_age_seconds": (
        "Seconds that the oldest review has waited.",
        [],
        "SELECT extract(epoch FROM CAST(:now AS timestamptz) - min(first_at)) FROM moderation_outcomes"
        f" WHERE {IS_OPEN}",
    ),
    "cinemeter_holds_open": (
        "Open holds.",
        [],
        "SELECT count(*) FROM holds WHERE state = 'held'",
    ),
    "cinemeter_held_minor_units": (
        "Money reserved by open holds, in minor units.",
        ["currency"],
        "SELECT currency, sum(held) FROM wallets GROUP BY 1",
    ),
    "cinemeter_deliveries_pending": (
        "Pending webhook deliveries.",
        [],
        "SELECT count(*) FROM webhook_deliveries WHERE state = 'pending'",
    ),
    "cinemeter_delivery_overdue_seconds": (
        "Seconds by which the most overdue webhook delivery is late; deferred endpoints count too.",
        [],
        "SELECT greatest(0, extract(epoch FROM CAST(:now AS timestamptz) - min(next_attempt_at)))"
        " FROM webhook_deliveries WHERE state = 'pending'",
    ),
    "cinemeter_endpoints_failing": (
        "Webhook endpoints whose last deliveries failed.",
        [],
        "SELECT count(*) FROM webhook_endpoints"
        " WHERE failing_since IS NOT NULL AND disabled_at IS NULL AND deleted_at IS NULL",
    ),
    "cinemeter_content_reports_open": (
        "Reports of films that wait for a decision.",
        [],
        "SELECT count(*) FROM content_reports WHERE state = 'open'",
    ),
    "cinemeter_content_report_due_seconds": (
        "Seconds until the most urgent report of a film must be decided, negative when late; absent without one.",
        [],
        "SELECT extract(epoch FROM min(due_at) - CAST(:now AS timestamptz)) FROM content_reports"
        " WHERE state = 'open' HAVING count(*) > 0",
    ),
    "cinemeter_workers": (
        "Worker processes by pool and state.",
        ["pool", "state"],
        "SELECT pool, state, count(*) FROM workers, jsonb_array_elements_text(pools) AS pool"
        " WHERE state <> 'gone' GROUP BY 1, 2",
    ),
    "cinemeter_workers_wanted": (
        "Workers that a pool, or one class of its GPUs, could use: what runs, and what else would start too late.",
        ["pool", "gpu", "class"],
        "SELECT k.pool, coalesce(k.gpu, ''), class, workers_wanted(k.pool, class, k.gpu) FROM ("
        " SELECT name AS pool, NULL AS gpu FROM pools UNION SELECT pool, NULL FROM pool_plans"
        " UNION ALL SELECT pool, name FROM gpu_classes) AS k, generate_series(1, 2) AS class",
    ),
    "cinemeter_leader_term": (
        "Term of the leader of a role; each change of leader adds one.",
        ["role"],
        "SELECT role, term FROM leaders WHERE lease_until > CAST(:lease_now AS timestamptz)",
    ),
}
_REPAIRS = text("SELECT repair, count FROM sweep_counts")


UP = {
    "cinemeter_database_up": "Whether the database answered this scrape.",
    "cinemeter_redis_up": "Whether Redis answered this scrape; without it there are no rate limits or live progress.",
}


OF_POOLS = {
    "cinemeter_units_unfit": "Ready units that fit no registered worker of their pool and none that may be started.",
    "cinemeter_cold_start_seconds": "Seconds until a worker of a pool that an autoscaler starts can claim.",
}


class DatabaseGauges(Collector):
    """The gauges of the whole service. While the database or Redis is unreachable, its `…_up` is 0."""

    def describe(self) -> Iterable[Metric]:
        # Described here so that registering the collector queries nothing.
        known = [GaugeMetricFamily(name, help_, labels=labels) for name, (help_, labels, _) in QUERIES.items()]
        known += [GaugeMetricFamily(name, help_, labels=["pool"]) for name, help_ in OF_POOLS.items()]
        return [*known, *(GaugeMetricFamily(name, help_) for name, help_ in UP.items())]

    def collect(self) -> Iterable[Metric]:
        try:
            families = read_all()
        except Exception as error:  # noqa: BLE001 — the scrape must report any failure of the database.
            log.warning("The gauges could not be read: %s", error)
            families = []
        answered = {"cinemeter_database_up": float(bool(families)), "cinemeter_redis_up": float(_redis_answers())}
        return [*(GaugeMetricFamily(name, help_, answered[name]) for name, help_ in UP.items()), *families]


def _redis_answers() -> bool:
    try:
        get_redis().ping()
    except RedisError as error:
        log.warning("Redis does not answer: %s", error)
        return False
    return True


def read_all() -> list[Metric]:
    """Return all gauges, read in one transaction."""
    with transaction() as session:
        session.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_MILLISECONDS}"))
        families = [_read(session, name) for name in QUERIES]
        families += _eta(session)
        families += _pools(session)
        repairs = CounterMetricFamily("cinemeter_repairs", "Repairs and deletions by the scheduler.", labels=["repair"])
        for repair, count in session.execute(_REPAIRS):
            repairs.add_metric([repair], float(count))
        return [*families, repairs]


def _pools(session: Session) -> list[Metric]:
    """Return what follows from the rows and from pools.toml."""
    unfit, cold_start = (GaugeMetricFamily(name, help_, labels=["pool"]) for name, help_ in OF_POOLS.items())
    units = Counter[str]()
    for row in unfit_units(session):
        units[row.pool] += row.units
    for pool, count in units.items():
        unfit.add_metric([pool], count)
    for pool, plan in load_pools(get_settings().catalog_dir).items():
        if plan.startable():
            cold_start.add_metric([pool], plan.cold_start_seconds)
    return [unfit, cold_start]


def _eta(session: Session) -> list[Metric]:
    """Return the ETA errors of the last hour, and the share of jobs that ended within the forecast range."""
    off = GaugeMetricFamily(
        "cinemeter_eta_off_seconds",
        "Median error of the forecast start and end of jobs in seconds, over the last hour.",
        labels=["pool", "what"],
    )
    within = GaugeMetricFamily(
        "cinemeter_eta_within_ratio",
        "Share of the last hour's jobs that ended within the range forecast when they were accepted.",
        labels=["pool"],
    )
    for pool in accuracy(session):
        off.add_metric([pool.pool, "start"], pool.start_off)
        off.add_metric([pool.pool, "end"], pool.end_off)
        within.add_metric([pool.pool], pool.within)
    return [off, within]


def _read(session: Session, name: str) -> Metric:
    help_, labels, query = QUERIES[name]
    family = GaugeMetricFamily(name, help_, labels=labels)
    moments = {"now": now(session), "lease_now": lease_now(session)}
    parameters = {name: moment for name, moment in moments.items() if f":{name} " in query}
    for *label_values, value in session.execute(text(query), parameters):
        if "class" in labels:
            label_values[-1] = CLASSES.get(label_values[-1], label_values[-1])
        family.add_metric([str(label) for label in label_values], float(value or 0))
    return family
