"""The hardening list of SECURITY.md: `cinemeter doctor` checks each item, and every item can fail."""

import re
from pathlib import Path

import pytest

from app.cli.doctor_security import CHECKS, check_security
from app.cli.health_check import HealthCheck
from app.settings import get_settings

SECURITY = Path(__file__).parents[2] / ".github" / "SECURITY.md"
LONG = "x" * 32


def checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **environment: str) -> dict[str, HealthCheck]:
    for name, value in {"HOME": str(tmp_path / "home"), **environment}.items():
        monkeypatch.setenv(f"CINEMETER_{name}", value)
    get_settings.cache_clear()
    try:
        return {check.part: check for check in check_security()}
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()


def test_the_list_names_what_the_doctor_checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    section = SECURITY.read_text(encoding="utf-8").split("## Hardening list")[1]
    items = re.findall(r"^\| (\w[\w -]*?) \| ", section, flags=re.MULTILINE)[1:]
    assert items == list(checks(monkeypatch, tmp_path))
    assert len(items) == len(CHECKS)


def test_a_machine_of_a_developer_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The tests may run as root, which is a note.
    assert [
        each for each in checks(monkeypatch, tmp_path).values() if each.ok is not True and each.part != "user"
    ] == []


def test_a_hardened_service_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = {
        "SECRET": LONG,
        "HOST": "0.0.0.0",
        "PUBLIC_URL": "https://films.example.com",
        "TRUSTED_PROXIES": "10.1.2.3, 10.1.4.0/24",
        "DATABASE_URL": "postgresql://cinemeter:word@db.example.com/cinemeter?sslmode=verify-full",
        "REDIS_URL": "rediss://:word@redis.example.com/0",
    }
    results = checks(monkeypatch, tmp_path, **settings)
    assert [each for each in results.values() if each.ok is not True and each.part != "user"] == []
    assert not [each for each in results.values() if "word" in each.result]


@pytest.mark.parametrize(
    ("part", "ok", "settings"),
    [
        ("secret", False, {"SECRET": "short"}),
        ("TLS", False, {"PUBLIC_URL": "http://films.example.com"}),
        ("TLS", None, {"HOST": "0.0.0.0"}),
        ("trusted proxies", False, {"TRUSTED_PROXIES": "*"}),
        ("trusted proxies", False, {"TRUSTED_PROXIES": "10.0.0.1, 0.0.0.0/0"}),
        ("trusted proxies", False, {"TRUSTED_PROXIES": "::/0"}),
        ("trusted proxies", None, {"PUBLIC_URL": "https://films.example.com"}),
        ("sign-up", None, {"SIGNUP": "open"}),
        ("private addresses", None, {"WEBHOOK_ALLOW_PRIVATE": "1"}),
        ("private addresses", False, {"WEBHOOK_ALLOW_PRIVATE": "1", "HOST": "0.0.0.0"}),
        ("metrics", None, {"METRICS_PORT": "9100", "HOST": "0.0.0.0"}),
        ("database link", None, {"DATABASE_URL": "postgresql://cinemeter:word@db.example.com/cinemeter"}),
        ("Redis password", False, {"REDIS_URL": "redis://redis.example.com/0"}),
        ("fault switch", False, {"SYNTHETIC_FAULTS": "/tmp/faults"}),
        ("clock offset", False, {"CLOCK_OFFSET_SECONDS": "60"}),
    ],
)
def test_each_item_can_fail_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str, ok: bool | None, settings: dict[str, str]
) -> None:
    check = checks(monkeypatch, tmp_path, **settings)[part]
    assert (check.ok, bool(check.fix)) == (ok, True), check


def test_a_secret_and_a_home_that_others_can_reach_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "secret").write_text(LONG)
    (home / "secret").chmod(0o600)
    assert checks(monkeypatch, tmp_path)["secret"].ok
    (home / "secret").chmod(0o644)
    assert checks(monkeypatch, tmp_path)["secret"].ok is False
    assert checks(monkeypatch, tmp_path)["home folder"].ok
    home.chmod(0o777)
    check = checks(monkeypatch, tmp_path)["home folder"]
    assert (check.ok, check.fix) == (False, f"chmod go-w {home}")
