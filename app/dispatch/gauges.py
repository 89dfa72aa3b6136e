"""What only the database knows, read when the scheduler is scraped: one small query for each, none over history."""

import logging
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.clock import lease_now, now
from app.db import transaction
from app.dispatch.eta_accuracy import accuracy
from app.redis_client import get_redis

log = logging.getLogger(__name__)

# A scrape gives up after so long; measuring must never be what slows the queue.
STATEMENT_MILLISECONDS = 2000
CLASSES = {0: "priority", 1: "standard", 2: "flex"}

# Each reads a partial index of what is open, or a table with a row per worker, pool, repair or wallet.
QUERIES: dict[str, tuple[str, list[str], str]] = {
    "cinemeter_jobs": (
        "Unfinished jobs by state and stage.",
        ["state", "stage"],
        "SELECT state, stage, count(*) FROM jobs WHERE state IN ('queued', 'in_progress') GROUP BY 1, 2",
    ),
    "cinemeter_units_ready": (
        "Units of work that a worker could claim now or after a pause, by pool and class.",
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
        "Takes that run, by pool.",
        ["pool"],
        "SELECT pool, count(*) FROM takes WHERE state = 'running' GROUP BY 1",
    ),
    "cinemeter_leases_overdue": (
        "Running takes whose lease has run out and that nobody has swept yet.",
        [],
        "SELECT count(*) FROM takes WHERE state = 'running' AND lease_until < CAST(:lease_now AS timestamptz)",
    ),
    "cinemeter_holds_open": (
        "Holds that are open.",
        [],
        "SELECT count(*) FROM holds WHERE state = 'held'",
    ),
    "cinemeter_held_minor_units": (
        "Money that open holds set aside, in minor units.",
        ["currency"],
        "SELECT currency, sum(held) FROM wallets GROUP BY 1",
    ),
    "cinemeter_deliveries_pending": (
        "Webhook deliveries that are not through yet.",
        [],
        "SELECT count(*) FROM webhook_deliveries WHERE state = 'pending'",
    ),
    "cinemeter_delivery_overdue_seconds": (
        "Seconds by which the most overdue webhook delivery is late; endpoints that are deferred count too.",
        [],
        "SELECT greatest(0, extract(epoch FROM CAST(:now AS timestamptz) - min(next_attempt_at)))"
        " FROM webhook_deliveries WHERE state = 'pending'",
    ),
    "cinemeter_endpoints_failing": (
        "Webhook endpoints that have only failed since their last success.",
        [],
        "SELECT count(*) FROM webhook_endpoints"
        " WHERE failing_since IS NOT NULL AND disabled_at IS NULL AND deleted_at IS NULL",
    ),
    "cinemeter_workers": (
        "Worker processes by pool and state.",
        ["pool", "state"],
        "SELECT pool, state, count(*) FROM workers, jsonb_array_elements_text(pools) AS pool"
        " WHERE state <> 'gone' GROUP BY 1, 2",
    ),
    "cinemeter_leader_term": (
        "Term of the process that leads in a role; each change of leader adds one.",
        ["role"],
        "SELECT role, term FROM leaders WHERE lease_until > CAST(:lease_now AS timestamptz)",
    ),
}
_REPAIRS = text("SELECT repair, count FROM sweep_counts")


UP = {
    "cinemeter_database_up": "Whether the database answered this scrape.",
    "cinemeter_redis_up": "Whether Redis answered this scrape; without it there are no rate limits and no live notes.",
}


class DatabaseGauges(Collector):
    """The gauges of the whole service. Where the database or Redis is away, its `…_up` says so by 0."""

    def describe(self) -> Iterable[Metric]:
        # Said here so that registering asks the database nothing.
        known = [GaugeMetricFamily(name, help_, labels=labels) for name, (help_, labels, _) in QUERIES.items()]
        return [*known, *(GaugeMetricFamily(name, help_) for name, help_ in UP.items())]

    def collect(self) -> Iterable[Metric]:
        try:
            families = read_all()
        except Exception as error:  # noqa: BLE001 — whatever is wrong with the database, the scrape says that it is.
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
        repairs = CounterMetricFamily("cinemeter_repairs", "What the scheduler repaired or cleaned.", labels=["repair"])
        for repair, count in session.execute(_REPAIRS):
            repairs.add_metric([repair], float(count))
        return [*families, repairs]


def _eta(session: Session) -> list[Metric]:
    """Return how far ETAs were off in the last hour, and how many jobs ended within the foretold range."""
    off = GaugeMetricFamily(
        "cinemeter_eta_off_seconds",
        "Median seconds by which the foretold start and end of jobs were off, over the last hour.",
        labels=["pool", "what"],
    )
    within = GaugeMetricFamily(
        "cinemeter_eta_within_ratio",
        "Share of the last hour's jobs that ended within the range foretold when they were accepted.",
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
    asked = {name: moment for name, moment in moments.items() if f":{name} " in query}
    for *words, value in session.execute(text(query), asked):
        if "class" in labels:
            words[-1] = CLASSES.get(words[-1], words[-1])
        family.add_metric([str(word) for word in words], float(value or 0))
    return family
