"""A real browser: Chromium under Playwright, monitored for errors and for requests to other hosts."""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect, sync_playwright

from app.settings import child_environment
from tests.live_service import Service

PASSWORD = "correct horse battery"
AXE = Path("tests/app/web/vendor/axe.min.js")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Generous, because the test machine may be busy.
PATIENCE_MS = 60_000

expect.set_options(timeout=PATIENCE_MS)


def chromium() -> str:
    """Return the path of Chromium. `make test` installs it; the failure message says how to install it elsewhere."""
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    assert program, "These tests need Chromium: `apt-get install chromium`, or put a `chromium` on the PATH."
    return program


@contextmanager
def browsers(fonts: Path | None = None) -> Iterator[Browser]:
    """Start Chromium. `fonts` is a fontconfig file; without it the machine's fonts are used."""
    environment = child_environment() | ({"FONTCONFIG_FILE": str(fonts)} if fonts else {})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--mute-audio"], env={**environment}
        )
        yield browser
        browser.close()


class Watch:
    """Collects a page's faults: console and script errors, failed responses, requests to other hosts."""

    def __init__(self, page: Page, service: Service) -> None:
        self.faults: list[str] = []
        host = urlsplit(service.base_url).netloc
        page.on("console", lambda message: self._record(message.type == "error", f"console: {message.text}"))
        page.on("pageerror", lambda error: self._record(True, f"script: {error}"))
        page.on("response", lambda answer: self._record(answer.status >= 400, f"{answer.status} {answer.url}"))
        page.on(
            "request",
            lambda request: self._record(
                urlsplit(request.url).scheme in ("http", "https") and urlsplit(request.url).netloc != host,
                f"left the host: {request.url}",
            ),
        )

    def _record(self, is_fault: bool, message: str) -> None:
        if is_fault:
            self.faults.append(message)


def open_page(browser: Browser, service: Service, **options: Any) -> tuple[Page, Watch]:
    page = browser.new_context(base_url=service.base_url, **options).new_page()
    page.set_default_timeout(PATIENCE_MS)
    return page, Watch(page, service)


def sign_in(page: Page, service: Service, name: str) -> None:
    """Sign in as one of the seeded members: first by the link that `cinemeter up` printed, then by the form.

    Later pages share that session, because sign-in tries are limited.
    """
    email = f"{name}@cinemeter.home"
    links = json.loads((service.home / "up.json").read_text())["links"]
    done, session = service.home / f"{name}.signed-in", service.home / f"{name}.session"
    if session.exists():
        page.context.add_cookies(json.loads(session.read_text()))
        page.goto("/")
    elif not done.exists():
        page.goto(links[email])
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_role("button", name="Set password and sign in").click()
        done.touch()
    else:
        page.goto("/sign-in")
        page.get_by_label("E-mail").fill(email)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("navigation", name="Main")).to_be_visible()
        session.write_text(json.dumps(page.context.cookies()))
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()


def sign_in_as(page: Page, browser: Browser, service: Service, name: str) -> None:
    """Sign in as a seeded member on an English page of its own, and hand the session to a page of any language."""
    english, _ = open_page(browser, service)
    sign_in(english, service, name)
    page.context.add_cookies(english.context.cookies())
    english.context.close()


def axe_findings(page: Page) -> list[str]:
    """Return axe-core's findings of every level on the page, under the page's own content security policy."""
    page.evaluate(AXE.read_text())
    report = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['impact']}, {each['id']}: {each['help']} {[node['target'] for node in each['nodes']]}"
        for each in report["violations"]
    ]


# The pages from which the others are reached by links, by who visits them.
ROOTS = {None: ("/", "/sign-in", "/sign-up", "/prices"), "pro": ("/studio",), "admin": ("/admin",)}
# Paths that are not pages: files, and the page to try calls, which has a test of its own.
NO_PAGE = re.compile(
    r"/(docs/explorer|static|files)|/openapi.json$|/showcase/|\.(pdf|csv|jsonl)|/(video|receipt)$|^/films/.*/(thumbnail|spritesheet)$"
)


def each_page(page: Page, roots: Sequence[str], skip: re.Pattern[str] | None = None) -> Iterator[str]:
    """Open one page of each kind that links lead to from these, and yield its kind: its path without ids.

    Kinds that begin as `skip` says are left out.
    """
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        path = waiting.pop(0)
        kind = kind_of(path)
        if kind in seen or (skip and skip.match(kind)):
            continue
        seen.add(kind)
        page.goto(path)
        yield kind
        waiting += links_of(page)


def links_of(page: Page) -> list[str]:
    """Return the paths of a page's links, without their queries."""
    paths = page.evaluate(
        """() => [...document.querySelectorAll("a[href]")].map((link) => new URL(link.href))
          .filter((url) => url.host === location.host).map((url) => url.pathname)"""
    )
    return [path for path in paths if not NO_PAGE.search(path)]


def kind_of(path: str) -> str:
    """Return a page's kind: its path without ids."""
    path = re.sub(r"^/docs/api/[\w-]+", "/docs/api/{group}", path)
    return re.sub(r"[a-z]+_[0-9a-z]{20,}", "{id}", re.sub(r"^/docs/(?!api)[\w-]+$", "/docs/{guide}", path))
