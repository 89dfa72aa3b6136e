"""The site in this process, and test browsers without scripts: they keep cookies and submit forms with CSRF tokens."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from html import unescape

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import Engine

from app.accounts.accounts import create_account
from app.accounts.members import add_member
from app.accounts.memberships import grant_membership
from app.accounts.passwords import hash_password
from app.cli.asgi import create_site
from app.clock import now
from app.db import transaction
from app.settings import get_settings
from app.wallet.balance import open_wallet
from app.wallet.funds import top_up
from app.web.headers import page_headers
from workers.worker_loop import WorkerLoop

PASSWORD = "correct horse battery"
# The hash is slow on purpose, so it is computed once.
_HASH = hash_password(PASSWORD)


class Browser:
    """A browser without scripts: it keeps cookies, follows redirects, and submits forms."""

    def __init__(self, app: TestClient) -> None:
        self.client = TestClient(app.app, raise_server_exceptions=False)
        self.page: Response | None = None

    def get(self, path: str, **headers: str) -> Response:
        self.page = self.client.get(path, headers={"accept": "text/html", "sec-fetch-site": "same-origin", **headers})
        return self.page

    def send(self, path: str, data: dict[str, object] | None = None, **headers: str) -> Response:
        """Submit a form with the CSRF token of the last page."""
        csrf_token = re.search(r'name="csrf" value="([^"]*)"', self.page.text if self.page else "")
        body = {"csrf": csrf_token[1] if csrf_token else "", **(data or {})}
        self.page = self.client.post(
            path, data=body, headers={"accept": "text/html", "sec-fetch-site": "same-origin", **headers}
        )
        return self.page

    def sign_in(self, email: str, password: str = PASSWORD) -> Response:
        self.get("/sign-in")
        return self.send("/sign-in", {"email": email, "password": password})

    def text(self) -> str:
        """Return the text of the last page without its markup."""
        assert self.page is not None
        bare = re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", self.page.text, flags=re.DOTALL)
        return re.sub(r"\s+", " ", unescape(bare)).strip()


@dataclass
class Site:
    """A small service with its pages: two customers and two admins, each account with one member."""

    app: TestClient
    accounts: dict[str, str] = field(default_factory=dict)

    def browser(self, name: str | None = None) -> Browser:
        browser = Browser(self.app)
        if name is not None:
            browser.sign_in(f"{name}@example.com")
        return browser

    def work(self) -> None:
        """Work off the queue in this process, as one worker would."""
        worker = WorkerLoop("worker-in-test", ["finish", "synthetic"])
        worker.open()
        try:
            worker.work()
        finally:
            worker.close()


PEOPLE = {
    "alice": ("owner", "creator"),
    "bob": ("owner", "creator"),
    "author": ("pricing_author", "operator"),
    "approver": ("pricing_approver",),
}


@cache
def shared_site() -> FastAPI:
    """The site of this process; building its routes anew for each test would cost more than the test."""
    return create_site()


@pytest.fixture
def site(engine: Engine, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("CINEMETER_SECRET", "a secret of this test")
    monkeypatch.setenv("CINEMETER_DEVICE", "cpu")
    get_settings.cache_clear()
    page_headers.cache_clear()
    accounts = {}
    with transaction(engine) as session:
        for name, roles in PEOPLE.items():
            account = create_account(session, name.title())
            open_wallet(session, account.id)
            if "creator" in roles:
                top_up(session, account.id, 100_000, kind="purchased", reference=f"seed {name}")
                starts_at = now(session) - timedelta(days=1)
                grant_membership(session, account.id, "professional", starts_at=starts_at)
            member = add_member(session, account.id, f"{name}@example.com", roles=roles, name=name)
            member.password_hash = _HASH
            accounts[name] = account.id
    with TestClient(shared_site(), raise_server_exceptions=False) as client:
        yield Site(client, accounts)
    get_settings.cache_clear()
    page_headers.cache_clear()
