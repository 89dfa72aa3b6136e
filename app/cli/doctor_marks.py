"""The certificate that signs films, as a check for `cinemeter doctor`. It makes none: workers do that."""

from datetime import timedelta

from app.cli.health_check import HealthCheck
from app.clock import local_now
from app.provenance.manifest import try_identity
from app.provenance.mark_state import MarkError
from app.provenance.signing import DEVELOPMENT_FILE, read_identity
from app.settings import get_settings

_DAYS_MIN = 30
_FIX = "Set CINEMETER_SIGNING_KEY to a PEM file: private key, its C2PA certificate, and those that issued it."


def check_marks() -> list[HealthCheck]:
    """Check that films can be signed, for how long, and whether by more than a development certificate."""
    settings = get_settings()
    path = settings.signing_key or settings.home.absolute() / DEVELOPMENT_FILE
    if settings.signing_key is None and not path.exists():
        return [HealthCheck("marks", None, "development certificate, made when a worker first starts", _FIX)]
    try:
        identity = read_identity(path, is_development=settings.signing_key is None)
        if identity.expires_at > local_now():
            try_identity(identity)
    except (MarkError, OSError) as error:
        return [HealthCheck("marks", False, str(error), _FIX)]
    remaining, until = identity.expires_at - local_now(), f"until {identity.expires_at:%Y-%m-%d}"
    if remaining <= timedelta(days=_DAYS_MIN):
        is_expired = remaining <= timedelta(0)
        return [HealthCheck("marks", False if is_expired else None, f"{identity.name}, {until}", _FIX)]
    if identity.is_development:
        return [HealthCheck("marks", None, f"{identity.name} {until}: no verifier trusts it", _FIX)]
    return [HealthCheck("marks", True, f"{identity.name}, {until}")]
