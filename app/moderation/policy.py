"""The operator's policy of moderation: a TOML file, named by CINEMETER_MODERATION_POLICY."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from app.moderation.picture_policy import OnnxPolicy, PicturesPolicy, RepeatersPolicy
from app.moderation.rules import shipped_rules
from app.settings import get_settings

# An order waits for its check, and its caller for the order.
TIMEOUT_SECONDS_MIN = 0.1
TIMEOUT_SECONDS_MAX = 10
REVIEW_HOURS_MAX = 14 * 24
# What is refused whatever a policy says: nobody has to look at it, and no order of it waits.
NEVER_REVIEWED = "minors"


class RulesPolicy(BaseModel):
    """Which of the shipped rules call for a review in place of a refusal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Ids or categories of rules.
    review: tuple[str, ...] = ()

    @field_validator("review")
    @classmethod
    def _check_review(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        rules = shipped_rules().rules
        for name in names:
            categories = {rule.category for rule in rules if name in (rule.id, rule.category)}
            if not categories:
                raise ValueError(f"there is no rule or category {name[:80]!r}")
            if NEVER_REVIEWED in categories:
                raise ValueError(f"the category {NEVER_REVIEWED} is refused, never reviewed")
        return names


class HttpPolicy(BaseModel):
    """A server of OpenAI's `/v1/moderations` shape that checks the words of each order, and what holds without it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://", max_length=2048)
    key: SecretStr = SecretStr("")
    model: str | None = Field(None, max_length=200)
    timeout_seconds: float = Field(3.0, ge=TIMEOUT_SECONDS_MIN, le=TIMEOUT_SECONDS_MAX)
    # What becomes of an order when the server hangs, fails or answers nonsense: open allows it, closed refuses it, and
    # review leaves it to a moderator.
    on_failure: Literal["open", "closed", "review"] = "closed"
    # The server's categories that count; empty: all.
    categories: tuple[str, ...] = ()
    # Whether it gets the pictures of orders and films too, in the shape of OpenAI's omni-moderation.
    pictures: bool = False
    # Those of them that a moderator decides on, where they would refuse an order.
    review: tuple[str, ...] = ()
    # With it, scores decide in place of the server's flags: from the first on a moderator decides, from the second on
    # the order is refused.
    review_scores: tuple[float, float] | None = None

    @field_validator("review_scores")
    @classmethod
    def _check_scores(cls, scores: tuple[float, float] | None) -> tuple[float, float] | None:
        if scores is not None and not 0 < scores[0] <= scores[1] <= 1:
            raise ValueError("the scores must rise, from above 0 to at most 1")
        return scores

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None or parts.password is not None:
            raise ValueError("the url needs a host, and credentials belong into key")
        # Reading it raises ValueError for a number that is no port.
        if parts.port == 0:
            raise ValueError("0 is no port")
        return url


class ReviewPolicy(BaseModel):
    """How long a moderator has, and what becomes of an order that nobody has decided by then."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hours: float = Field(24.0, gt=0, le=REVIEW_HOURS_MAX)
    # Of orders of the tier priority, whose customers pay for an early start.
    priority_hours: float = Field(4.0, gt=0, le=REVIEW_HOURS_MAX)
    at_deadline: Literal["allow", "refuse"] = "refuse"


class StrictPolicy(BaseModel):
    """What is refused to accounts of the level `strict` besides: whatever would be reviewed is refused to them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Categories of the server that count for them beside `http.categories`.
    categories: tuple[str, ...] = ()


class ModerationPolicy(BaseModel):
    """What is checked besides the shipped rules, and what is left to moderators."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: HttpPolicy | None = None
    onnx: OnnxPolicy | None = None
    pictures: PicturesPolicy = PicturesPolicy()
    repeaters: RepeatersPolicy = RepeatersPolicy()
    rules: RulesPolicy = RulesPolicy()
    review: ReviewPolicy = ReviewPolicy()
    strict: StrictPolicy = StrictPolicy()

    @property
    def checks_pictures(self) -> bool:
        """Whether it names a checker of pictures."""
        return self.onnx is not None or (self.http is not None and self.http.pictures)


def moderation_policy() -> ModerationPolicy:
    """Return the policy of this process. Raises RuntimeError for a file that cannot be read or says something else."""
    return _read_policy(get_settings().moderation_policy)


@lru_cache(maxsize=4)
def _read_policy(path: Path | None) -> ModerationPolicy:
    if path is None:
        return ModerationPolicy()
    # Without its policy a process must not start: it would accept what the operator wants to be checked.
    try:
        policy = ModerationPolicy.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        # What the file says is not repeated: it may be the key.
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise RuntimeError(f"CINEMETER_MODERATION_POLICY cannot be used: {faults}") from None
    except OSError as error:
        raise RuntimeError(f"CINEMETER_MODERATION_POLICY cannot be read: {error.strerror}") from None
    except ValueError:
        raise RuntimeError("CINEMETER_MODERATION_POLICY cannot be used: it is no TOML file") from None
    if not policy.model_fields_set:
        # An empty file checks nothing that its operator expects.
        raise RuntimeError("CINEMETER_MODERATION_POLICY cannot be used: the file says nothing")
    return policy
