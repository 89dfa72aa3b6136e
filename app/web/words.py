"""Codes that pages show as words, listed for the catalogues: states, roles, kinds and reasons."""

from enum import StrEnum

from app.accounts.tables import AccountKind, ModerationLevel
from app.admin.tables import TopUpRequestState
from app.jobs.states import JobState, Stage, TakeState, UnitState, WorkerState
from app.moderation.outcomes import CheckStage, Decision, Outcome
from app.prices.tables import PriceDocumentState
from app.provenance.mark_state import MarkState
from app.roles import Role, Scope
from app.takedowns.tables import ReportState
from app.wallet.tables import LotKind, TransferKind
from app.webhooks.tables import DeliveryState, Trigger

_ENUMS: tuple[type[StrEnum], ...] = (
    *(JobState, Stage, TakeState, UnitState, WorkerState),
    *(DeliveryState, Trigger, TransferKind, LotKind, AccountKind),
    *(PriceDocumentState, TopUpRequestState, Role, Scope, MarkState, ReportState),
    *(CheckStage, Outcome, Decision, ModerationLevel),
)
# Names of form fields and of parts of an order, as refusals name them.
_FIELDS = (
    *("prompt", "negative_prompt", "seconds", "shot", "shots", "resolution", "ratio", "size", "seed", "model", "file"),
    *("first_frame", "last_frame", "video", "audio", "sound", "service_tier", "transition", "max_price", "project"),
    *("email", "password", "name", "amount", "budget", "budget_total", "job_cap", "permissions", "roles", "scopes"),
    *("reference", "reason", "expires_at", "ends_at", "effective_at", "at", "hours", "url", "description", "kind"),
    *("event_types", "since", "until", "month", "membership", "concurrency", "queue_limit", "credit_limit", "note"),
    *("alert", "zone", "expires", "category", "place", "details", "truthful", "films", "other_films", "visible_label"),
    *("decision", "moderation_level"),
    *("toml", "account", "days", "strength", "style", "quote_id", "label", "billing_zone", "current", "key", "text"),
)
_OTHERS = (
    # Takes, variations and service tiers.
    *("segment", "finish", "remix", "retake", "extension", "edit", "standard", "flex", "priority", "free"),
    *("professional", "studio", "enterprise", "adjusted", "done", "unknown"),
    # Endpoints, and why deliveries and endpoints ended.
    *("enabled", "held_back", "disabled", "failing", "paused", "active", "gone", "test_failed"),
    *("unreachable", "attempts_spent", "endpoint_deleted", "endpoint_disabled", "owner", "too_many_failures"),
    *("redirect", "no_response", "blocked", "proxy_failed", "internal", "timeout", "tls_failed"),
    *("disconnected", "bad_answer", "dns_failed"),
    # Nouns of `There is no … with this id.`
    *("member", "invitation", "receipt", "page", "endpoint", "delivery", "video", "asset", "worker", "price book"),
    *(
        "contract",
        "pause",
        "top-up",
        "quote",
        "job",
        "film",
        "event",
        "agreement",
        "picture",
        "report",
        "review",
        "stop",
    ),
    # Names of a film's resolved settings.
    *("steps", "guidance", "fps", "frames", "width", "height", "mode", "seeds", "native_size"),
)


def _words(code: str) -> str:
    return code.replace("_", " ").replace("-", " ")


CODES: tuple[str, ...] = tuple(
    dict.fromkeys(_words(code) for code in (*(each for kind in _ENUMS for each in kind), *_FIELDS, *_OTHERS))
)
