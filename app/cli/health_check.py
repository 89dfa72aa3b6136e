"""The result of one check of `cinemeter doctor`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HealthCheck:
    """The result of one check. `ok` None is a note: the service runs with limitations."""

    part: str
    ok: bool | None
    result: str
    fix: str = ""
