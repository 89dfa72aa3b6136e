"""Metrics: the counters of each process, and the endpoint that Prometheus scrapes.

Every role serves `/metrics` on CINEMETER_METRICS_PORT, separate from the customers' port and without a key: the
operator decides who can reach that port. Counters live in the process that does the work and are summed by Prometheus;
those of the API's processes on one machine are summed before (`serve_summed_metrics`). Gauges of the database are read
when the scheduler is scraped (app.dispatch.gauges).
"""

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from app.metrics_server import serve_registry

# A second series for each counter with its time of creation would add nothing.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
# A process with this variable keeps its metrics in files of the folder that it names (read by prometheus_client).
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1200, 3600)

REQUESTS = Counter(
    "cinemeter_requests",
    "Requests answered, by route, method and status.",
    ["route", "method", "status"],
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "cinemeter_request_seconds",
    "Seconds until a request was answered in full.",
    ["route"],
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
STREAMS = Gauge("cinemeter_streams", "Open event streams.", registry=REGISTRY, multiprocess_mode="livesum")
JOBS_ACCEPTED = Counter(
    "cinemeter_jobs_accepted", "Jobs accepted.", ["model", "service_tier", "door", "test"], registry=REGISTRY
)
JOBS_ENDED = Counter(
    "cinemeter_jobs_ended",
    "Jobs that ended, by final state; `refused` are those that failed because of what they show or ask for.",
    ["state", "model", "test"],
    registry=REGISTRY,
)
JOB_SECONDS = Histogram(
    "cinemeter_job_seconds",
    "Seconds from acceptance to the end of completed jobs.",
    ["model", "service_tier"],
    registry=REGISTRY,
    buckets=_SECONDS,
)
REVENUE = Counter(
    "cinemeter_revenue_minor_units",
    "Money captured for delivered films, in minor units.",
    ["currency"],
    registry=REGISTRY,
)
DELIVERED_SECONDS = Counter(
    "cinemeter_delivered_seconds", "Seconds of film that were delivered.", ["model"], registry=REGISTRY
)
MODERATION = Counter(
    "cinemeter_moderation",
    "What moderation decided against, or could not check.",
    ["stage", "outcome", "category", "checker"],
    registry=REGISTRY,
)
CHECKS = Counter(
    "cinemeter_moderation_checks",
    "Texts of orders, and files that were new to it, that a checker was asked about: answered, timeout, or failed.",
    ["stage", "checker", "result"],
    registry=REGISTRY,
)
REVIEWS_DECIDED = Counter(
    "cinemeter_reviews_decided",
    "Reviews that were decided, by a moderator or at the deadline by the policy.",
    ["stage", "decision", "decided_by"],
    registry=REGISTRY,
)
PICTURES_CHECKED = Counter(
    "cinemeter_pictures_checked",
    "Files that checkers of pictures were asked about: known from before, allowed, against, or failed.",
    ["stage", "checker", "answer"],
    registry=REGISTRY,
)
PICTURE_CHECK_SECONDS = Histogram(
    "cinemeter_picture_check_seconds",
    "Seconds that a checker took for the pictures of an order, or of a film.",
    ["stage", "checker"],
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64),
    registry=REGISTRY,
)
ORDERS_RESTRAINED = Counter(
    "cinemeter_orders_restrained",
    "Accounts, or projects, whose orders were slowed or stopped because they repeated refused ones.",
    ["kind", "test"],
    registry=REGISTRY,
)
CLAIMS = Counter("cinemeter_claims", "Units claimed by workers.", ["pool", "kind"], registry=REGISTRY)
WAIT_SECONDS = Histogram(
    "cinemeter_wait_seconds",
    "Seconds from the acceptance of a job to its first lease.",
    ["pool", "service_tier"],
    registry=REGISTRY,
    buckets=_SECONDS,
)
TAKES_ENDED = Counter(
    "cinemeter_takes_ended",
    "Takes that ended, by outcome; `lost` are expired leases.",
    ["kind", "pool", "outcome"],
    registry=REGISTRY,
)
STALE_WRITES = Counter(
    "cinemeter_stale_writes", "Writes of workers that were refused because their lease was lost.", registry=REGISTRY
)
GPU_SECONDS = Counter(
    "cinemeter_gpu_seconds",
    "Seconds that devices worked, by model and outcome of the take.",
    ["model", "outcome"],
    registry=REGISTRY,
)
STAGE_SECONDS = Histogram(
    "cinemeter_stage_seconds",
    "Seconds of a take by stage (text, denoise, decode, encode, marks, upload, finish).",
    ["stage", "model"],
    registry=REGISTRY,
    buckets=_SECONDS,
)
SIGN_INS = Counter(
    "cinemeter_sign_ins",
    "Tries to sign in by password: `ok`, `wrong`, `slowed` (had to wait) or `refused` (would have waited too long).",
    ["result"],
    registry=REGISTRY,
)
ATTEMPTS = Counter("cinemeter_attempts", "Webhook requests, by outcome.", ["outcome"], registry=REGISTRY)


def serve_metrics(role: str, collectors: Iterable[Collector] = ()) -> int | None:
    """Serve this process's metrics, and those of `collectors`, in a thread of their own.

    Returns the port, or None when none is set. A port that is in use is a warning and no error: the process can work
    without metrics.
    """
    for collector in collectors:
        REGISTRY.register(collector)
    return serve_registry(role, REGISTRY)


def serve_summed_metrics(role: str, folder: str) -> int | None:
    """Serve the metrics of several processes as one, summed from the files that they keep in `folder`.

    Each is started with METRICS_FOLDER in its environment. Returns as `serve_metrics` does.
    """
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
    return serve_registry(role, registry)


def forget_process(folder: str, pid: int) -> None:
    """Remove the gauges of a process that has ended from the sums; what it has counted stays."""
    mark_process_dead(pid, path=folder)  # type: ignore[no-untyped-call]


def record_take_end(
    *, kind: str, pool: str, model: str, outcome: str, gpu_seconds: float, meter: dict[str, Any] | None
) -> None:
    """Count a take that ended, its seconds on the device, and its seconds by stage."""
    TAKES_ENDED.labels(kind, pool, outcome).inc()
    GPU_SECONDS.labels(model, outcome).inc(max(0.0, gpu_seconds))
    for stage, seconds in (meter or {}).get("seconds", {}).items():
        if seconds:
            STAGE_SECONDS.labels(stage, model).observe(seconds)
