"""Request bodies of the admin interface: unknown fields are rejected by name; money is a decimal string."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from app.accounts.tables import AccountKind, ModerationLevel
from app.provenance.label_policy import VisibleLabel
from app.roles import Role, Scope

Toml = Annotated[str, StringConstraints(min_length=1, max_length=500_000)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_000)]
Reference = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Amount = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,12}(\.[0-9]{1,2})?$")]


class StrictBody(BaseModel):
    """A request body that rejects unknown fields."""

    model_config = ConfigDict(extra="forbid")


class PriceDocumentIn(StrictBody):
    """The draft of a price book."""

    toml: Toml
    note: Note = Field("", description="The reason for the change, for the approver.")


class ContractIn(PriceDocumentIn):
    """The draft of a contract."""

    account: str = Field(max_length=64)


class PriceDocumentEditIn(StrictBody):
    """A draft's new text. If `note` is omitted, the note stays."""

    toml: Toml
    note: Note | None = None


class ApprovalIn(StrictBody):
    """Approval of a draft by its content hash."""

    content_hash: str = Field(
        max_length=128,
        description="The hash of the text that was reviewed. If the draft was edited since, the answer is `conflict`.",
    )


class ScheduleIn(StrictBody):
    """When a price book or contract takes effect."""

    effective_at: AwareDatetime | None = Field(
        None, description="A time in the future. Only a first book or contract may omit it."
    )


class ReasonIn(StrictBody):
    """The reason for an action."""

    reason: Reason


class ContractEndIn(ReasonIn):
    """When a contract ends, and why."""

    at: AwareDatetime


class PeriodIn(StrictBody):
    """The period of the settled jobs to simulate: from `since` up to, not including, `until`. Default: 30 days."""

    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class AccountIn(StrictBody):
    """A new account."""

    name: Name
    kind: AccountKind = AccountKind.PREPAID
    currency: str = Field("CNY", min_length=3, max_length=3)
    billing_zone: str | None = Field(None, max_length=64, description="IANA time zone of its billing months.")
    test: bool = False


class AccountLimitsIn(StrictBody):
    """An account's own limits; null applies its membership's limit."""

    concurrency: int | None = Field(ge=1, le=100_000)
    queue_limit: int | None = Field(ge=0, le=10_000_000)


class VisibleLabelIn(StrictBody):
    """The label that an account's films show; null applies the service's default."""

    visible_label: VisibleLabel | None


class ModerationLevelIn(StrictBody):
    """How an account's orders are moderated: to a strict one, what others have reviewed is refused, and more."""

    moderation_level: ModerationLevel


class DeclarationsIn(StrictBody):
    """Whether an account has to declare that it may use the files that it sends."""

    declarations_required: bool


class MembershipIn(StrictBody):
    """The membership of an account from a given time on. `free` ends its current one."""

    membership: str = Field(max_length=64)
    starts_at: AwareDatetime | None = Field(None, description="Default: now.")
    ends_at: AwareDatetime | None = None


class TopUpIn(StrictBody):
    """Money to add. A repeated reference does nothing new."""

    amount: Amount
    kind: Literal["purchased", "granted"]
    reference: Reference
    expires_at: AwareDatetime | None = None
    reason: Note = ""


class CorrectionIn(StrictBody):
    """A balance correction: a positive amount adds money, a negative amount removes it."""

    amount: Amount
    reference: Reference
    reason: Reason
    video: str | None = Field(None, max_length=64)


class RefundIn(StrictBody):
    """A refund of part or all of a job's charge."""

    video: str = Field(max_length=64)
    amount: Amount
    reference: Reference
    reason: Reason


class CreditLimitIn(StrictBody):
    """How far below zero new jobs may take the balance."""

    amount: Amount


class LowBalanceIn(StrictBody):
    """The balance below which the owner is notified; null turns it off."""

    amount: Amount | None


class KeyIn(StrictBody):
    """A new key."""

    scopes: list[Scope] = Field(min_length=1, max_length=4)
    name: Note = ""
    test: bool = False
    project: str | None = Field(None, max_length=64)
    roles: list[Role] = Field(default_factory=list, max_length=6)
    expires_at: AwareDatetime | None = None
    budget_total: Amount | None = None
    job_cap: Amount | None = None


class InvitationIn(StrictBody):
    """The invitation of a person."""

    email: str = Field(max_length=254)
    roles: list[Role] = Field(min_length=1, max_length=6)


class RolesIn(StrictBody):
    """The complete list of a member's roles."""

    roles: list[Role] = Field(max_length=6)


class ProjectIn(StrictBody):
    """A new project."""

    name: Name
    budget_month: Amount | None = None


class ProjectBudgetIn(StrictBody):
    """A project's monthly budget; null removes it."""

    budget_month: Amount | None


class PauseIn(StrictBody):
    """A pause of new jobs: of a model, of an account, of both together, or (with neither) of all."""

    reason: Reason
    model: str | None = Field(None, max_length=64)
    account: str | None = Field(None, max_length=64)


class AffectedOut(BaseModel):
    """A complete list without pages, as it is never long."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
