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


class Strict(BaseModel):
    """A body whose fields are all known."""

    model_config = ConfigDict(extra="forbid")


class PaperDraft(Strict):
    """A price book as a draft."""

    toml: Toml
    note: Note = Field("", description="Why, for the approver.")


class ContractDraft(PaperDraft):
    """A contract as a draft."""

    account: str = Field(max_length=64)


class PaperEdit(Strict):
    """A draft's new text; its note stays where nothing is said."""

    toml: Toml
    note: Note | None = None


class Approval(Strict):
    """Approval of a draft as it was read."""

    content_hash: str = Field(max_length=128, description="The hash that was read; an edit since then is a conflict.")


class Schedule(Strict):
    """From when on a paper is in force."""

    effective_at: AwareDatetime | None = Field(None, description="In the future; only a first paper may leave it out.")


class WithReason(Strict):
    """An act that says why."""

    reason: Reason


class ContractEnd(WithReason):
    """When a contract ends, and why."""

    at: AwareDatetime


class Period(Strict):
    """The settled jobs that a draft is tried on, from `since` up to and not including `until`; the last 30 days."""

    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class AccountDraft(Strict):
    """A new account."""

    name: Name
    kind: AccountKind = AccountKind.PREPAID
    currency: str = Field("CNY", min_length=3, max_length=3)
    billing_zone: str | None = Field(None, max_length=64, description="IANA zone of its billing months.")
    test: bool = False


class Limits(Strict):
    """An account's own limits; null leaves what its membership says."""

    concurrency: int | None = Field(ge=1, le=100_000)
    queue_limit: int | None = Field(ge=0, le=10_000_000)


class MembershipWish(Strict):
    """The membership that an account has from a moment on; `free` ends what it has."""

    membership: str = Field(max_length=64)
    starts_at: AwareDatetime | None = Field(None, description="Now, where nothing is said.")
    ends_at: AwareDatetime | None = None


class TopUp(Strict):
    """Money that comes in. The same reference again is the same order."""

    amount: Amount
    kind: Literal["purchased", "granted"]
    reference: Reference
    expires_at: AwareDatetime | None = None
    reason: Note = ""


class Correction(Strict):
    """Money put right: positive gives, negative takes."""

    amount: Amount
    reference: Reference
    reason: Reason
    video: str | None = Field(None, max_length=64)


class Refund(Strict):
    """Part or all of a job's charge, given back."""

    video: str = Field(max_length=64)
    amount: Amount
    reference: Reference
    reason: Reason


class CreditLimit(Strict):
    """How far below zero new jobs may take the wallet."""

    amount: Amount


class LowBalance(Strict):
    """Below what the owner is told; null: never."""

    amount: Amount | None


class KeyDraft(Strict):
    """A new key."""

    scopes: list[Scope] = Field(min_length=1, max_length=4)
    name: Note = ""
    test: bool = False
    project: str | None = Field(None, max_length=64)
    roles: list[Role] = Field(default_factory=list, max_length=5)
    expires_at: AwareDatetime | None = None
    budget_total: Amount | None = None
    job_cap: Amount | None = None


class InvitationDraft(Strict):
    """A person to invite."""

    email: str = Field(max_length=254)
    roles: list[Role] = Field(min_length=1, max_length=5)


class RolesWish(Strict):
    """A member's roles, all of them."""

    roles: list[Role] = Field(max_length=5)


class ProjectDraft(Strict):
    """A new project."""

    name: Name
    budget_month: Amount | None = None


class ProjectBudget(Strict):
    """A project's budget per month; null lifts it."""

    budget_month: Amount | None


class Pause(Strict):
    """New jobs stop for a model, an account, both together, or (neither named) altogether."""

    reason: Reason
    model: str | None = Field(None, max_length=64)
    account: str | None = Field(None, max_length=64)


class Several(BaseModel):
    """A whole list, as none of these grows long."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
