"""What the operators' door takes in: unknown fields are refused by name; money is a decimal string."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from app.accounts.tables import AccountKind
from app.roles import Role, Scope

Toml = Annotated[str, StringConstraints(min_length=1, max_length=500_000)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_000)]
Reference = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Amount = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,12}(\.[0-9]{1,2})?$")]


class StrictBody(BaseModel):
    """A body whose fields are all known."""

    model_config = ConfigDict(extra="forbid")


class PriceDocumentIn(StrictBody):
    """A price book as a draft."""

    toml: Toml
    note: Note = Field("", description="Why, for the approver.")


class ContractIn(PriceDocumentIn):
    """A contract as a draft."""

    account: str = Field(max_length=64)


class PriceDocumentEditIn(StrictBody):
    """A draft's new text; its note stays where nothing is said."""

    toml: Toml
    note: Note | None = None


class ApprovalIn(StrictBody):
    """Approval of a draft as it was read."""

    content_hash: str = Field(max_length=128, description="The hash that was read; an edit since then is a conflict.")


class ScheduleIn(StrictBody):
    """From when on a paper is in force."""

    effective_at: AwareDatetime | None = Field(None, description="In the future; only a first paper may leave it out.")


class ReasonIn(StrictBody):
    """An act that says why."""

    reason: Reason


class ContractEndIn(ReasonIn):
    """When a contract ends, and why."""

    at: AwareDatetime


class PeriodIn(StrictBody):
    """The settled jobs that a draft is tried on, from `since` up to and not including `until`; the last 30 days."""

    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class AccountIn(StrictBody):
    """A new account."""

    name: Name
    kind: AccountKind = AccountKind.PREPAID
    currency: str = Field("CNY", min_length=3, max_length=3)
    billing_zone: str | None = Field(None, max_length=64, description="IANA zone of its billing months.")
    test: bool = False


class AccountLimitsIn(StrictBody):
    """An account's own limits; null leaves what its membership says."""

    concurrency: int | None = Field(ge=1, le=100_000)
    queue_limit: int | None = Field(ge=0, le=10_000_000)


class MembershipIn(StrictBody):
    """The membership that an account has from a moment on; `free` ends what it has."""

    membership: str = Field(max_length=64)
    starts_at: AwareDatetime | None = Field(None, description="Now, where nothing is said.")
    ends_at: AwareDatetime | None = None


class TopUpIn(StrictBody):
    """Money that comes in. The same reference again is the same order."""

    amount: Amount
    kind: Literal["purchased", "granted"]
    reference: Reference
    expires_at: AwareDatetime | None = None
    reason: Note = ""


class CorrectionIn(StrictBody):
    """Money put right: positive gives, negative takes."""

    amount: Amount
    reference: Reference
    reason: Reason
    video: str | None = Field(None, max_length=64)


class RefundIn(StrictBody):
    """Part or all of a job's charge, given back."""

    video: str = Field(max_length=64)
    amount: Amount
    reference: Reference
    reason: Reason


class CreditLimitIn(StrictBody):
    """How far below zero new jobs may take the wallet."""

    amount: Amount


class LowBalanceIn(StrictBody):
    """Below what the owner is told; null: never."""

    amount: Amount | None


class KeyIn(StrictBody):
    """A new key."""

    scopes: list[Scope] = Field(min_length=1, max_length=4)
    name: Note = ""
    test: bool = False
    project: str | None = Field(None, max_length=64)
    roles: list[Role] = Field(default_factory=list, max_length=5)
    expires_at: AwareDatetime | None = None
    budget_total: Amount | None = None
    job_cap: Amount | None = None


class InvitationIn(StrictBody):
    """A person to invite."""

    email: str = Field(max_length=254)
    roles: list[Role] = Field(min_length=1, max_length=5)


class RolesIn(StrictBody):
    """A member's roles, all of them."""

    roles: list[Role] = Field(max_length=5)


class ProjectIn(StrictBody):
    """A new project."""

    name: Name
    budget_month: Amount | None = None


class ProjectBudgetIn(StrictBody):
    """A project's budget per month; null lifts it."""

    budget_month: Amount | None


class PauseIn(StrictBody):
    """New jobs stop for a model, an account, both together, or (neither named) altogether."""

    reason: Reason
    model: str | None = Field(None, max_length=64)
    account: str | None = Field(None, max_length=64)


class AffectedOut(BaseModel):
    """A whole list, as none of these grows long."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
