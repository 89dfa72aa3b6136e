"""The hardening list of .github/SECURITY.md as checks for `cinemeter doctor`: settings only, nothing is contacted."""

import os
import stat
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from app.cli.health_check import HealthCheck
from app.settings import Settings, get_settings

SECRET_LENGTH_MIN = 32
# A proxy is a machine or a small network; whoever trusts more lets customers choose their own address.
PROXY_ADDRESSES_MAX = 1 << 16


def check_security() -> list[HealthCheck]:
    """Check every item of the hardening list."""
    settings = get_settings()
    return [check(settings) for check in CHECKS]


def _secret(settings: Settings) -> HealthCheck:
    fix = "Set CINEMETER_SECRET to the output of `openssl rand -hex 24`, the same on every machine, and keep it."
    secret, path = settings.secret.get_secret_value(), settings.home.absolute() / "secret"
    if secret:
        return HealthCheck("secret", len(secret) >= SECRET_LENGTH_MIN, f"{len(secret)} characters", fix)
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return HealthCheck("secret", False, f"{path} can be read by others", f"chmod 600 {path}")
    return HealthCheck("secret", True, f"{path}, for this machine only")


def _public_url(settings: Settings) -> HealthCheck:
    url = settings.base_url()
    fix = "Put a TLS proxy before the API and set CINEMETER_PUBLIC_URL to its https:// URL."
    if url.startswith("https://"):
        return HealthCheck("TLS", True, url)
    if _is_loopback(urlsplit(url).hostname or "") and _is_loopback(settings.host):
        return HealthCheck("TLS", True, f"{url}, for this machine only")
    # Without a public URL nobody has said yet how customers reach this service.
    ok = False if settings.public_url else None
    return HealthCheck("TLS", ok, f"{url}: keys and passwords travel in the clear", fix)


def _proxies(settings: Settings) -> HealthCheck:
    part, proxies = "trusted proxies", [each.strip() for each in settings.trusted_proxies.split(",") if each.strip()]
    fix = "Name in CINEMETER_TRUSTED_PROXIES only the addresses from which your proxy connects to the API."
    if any(_is_too_wide(each) for each in proxies):
        return HealthCheck(part, False, f"{settings.trusted_proxies}: strangers can choose their address", fix)
    if not proxies and settings.base_url().startswith("https://"):
        return HealthCheck(part, None, "none: tries at the sign-in count for the proxy's own address", fix)
    return HealthCheck(part, True, settings.trusted_proxies or "none")


def _egress(settings: Settings) -> HealthCheck:
    part = "private addresses"
    if not settings.webhook_allow_private:
        return HealthCheck(part, True, "refused")
    fix = "Unset CINEMETER_WEBHOOK_ALLOW_PRIVATE: customers can reach your network by webhooks and file URLs."
    return HealthCheck(part, None if _is_loopback(settings.host) else False, "allowed", fix)


def _sign_up(settings: Settings) -> HealthCheck:
    fix = "CINEMETER_SIGNUP=invitation, unless everybody may open an account and learn whether an address has one."
    return HealthCheck("sign-up", None if settings.signup == "open" else True, settings.signup, fix)


def _metrics(settings: Settings) -> HealthCheck:
    if not settings.metrics_port or _is_loopback(settings.host):
        return HealthCheck("metrics", True, "not served" if not settings.metrics_port else "for this machine only")
    where = f"{settings.host}:{settings.metrics_port}, without a key"
    return HealthCheck("metrics", None, where, "Let only Prometheus reach the metrics port; never publish it.")


def _database(settings: Settings) -> HealthCheck:
    part, url = "database link", urlsplit(settings.database_url)
    mode = parse_qs(url.query).get("sslmode", ["prefer"])[0]
    if not settings.database_url or _is_loopback(url.hostname or "") or mode in ("require", "verify-ca", "verify-full"):
        return HealthCheck(part, True, "embedded" if not settings.database_url else f"{url.hostname}, {mode}")
    fix = "Add sslmode=verify-full to CINEMETER_DATABASE_URL, unless the network between them is your own."
    return HealthCheck(part, None, f"{url.hostname}, sslmode {mode}", fix)


def _redis(settings: Settings) -> HealthCheck:
    part, url = "Redis password", urlsplit(settings.redis_url)
    if not settings.redis_url or url.password or _is_loopback(url.hostname or ""):
        return HealthCheck(part, True, "set" if url.password else "for this machine only")
    fix = "Set requirepass in Redis and the password in CINEMETER_REDIS_URL: its wake-ups and limits are open to all."
    return HealthCheck(part, False, f"none at {url.hostname}", fix)


def _faults(settings: Settings) -> HealthCheck:
    fix = "Unset CINEMETER_SYNTHETIC_FAULTS: its files break renders."
    return HealthCheck("fault switch", settings.synthetic_faults is None, str(settings.synthetic_faults or "off"), fix)


def _clock(settings: Settings) -> HealthCheck:
    offset, fix = (
        settings.clock_offset_seconds,
        "Unset CINEMETER_CLOCK_OFFSET_SECONDS: prices, links and leases follow it.",
    )
    return HealthCheck("clock offset", offset == 0, f"{offset} s", fix)


def _user(settings: Settings) -> HealthCheck:
    fix = "Run the roles as an ordinary user; the images do."
    return HealthCheck("user", None if os.getuid() == 0 else True, "root" if os.getuid() == 0 else "not root", fix)


def _home(settings: Settings) -> HealthCheck:
    folder = settings.home.absolute()
    if not folder.exists():
        return HealthCheck("home folder", True, "made at the first start")
    exposed = [path for path in (folder, *_private(folder)) if _is_writable_by_others(path)]
    names = ", ".join(str(path) for path in exposed)
    return HealthCheck("home folder", not exposed, names or str(folder), f"chmod go-w {names}")


def _private(folder: Path) -> list[Path]:
    return [path for path in (folder / "logs", folder / "files", folder / "secret") if path.exists()]


def _is_writable_by_others(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o022)


def _is_loopback(host: str) -> bool:
    if host in ("localhost", ""):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_too_wide(proxy: str) -> bool:
    """Return whether a trusted proxy is everybody, or no address at all."""
    try:
        return ip_network(proxy, strict=False).num_addresses > PROXY_ADDRESSES_MAX
    except ValueError:
        return True


# In the order of the list in .github/SECURITY.md.
CHECKS: tuple[Callable[[Settings], HealthCheck], ...] = (
    _secret,
    _public_url,
    _proxies,
    _sign_up,
    _egress,
    _metrics,
    _database,
    _redis,
    _home,
    _user,
    _faults,
    _clock,
)
