"""The operator's policy of moderation: a TOML file, named by CINEMETER_MODERATION_POLICY."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from app.settings import get_settings

# An order waits for its check, and its caller for the order.
TIMEOUT_SECONDS_MIN = 0.1
TIMEOUT_SECONDS_MAX = 10


class HttpPolicy(BaseModel):
    """A server of OpenAI's `/v1/moderations` shape that checks the words of each order, and what holds without it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://", max_length=2048)
    key: SecretStr = SecretStr("")
    model: str | None = Field(None, max_length=200)
    timeout_seconds: float = Field(3.0, ge=TIMEOUT_SECONDS_MIN, le=TIMEOUT_SECONDS_MAX)
    # What becomes of an order when the server hangs, fails or answers nonsense: open allows it, closed refuses it.
    on_failure: Literal["open", "closed"] = "closed"
    # The server's categories that refuse an order; empty: all.
    categories: tuple[str, ...] = ()

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


class SharingPolicy(BaseModel):
    """Whether owners may share films by links, and for how many days."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allowed: bool = True
    days: int = Field(7, ge=1, le=365)
    days_max: int = Field(90, ge=1, le=365)


class ModerationPolicy(BaseModel):
    """What is checked besides the shipped rules, and what may be shared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # None without a policy; a file must have it or `sharing`, as an empty one does nothing that its operator expects.
    http: HttpPolicy | None = None
    sharing: SharingPolicy | None = None


def moderation_policy() -> ModerationPolicy:
    """Return the policy of this process. Raises RuntimeError for a file that cannot be read or says something else."""
    return _read_policy(get_settings().moderation_policy)


def sharing_policy() -> SharingPolicy:
    """Return what the policy says of share links, or the defaults. Raises RuntimeError as `moderation_policy` does."""
    return moderation_policy().sharing or SharingPolicy()


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
    if policy.http is None and policy.sharing is None:
        raise RuntimeError("CINEMETER_MODERATION_POLICY cannot be used: the file has no [http] and no [sharing]")
    return policy
