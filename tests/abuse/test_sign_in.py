"""Guessing at the sign-in is slow, and never keeps the right password out."""

import pytest
from fastapi.testclient import TestClient

from app.db import transaction
from app.metrics import SIGN_INS
from app.settings import Settings
from app.web import signin_limits
from app.web.signin_limits import FREE_TRIES, FREE_TRIES_OF_MACHINE
from tests.app.web.conftest import Browser, Site

ALICE = "alice@example.com"
WRONG = "not the right one"


def browser_at(site: Site, address: str) -> Browser:
    """A browser whose requests come from this IP address."""
    browser = site.browser()
    browser.client = TestClient(site.app.app, raise_server_exceptions=False, client=(address, 50_000))
    return browser


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would have to wait is refused at once: a test does not wait for pauses."""
    for name in ("PAUSE_SECONDS", "PAUSE_SECONDS_MAX"):
        monkeypatch.setattr(signin_limits, name, 1000.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are as short as can be."""
    for name in ("PAUSE_SECONDS", "PAUSE_SECONDS_MAX"):
        monkeypatch.setattr(signin_limits, name, 0.001)


def tries() -> dict[str, float]:
    return {sample.labels["result"]: sample.value for family in SIGN_INS.collect() for sample in family.samples}


@pytest.mark.usefixtures("impatient")
def test_guesses_from_elsewhere_do_not_keep_the_right_password_out(site: Site) -> None:
    for number in range(4):
        guesser = browser_at(site, f"198.51.100.{number}")
        statuses = [guesser.sign_in(ALICE, WRONG).status_code for _ in range(FREE_TRIES + 2)]
        assert statuses == [401] * FREE_TRIES + [429] * 2
    answer = browser_at(site, "203.0.113.1").sign_in(ALICE)
    assert (answer.url.path, answer.status_code) == ("/studio", 200)


@pytest.mark.usefixtures("impatient")
def test_a_known_device_passes_beside_guesses_from_its_own_network(site: Site) -> None:
    known = browser_at(site, "198.51.100.1")
    assert known.sign_in(ALICE).status_code == 200
    known.send("/sign-out")
    guesser = browser_at(site, "198.51.100.1")
    for number in range(FREE_TRIES_OF_MACHINE):
        guesser.sign_in(f"guess{number}@example.com", WRONG)
    assert guesser.sign_in(ALICE, WRONG).status_code == 429
    assert browser_at(site, "198.51.100.1").sign_in(ALICE).status_code == 429, "an unknown browser waits its turn"
    assert known.sign_in(ALICE).url.path == "/studio"


@pytest.mark.usefixtures("impatient")
def test_a_known_device_guesses_as_slowly_as_anybody(site: Site) -> None:
    device = browser_at(site, "198.51.100.1")
    device.sign_in(ALICE)
    device.send("/sign-out")
    statuses = [device.sign_in(ALICE, WRONG).status_code for _ in range(FREE_TRIES + 1)]
    assert statuses == [401] * FREE_TRIES + [429]
    assert browser_at(site, "198.51.100.1").sign_in(ALICE).status_code == 200


@pytest.mark.usefixtures("impatient")
def test_a_device_is_known_for_its_own_member_only(site: Site) -> None:
    device = browser_at(site, "198.51.100.1")
    device.sign_in("bob@example.com")
    device.send("/sign-out")
    for _ in range(FREE_TRIES):
        assert device.sign_in(ALICE, WRONG).status_code == 401
    assert browser_at(site, "198.51.100.1").sign_in(ALICE).status_code == 429, "they count for the network"
    for token in ("", "x", "a.b.1.c", "a.b.99999999999.c"):
        device.client.cookies.set("cinemeter-device", token)
        assert device.sign_in(ALICE).status_code == 429


@pytest.mark.usefixtures("quick")
def test_a_slowed_try_with_the_right_password_signs_in(site: Site) -> None:
    browser = browser_at(site, "198.51.100.1")
    before = tries()
    for _ in range(FREE_TRIES + 3):
        assert browser.sign_in(ALICE, WRONG).status_code == 401
    assert browser.sign_in(ALICE).url.path == "/studio"
    after = tries()
    counts = {result: count - before.get(result, 0) for result, count in after.items()}
    assert (counts["wrong"], counts["slowed"], counts["ok"]) == (FREE_TRIES + 3, 4, 1)
    assert browser_at(site, "198.51.100.1").sign_in(ALICE, WRONG).status_code == 401
    assert tries()["slowed"] == after["slowed"], "the success forgot the tries before it"


@pytest.mark.usefixtures("impatient")
def test_an_open_session_cannot_use_up_the_tries_of_another(site: Site) -> None:
    here, there = site.browser("alice"), site.browser("alice")
    here.get("/account/profile")
    statuses = [
        here.send("/account/profile/password", {"current": WRONG, "password": "another long one"}).status_code
        for _ in range(signin_limits.TRIES_MAX + 1)
    ]
    assert statuses[-1] == 429
    there.get("/account/profile")
    form = {"current": "correct horse battery", "password": "another long one"}
    assert there.send("/account/profile/password", form).status_code == 200


@pytest.mark.usefixtures("quick")
def test_a_waiting_try_holds_no_session(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that held a connection would let a few guessers stop everybody else."""
    in_transaction: list[int] = []

    async def sleep(seconds: float) -> None:
        with transaction() as session:
            query = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND state = 'idle in transaction'"
            )
            in_transaction.append(int(session.connection().exec_driver_sql(query).scalar() or 0))

    monkeypatch.setattr("app.web.signin.sleep", sleep)
    browser = site.browser()
    for _ in range(FREE_TRIES + 1):
        browser.sign_in(ALICE, WRONG)
    assert in_transaction == [0] * (FREE_TRIES + 1)


def test_no_proxy_is_trusted_unless_it_is_named() -> None:
    assert Settings.model_fields["trusted_proxies"].default == ""
