"""Headers that name costs in US dollars for gateways in front: of one film, and of all that is committed.

They are sent where there is a rate (`CINEMETER_USD_RATE`, or a price book in US dollars), by the answer to the call
that orders a film and by a refusal for want of money. A gateway adds up the costs of all answers, so no other answer
names one: neither a poll nor a repeated call.
"""

from app.accounts.caller import Caller
from app.errors import AppError
from app.jobs.tables import Job
from app.jobs.usd import in_us_cents, in_usd, usd_rate
from app.wallet.committed_spend import CommittedSpend
from app.wallet.hold import InsufficientFunds
from pricing.money import Money

RESPONSE_COST = "x-litellm-response-cost"


def cost_headers(job: Job, minor: int) -> dict[str, str]:
    """Return the cost of a job, in minor units of its currency, as the header that LiteLLM's pass-through reads."""
    rate = job.price.get("usd_rate")
    if rate is None:
        return {}
    return {RESPONSE_COST: f"{in_usd(0 if job.test else minor, job.currency, rate):f}"}


def order_headers(job: Job, minor: int, spend: CommittedSpend | None) -> dict[str, str]:
    """Return the headers of the answer to an order: the price that is held for it, and what is committed with it.

    `job` is its first, `minor` the price of all its jobs in minor units. `spend` is what its caller may see.
    """
    rate = job.price.get("usd_rate")
    return {} if rate is None else {**cost_headers(job, minor), **_spend_headers(spend, rate)}


def refusal_headers(error: AppError, caller: Caller) -> dict[str, str]:
    """Return what is committed, as far as the caller may see it, for an order that the wallet or a budget refused.

    Other errors have nothing.
    """
    facts = error.facts
    spend: CommittedSpend | None = None
    if isinstance(error, InsufficientFunds):
        spend = error.spends.visible_to(caller)
    elif error.code == "budget_exceeded":
        amounts = [Money.parse(facts[name], facts["currency"]).minor for name in ("limit", "held", "spent")]
        spend = CommittedSpend(amounts[0], amounts[1] + amounts[2], facts["currency"])
    rate = None if spend is None else usd_rate(spend.currency)
    return {} if rate is None else _spend_headers(spend, rate)


def _spend_headers(spend: CommittedSpend | None, rate: str) -> dict[str, str]:
    """Return whole US cents: limits rounded down and commitments up, so that what remains is never overstated."""
    if spend is None:
        return {}
    limit = in_us_cents(spend.limit, spend.currency, rate, up=False)
    current = in_us_cents(spend.current, spend.currency, rate, up=True)
    return {
        "X-Committed-Spend-Limit": str(limit),
        "X-Committed-Spend-Current": str(current),
        "X-Committed-Spend-Remaining": str(max(0, limit - current)),
    }
