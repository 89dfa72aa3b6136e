"""The operator's policy of moderation: a TOML file, named by CINEMETER_MODERATION_POLICY."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from app.settings import get_settings

# An order waits for its check, and its caller for the order.
TIMEOUT_SECONDS_MAX = 10


class HttpPolicy(BaseModel):
    """A server of OpenAI's `/v1/moderations` shape that checks the words of each order, and what holds without it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://", max_length=2048)
    key: SecretStr = SecretStr("")
    model: str | None = Field(None, max_length=200)
    timeout_seconds: float = Field(3.0, gt=0, le=TIMEOUT_SECONDS_MAX)
    # What becomes of an order when the server hangs, fails or answers nonsense: open allows it, closed refuses it.
    on_failure: Literal["open", "closed"] = "closed"
    # The server's categories that refuse an order; empty: all.
    categories: tuple[str, ...] = ()


class ModerationPolicy(BaseModel):
    """What is checked besides the shipped rules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: HttpPolicy | None = None


def moderation_policy() -> ModerationPolicy:
    """Return the policy of this process. Raises RuntimeError for a file that cannot be read or says something else."""
    return _read_policy(get_settings().moderation_policy)


@lru_cache(maxsize=4)
def _read_policy(path: Path | None) -> ModerationPolicy:
    if path is None:
        return ModerationPolicy()
    try:
        return ModerationPolicy.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        # Without its policy a process must not start: it would accept what the operator wants to be checked.
        raise RuntimeError(f"CINEMETER_MODERATION_POLICY cannot be used: {error}") from error
