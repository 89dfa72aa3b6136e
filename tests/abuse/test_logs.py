"""The log lines of a customer's journey hold nothing that opens something, and no text of a stranger is a command."""

import io
import json
import logging
import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from PIL import Image

from app.accounts.invitations import create_invitation
from app.accounts.keys import issue_key
from app.accounts.members import add_member
from app.db import transaction
from app.logs import JsonLines, TextLines, ids_of_path
from app.metrics import REGISTRY
from app.net.addresses import without_query
from app.settings import get_settings
from app.web.password_links import welcome_links
from tests.api_client import SCOPES
from tests.app.web.conftest import PASSWORD, Browser, Site
from tests.app.webhooks.couriers import courier_thread
from tests.workers.worker_processes import wait_until

NEW_PASSWORD = "a password that is new and long"
SIGNATURE = "5f3c9d7e1b"
PROMPT = "a prompt that nobody else may read"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Lines(logging.Handler):
    """Every line that this process logs, in both forms."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self._forms = (TextLines("api"), JsonLines("api"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("httpx"):
            # The test's own client is no part of the service.
            return
        for form in self._forms:
            record.exc_text = None
            self.lines.append(form.format(record))

    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def logs() -> Iterator[Lines]:
    root, handler = logging.getLogger(), Lines()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


class Customer:
    """A browser and a key of one account, and every secret that they handle."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.browser = site.browser()
        with transaction() as session:
            self.key = issue_key(session, site.accounts["alice"], scopes=SCOPES)[1]
        self.secrets: dict[str, str] = {"key": self.key, "password": PASSWORD, "prompt": PROMPT, "signature": SIGNATURE}

    def keep(self, name: str, secret: str) -> str:
        assert len(secret) >= 10, f"{name} is no secret: {secret}"
        self.secrets[name] = secret
        return secret

    def call(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return self.browser.client.request(method, path, headers=headers, **options)

    def keep_cookies(self, browser: Browser) -> None:
        for cookie, value in dict(browser.client.cookies).items():
            if cookie.endswith("cinemeter"):
                self.keep(f"{cookie} {value[:8]}", value)
        field = re.search(r'name="csrf" value="([^"]+)"', browser.page.text if browser.page else "")
        if field:
            self.keep(f"csrf {field[1][:8]}", field[1])


def path_of(link: str) -> str:
    return link.removeprefix(get_settings().base_url())


def sign_in_and_make_keys(customer: Customer) -> None:
    browser = customer.browser
    browser.sign_in("alice@example.com")
    browser.get("/account/keys")
    customer.keep_cookies(browser)
    browser.send("/account/keys", {"name": "for a program", "scopes": "videos"})
    customer.keep("key of the page", re.search(r"cm_(?:live|test)_\w+", unescape(browser.page.text))[0])
    rotated = customer.call("POST", "/v1/keys/self/rotate", json={"overlap_hours": 1})
    customer.keep("rotated key", rotated.json()["secret"])


def open_links_of_members(customer: Customer) -> None:
    with transaction() as session:
        account = customer.site.accounts["alice"]
        _, token = create_invitation(session, account, "guest@example.com", roles=("creator",), by="alice")
        add_member(session, account, "new@example.com", roles=("creator",))
        welcome = path_of(welcome_links(session)["new@example.com"])
    customer.keep("invitation", token)
    customer.keep("welcome link", welcome.rpartition("/")[2])
    for path in (f"/invitations/{token}", welcome):
        browser = customer.site.browser()
        assert browser.get(path).status_code == 200
        # A link that was copied badly leads nowhere, and is as secret as the right one.
        assert browser.client.get(f"{path}/", follow_redirects=False).status_code in (307, 404)
        assert browser.client.get(f"/x{path}").status_code == 404
        browser.get(path)
        browser.send(path, {"password": NEW_PASSWORD, "name": "Guest"})
        customer.keep_cookies(browser)
    customer.keep("new password", NEW_PASSWORD)


def upload_files(customer: Customer) -> None:
    file = io.BytesIO()
    Image.new("RGB", (320, 200)).save(file, "PNG")
    body = {"content_type": "image/png", "bytes": len(file.getvalue())}
    upload = customer.call("POST", "/v1/assets/uploads", json=body).json()["upload"]
    customer.keep("upload link", upload["url"].rpartition("/")[2])
    put = customer.browser.client.put(path_of(upload["url"]), content=file.getvalue(), headers=upload["headers"])
    assert put.status_code == 200, put.text
    policy = customer.call("GET", "/api/v1/uploads?action=getPolicy&model=synthetic").json()["data"]
    customer.keep("upload permit", policy["upload_host"].rpartition("/")[2])
    form = {"key": f"{policy['upload_dir']}/a.png"}
    files = {"file": ("a.png", file.getvalue(), "image/png")}
    assert customer.browser.client.post(path_of(policy["upload_host"]), data=form, files=files).status_code == 200


def order_films(customer: Customer) -> None:
    endpoint = {"url": f"https://hooks.example.com/in?token={SIGNATURE}", "event_types": ["*"]}
    customer.keep(
        "webhook secret", customer.call("POST", "/v1/webhook_endpoints", json=endpoint).json()["signing_secret"]
    )
    order = {"model": "synthetic", "prompt": PROMPT, "seconds": 1, "resolution": "480P"}
    for url in (
        f"http://pictures.example.invalid/a.png?X-Amz-Signature={SIGNATURE}",
        f"https://user:{SIGNATURE}@pictures.example.invalid/a.png",
        f"https://pictures.example.invalid:notaport/a.png?{SIGNATURE}",
    ):
        refused = customer.call("POST", "/v1/videos", json={**order, "first_frame": url})
        assert refused.status_code == 422, refused.text
    callback = {"callback_url": f"https://hooks.example.com/done?token={SIGNATURE}"}
    video = customer.call("POST", "/v1/videos", json={**order, **callback}).json()
    customer.site.work()
    video = customer.call("GET", f"/v1/videos/{video['id']}").json()
    assert video["status"] == "completed", video
    link = customer.call("GET", f"/api/v1/tasks/{video['id']}").json()["output"]["video_url"]
    customer.keep("film link", link.rpartition("/")[2])
    assert customer.browser.client.get(path_of(link)).status_code == 200
    with transaction() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM webhook_deliveries").scalar()


def test_the_logs_of_a_journey_hold_none_of_its_secrets(site: Site, logs: Lines) -> None:
    customer = Customer(site)
    sign_in_and_make_keys(customer)
    open_links_of_members(customer)
    upload_files(customer)
    order_films(customer)
    count = len(logs.lines)
    with courier_thread():
        wait_until(lambda: _attempts() > 0, "the courier has tried")
    text = logs.text()
    assert len(customer.secrets) >= 15, sorted(customer.secrets)
    assert [name for name, secret in customer.secrets.items() if secret in text] == []
    for pattern in ("GET /welcome/{token} 200", "POST /invitations/{token}", "GET /files/{token} 200"):
        assert pattern in text
    assert "pictures.example.invalid/a.png" in text
    assert len(logs.lines) >= count > 0


def _attempts() -> int:
    with transaction() as session:
        return int(session.connection().exec_driver_sql("SELECT count(*) FROM webhook_attempts").scalar() or 0)


def test_the_text_of_a_stranger_cannot_command_a_terminal(site: Site, logs: Lines) -> None:
    for path in ("/%1b[31m", "/v1/videos/%00%07%1b]0;owned%07", "/a%0a2026-11-29 INFO api: forged", "/%c2%9b31m"):
        site.browser().client.get(path)
    for line in logs.lines:
        assert not CONTROL.search(line), repr(line)
        assert "forged" not in line


def test_control_characters_are_escaped_in_both_forms() -> None:
    hostile = "one\ntwo\x1b[31m\x7f\x9b\u2028\u202ethree"
    record = logging.LogRecord("test", logging.INFO, __file__, 1, "a name: %s", (hostile,), None)
    text = TextLines("api").format(record)
    assert not CONTROL.search(text)
    assert "one\\u000atwo\\u001b[31m\\u007f\\u009b\\u2028\\u202ethree" in text
    line = JsonLines("api").format(record)
    assert not CONTROL.search(line)
    assert json.loads(line)["message"] == f"a name: {hostile}"


def test_a_traceback_cannot_pretend_to_be_a_line_of_its_own() -> None:
    try:
        raise ValueError("bad\n2026-11-29 00:00:00 INFO api: all is well\x1b[2J")
    except ValueError as error:
        information = (type(error), error, error.__traceback__)
        record = logging.LogRecord("test", logging.ERROR, __file__, 1, "it broke", None, information)
    first, *rest = TextLines("api").format(record).split("\n")
    assert first.endswith("it broke")
    assert all(line.startswith("  ") and not CONTROL.search(line) for line in rest)
    assert json.loads(JsonLines("api").format(record))["traceback"]


@pytest.mark.parametrize(
    ("value", "is_id"),
    [
        ("video_4k6v8h2k4k6v8h2k4k6v8h2k", True),
        ("member_4k6v8h2k4k6v8h2k4k6v8h2k.1796060518.-OggsztmmDYZ", False),
        ("kq3v0n2T_1kM8mW6w7oCq0yq3v0n2T1kM8mW6w7oCq0", False),
        ("video_x\x1b[31m", False),
    ],
)
def test_only_ids_of_a_path_are_logged(value: str, is_id: bool) -> None:
    assert ids_of_path({"video_id": value}) == ({"job_id": value} if is_id else {})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/b.png?X-Amz-Signature=1#2", "https://a.example/b.png"),
        ("https://user:word@a.example:8443/b", "https://a.example:8443/b"),
        ("https://a.example:notaport/b?secret", "a malformed URL"),
    ],
)
def test_a_url_is_logged_without_its_query(url: str, shown: str) -> None:
    assert without_query(url) == shown


def test_strangers_make_no_time_series_by_inventing_methods(site: Site) -> None:
    answers = [site.app.request(method, "/healthz").status_code for method in ("BREW", "PROPFIND")]
    assert answers == [405, 405]
    metrics = "".join(str(family) for family in _request_metrics())
    assert "BREW" not in metrics
    assert "'other'" in metrics


def _request_metrics() -> list[Any]:

    return [family for family in REGISTRY.collect() if family.name == "cinemeter_requests"]
