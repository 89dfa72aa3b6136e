"""First contentful paint, bytes and requests of each page, media aside, as Chromium counts them at two visits.

`python -m tests.bench.pages` starts a service of its own and prints one line a page.
"""

import tempfile
from pathlib import Path

from playwright.sync_api import Page
from sqlalchemy import create_engine, text

from app.db_connections import sqlalchemy_url
from tests.app.web.test_gallery import COPIES, LABELS
from tests.journeys.browser import browsers, open_page, sign_in
from tests.live_service import Service, follow, start, stop

PAGES = {
    None: ("/", "/sign-in", "/prices", "/docs", "/docs/quickstart", "/docs/api", "/docs/api/videos"),
    "pro": ("/studio", "/films", "/account", "/account/usage", "/account/keys"),
    "admin": ("/admin", "/admin/price-books", "/admin/price-books/new"),
}
# Bytes are what came over the wire, headers included; what came from the browser's own cache counts nothing.
COUNT = """() => {
  const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter((each) => !/\\/(video|poster|thumbnail)$/.test(each.name));
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return {
    paint: paint ? paint.startTime : 0,
    bytes: all.reduce((sum, each) => sum + each.transferSize, 0),
    requests: all.filter((each) => each.transferSize > 0).length,
  };
}"""
# From the request to the first byte of its answer.
SERVER_TIME = """() => {
  const visit = performance.getEntriesByType("navigation")[0];
  return visit.responseStart - visit.requestStart;
}"""
# From the keystroke to the new price in the page, the pause that bundles keystrokes included.
CHANGE = """(seconds) => new Promise((done) => {
  const field = document.querySelector("[name=shot_seconds]");
  const begun = performance.now();
  const seen = new MutationObserver(() => { seen.disconnect(); done(performance.now() - begun); });
  seen.observe(document.querySelector("#meter"), { childList: true, subtree: true, characterData: true });
  field.value = seconds;
  field.dispatchEvent(new Event("input", { bubbles: true }));
})"""


def visit(page: Page, path: str) -> str:
    """Return what one visit took: milliseconds to the first paint, kilobytes, requests."""
    page.goto(path, wait_until="load")
    page.wait_for_timeout(300)
    found = page.evaluate(COUNT)
    return f"{found['paint']:7.0f} ms {found['bytes'] / 1000:8.1f} kB {found['requests']:4d}"


def meter(page: Page) -> str:
    """Return how soon the studio's price follows a change, in milliseconds: the middle and the worst of 20."""
    page.goto("/studio", wait_until="load")
    page.get_by_label("Prompt of shot 1").fill("a red circle moves left on a blue background")
    times = sorted(page.evaluate(CHANGE, 3 + number % 11) for number in range(1, 21))
    return f"the studio's price follows a change in {times[10]:.0f} ms (median of 20; worst {times[-1]:.0f}; aim 300)"


def gallery(service: Service, page: Page) -> str:
    """Return how long the server takes for a page of 60 films of an account with 100,000, in milliseconds."""
    with service.client("pro") as pro:
        order = {"model": "synthetic", "prompt": "a red circle", "seconds": 1}
        film = follow(pro, pro.post("/v1/videos", json=order).raise_for_status().json()["id"])
    with create_engine(sqlalchemy_url(service.servers()["database_url"])).begin() as connection:
        for first in range(1, 100_001, 5_000):
            connection.execute(COPIES, {"first": first, "last": first + 4_999, "id": film["id"]})
        connection.execute(LABELS)
        connection.execute(text("ANALYZE jobs, film_labels"))
    lines = []
    for path in ("/films", "/films?model=demo", "/films?favourites=yes", "/films?search=99999"):
        times = []
        for _ in range(21):
            page.goto(path, wait_until="domcontentloaded")
            times.append(page.evaluate(SERVER_TIME))
        films = page.locator(".film").count()
        lines.append(f"{path:<24}{films:3d} films in {sorted(times)[10]:.0f} ms (median of 21; worst {max(times):.0f})")
    return "\n".join(lines)


def main() -> None:
    """Measure every page on a fresh service and print a table."""
    with tempfile.TemporaryDirectory() as folder, browsers() as browser:
        service = start(Path(folder) / "home")
        try:
            print(f"{'page':<24}{'first visit':>28}{'second visit':>28}")
            for name, paths in PAGES.items():
                for path in paths:
                    page, _ = open_page(browser, service)
                    if name:
                        sign_in(page, service, name)
                        state = page.context.storage_state()
                        page.context.close()
                        # A context of its own begins with an empty cache.
                        page, _ = open_page(browser, service, storage_state=state)
                    if name == "pro" and path == "/studio":
                        told = meter(page)
                        page.context.close()
                        page, _ = open_page(browser, service, storage_state=state)
                    print(f"{path:<24}{visit(page, path):>28}{visit(page, path):>28}", flush=True)
                    page.context.close()
            print(told)
            page, _ = open_page(browser, service)
            sign_in(page, service, "pro")
            print(gallery(service, page))
        finally:
            stop(service)


if __name__ == "__main__":
    main()
