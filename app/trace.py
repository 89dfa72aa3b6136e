"""Traces: one order from the API through its takes to the webhook, when an OpenTelemetry collector is set.

The parent of each span is stored in rows (`jobs.traceparent`, W3C Trace Context), not in messages: a wake-up may be
lost, the row is not. Without CINEMETER_OTLP_ENDPOINT nothing of OpenTelemetry is imported and a span costs nothing;
with it, the extra `cinemeter[tracing]` must be installed.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from app.settings import get_settings

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def read_traceparent(header: str | None) -> str | None:
    """Return a caller's `traceparent` header if it is well formed, else None: it will be stored and forwarded."""
    return header if header is not None and _TRACEPARENT.fullmatch(header) else None


def new_traceparent() -> str:
    """Return the `traceparent` of a new trace, for a request that came without one and is not traced here.

    It is marked as sampled, so that a caller's or a later process's tracer does not leave its spans out.
    """
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_id_of(traceparent: str | None) -> str | None:
    """Return the trace's id, 32 hexadecimal digits, of a well-formed `traceparent`; None where there is none."""
    return traceparent.split("-")[1] if traceparent else None


@lru_cache(maxsize=1)
def _tracer() -> Any:
    """Return this process's tracer, or None when no collector is set."""
    endpoint = get_settings().otlp_endpoint
    if not endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "cinemeter"}))
    url = endpoint.rstrip("/")
    url = url if url.endswith("/v1/traces") else f"{url}/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    return provider.get_tracer("cinemeter")


@contextmanager
def span(name: str, *, parent: str | None = None, **facts: str) -> Iterator[str | None]:
    """Time the block as a span with these attributes, under `parent` (a traceparent) or the span around it.

    Yields the block's own traceparent, for rows and headers; without a collector that is `parent`.
    """
    tracer = _tracer()
    if tracer is None:
        yield parent
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carry = TraceContextTextMapPropagator()
    context = carry.extract({"traceparent": parent}) if parent else None
    attributes = {f"cinemeter.{key}": value for key, value in facts.items()}
    with tracer.start_as_current_span(name, context=context, attributes=attributes):
        carrier: dict[str, str] = {}
        carry.inject(carrier)
        yield carrier.get("traceparent", parent)
