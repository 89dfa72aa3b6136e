"""Pictures of the pages, taken of a running service: `python -m tests.repo.screenshots [FOLDER]`.

It starts a service in a home of its own, orders films as a customer does, and writes the README's pictures into
deploy/pictures. With a folder it also takes every kind of page in both languages, light, dark and on a phone, to look
at: twenty minutes on two cores.
"""

import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page

from app.web.language import LANGUAGE_TAGS
from tests.journeys.browser import ROOTS, browsers, each_page, open_page, sign_in_as
from tests.live_service import Service, follow, start, stop
from tests.repo.sources import ROOT

PICTURES = ROOT / "deploy" / "pictures"
WIDE = {"width": 1200, "height": 780}
PHONE = {"width": 390, "height": 844}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": WIDE},
    "dark": {"viewport": WIDE, "color_scheme": "dark"},
    "phone": {"viewport": PHONE},
}
# Films of each ratio, newest last.
FILMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("1:1", ("an orange square shrinks on a gray background",)),
    ("9:16", ("a green triangle moves up on a white background",)),
    ("16:9", ("一个红色的圆形在蓝色背景上弹跳",)),
    ("16:9", ("a big blue square moves left slowly on an orange background",)),
    (
        "16:9",
        (
            "a red circle moves right on a blue background",
            "a yellow square bounces on a green background",
            "a white triangle grows on a purple background",
        ),
    ),
)
# Chinese needs a font, which a test machine may lack; the one of the receipts has it.
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><include ignore_missing="yes">/etc/fonts/fonts.conf</include><dir>{folder}</dir></fontconfig>"""


def make_films(service: Service) -> str:
    """Order the films, a webhook endpoint and a draft price book; return the id of the newest film when it is ready."""
    with service.client("pro") as pro:
        pro.post("/v1/webhook_endpoints", json={"url": "http://127.0.0.1:9/nobody-there"}).raise_for_status()
        for ratio, prompts in FILMS:
            shots = [{"prompt": prompt, "seconds": 2} for prompt in prompts]
            order = {"model": "demo", "resolution": "720P", "ratio": ratio, "shots": shots}
            film = follow(pro, pro.post("/v1/videos", json=order).raise_for_status().json()["id"])
    with service.client("admin") as admin:
        book = admin.get("/v1/admin/price_books").raise_for_status().json()["data"][0]
        toml = admin.get(f"/v1/admin/price_books/{book['id']}").raise_for_status().json()["toml"]
        admin.post("/v1/admin/price_books", json={"toml": toml, "note": "A draft"}).raise_for_status()
    return str(film["id"])


def page_of(browser: Browser, service: Service, name: str | None, **options: Any) -> Page:
    """Return a page of a member who is signed in, or of a visitor."""
    page, _ = open_page(browser, service, **options)
    if name:
        sign_in_as(page, browser, service, name)
    return page


def picture_of(page: Page) -> Image.Image:
    """Return a picture of what the page shows, once its pictures are there."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    return Image.open(BytesIO(page.screenshot())).convert("RGB")


def save(name: str, *pictures: Image.Image) -> None:
    """Write pictures side by side as one of the README's."""
    gap = 24 if len(pictures) > 1 else 0
    width = sum(each.width for each in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, max(each.height for each in pictures)), (255, 255, 255))
    left = 0
    for each in pictures:
        sheet.paste(each, (left, 0))
        left += each.width + gap
    sheet.save(PICTURES / f"{name}.webp", quality=80, method=6)


def save_best(browser: Browser, service: Service, film: str) -> None:
    """Save the README's pictures: landing page, studio, film, price book, and three pages of a Chinese phone."""
    wide: dict[str, Any] = {"viewport": WIDE}
    page = page_of(browser, service, None, **wide)
    page.goto("/")
    page.wait_for_timeout(4000)
    save("landing", picture_of(page))
    page = page_of(browser, service, "pro", **wide)
    page.goto("/studio?model=demo")
    page.get_by_role("link", name="Three shapes").click()
    page.get_by_label("Prompt of shot 3").wait_for()
    save("studio", picture_of(page))
    page.goto(f"/films/{film}")
    save("film", picture_of(page))
    page = page_of(browser, service, "admin", **wide)
    page.goto("/admin/price-books/new")
    page.get_by_role("group", name="Flex").get_by_label("Factor").fill("0.7")
    page.get_by_role("button", name="Accept the new example amounts").click()
    page.locator("#check").get_by_text("from 0.5 to 0.7").wait_for()
    page.evaluate("scrollTo(0, 0)")
    save("price-book", picture_of(page))
    phone: dict[str, Any] = {"viewport": PHONE, "locale": LANGUAGE_TAGS["zh"], "color_scheme": "dark"}
    guest, member = page_of(browser, service, None, **phone), page_of(browser, service, "pro", **phone)
    guest.goto("/")
    guest.wait_for_timeout(2000)
    pictures = [picture_of(guest)]
    for path in ("/studio?model=demo", f"/films/{film}"):
        member.goto(path)
        pictures.append(picture_of(member))
    save("phone", *pictures)


def save_all(browser: Browser, service: Service, folder: Path) -> None:
    """Save one page of each kind in both languages and every look, as `<language>-<look>/<who>_<kind>.png`."""
    for language, tag in LANGUAGE_TAGS.items():
        for look, options in LOOKS.items():
            target = folder / f"{language}-{look}"
            target.mkdir(parents=True, exist_ok=True)
            for name, roots in ROOTS.items():
                page = page_of(browser, service, name, locale=tag, **options)
                for kind in each_page(page, roots):
                    file = "".join(each for each in kind.replace("/", "_") if each not in "{}")
                    page.screenshot(path=target / f"{name or 'guest'}{file}.png", full_page=True)


def main() -> None:
    """Start a service and take the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        fonts = Path(folder) / "fonts.conf"
        fonts.write_text(FONTS.format(folder=ROOT / "app" / "reports" / "fonts"))
        service = start(Path(folder) / "home")
        try:
            film = make_films(service)
            with browsers(fonts) as browser:
                save_best(browser, service, film)
                if sys.argv[1:]:
                    save_all(browser, service, Path(sys.argv[1]))
        finally:
            stop(service)


if __name__ == "__main__":
    main()
