"""The receipt of a job that has ended: a pure function of the job's row and of its price book.

So an audit can compute it again without trusting the stored receipt, and without the objects of a session.
"""

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any, Protocol

from pricing.book import PriceBook
from pricing.exact import exact_text
from pricing.money import Money
from pricing.receipt import Delivered, Quoted, Receipt
from pricing.receipt import receipt as compute_receipt
from pricing.simulation_result import Case
from pricing.usage import Customer, Usage


class EndedJob(Protocol):
    """What a receipt is computed from: the columns of a job's row, by their names."""

    @property
    def id(self) -> str: ...
    @property
    def account_id(self) -> str: ...
    @property
    def project_id(self) -> str | None: ...
    @property
    def test(self) -> bool: ...
    @property
    def state(self) -> str: ...
    @property
    def quote_id(self) -> str | None: ...
    @property
    def pricing(self) -> Mapping[str, Any]: ...
    @property
    def total(self) -> int: ...
    @property
    def currency(self) -> str: ...
    @property
    def film(self) -> Mapping[str, Any] | None: ...
    @property
    def film_key(self) -> str | None: ...
    @property
    def error_code(self) -> str | None: ...
    @property
    def start_by(self) -> datetime | None: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def finished_at(self) -> datetime | None: ...


def make_receipt(book: PriceBook, job: EndedJob) -> Receipt:
    """Return the receipt of a job that has ended. `book` is the one that its quote froze.

    Raises KeyError, TypeError or ValueError for a row that cannot be priced.
    """
    quoted = Quoted(
        id=job.quote_id or job.id,
        usage=Usage.from_content(job.pricing["usage"]),
        customer=Customer.from_content(job.pricing["customer"]),
        at=datetime.fromisoformat(str(job.pricing["at"])),
        total=Money(job.total, job.currency),
    )
    return compute_receipt(book, quoted, _delivered(job))


def _delivered(job: EndedJob) -> Delivered:
    """Return what an ended job delivered, from the measurements of its stored film."""
    in_time = job.start_by is None or (job.started_at is not None and job.started_at <= job.start_by)
    facts, seconds = {"job": job.id}, Fraction(0)
    if job.error_code is not None:
        facts["error"] = job.error_code
    if "model_alias" in job.pricing:
        facts["model_alias"] = str(job.pricing["model_alias"])
    if job.film is not None:
        film = {name: str(job.film[name]) for name in ("sha256", "frames", "fps")}
        facts |= {"film": str(job.film_key), **film, "size": f"{job.film['width']}x{job.film['height']}"}
        seconds = Fraction(job.film["frames"] - job.film["reused_frames"]) / Fraction(job.film["fps"])
    return Delivered(outcome=str(job.state), seconds=seconds, started_in_time=in_time, facts=facts)


def receipt_columns(job: EndedJob, receipt: Receipt) -> dict[str, Any]:
    """Return the columns of a receipt's row by which receipts are searched and added up."""
    return {
        "account_id": job.account_id,
        "project_id": job.project_id,
        "outcome": receipt.delivered.outcome,
        "currency": job.currency,
        "quoted": job.total,
        "total": receipt.total.minor,
        "list_total": receipt.price.list_total.minor,
        "film_key": job.film_key,
        "film_sha256": receipt.delivered.facts.get("sha256"),
        "pricing_case": pricing_case(receipt),
        "priced_at": receipt.quoted.at,
        "test": job.test,
        "settled_at": job.finished_at,
    }


def pricing_case(receipt: Receipt) -> str:
    """Return the inputs of the receipt's price except the time, as canonical JSON, by which a simulation groups."""
    usage, customer = receipt.quoted.usage, receipt.quoted.customer
    share = receipt.billed_seconds / usage.seconds if usage.seconds else Fraction(0)
    return Case(
        key=usage.key,
        seconds=exact_text(receipt.billed_seconds),
        input_seconds=exact_text(usage.input_seconds * share),
        service_tier=usage.service_tier,
        tier_kept=receipt.delivered.started_in_time,
        membership=customer.membership,
        contract=customer.contract.content_hash if customer.contract else "",
        free_seconds=exact_text(receipt.price.free_seconds_used),
    ).to_json()
