"""A creator in Chinese on a phone: from the landing page to a film, with scripts, and the pages of the account."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.browser import axe_findings, browsers, open_page, sign_in_as
from tests.live_service import Service

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(400)]

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser(service: Service) -> Iterator[Browser]:
    with browsers() as browser:
        yield browser


def check(page: Page) -> None:
    """The page is Chinese, as wide as the phone, and without findings of axe-core."""
    assert page.locator("html").get_attribute("lang") == "zh-CN", page.url
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], (page.url, width)
    assert not axe_findings(page), page.url


def test_a_creator_makes_a_film_in_chinese_on_a_phone(service: Service, browser: Browser):
    page, watch = open_page(browser, service, viewport=PHONE, locale="zh-CN")
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("描述一部影片，制作之前就知道价格。")
    check(page)
    page.goto("/sign-in")
    expect(page.get_by_role("button", name="登录")).to_be_visible()
    check(page)
    # The session is opened on an English page; the language is the browser's, not the session's.
    sign_in_as(page, browser, service, "pro")

    page.goto("/studio?model=synthetic")
    page.get_by_role("button", name="添加分镜").click()
    expect(page.get_by_label("分镜 2 的提示词")).to_be_focused()
    page.get_by_label("分镜 1 的提示词").fill("一个红色的圆形")
    page.get_by_label("分镜 2 的提示词").fill("一个蓝色的方块")
    # A script writes the lengths of the timeline.
    page.get_by_label("秒", exact=True).first.fill("2")
    expect(page.locator(".timeline a").first).to_have_text("2 秒")
    check(page)
    page.locator(".meter").get_by_role("button", name="生成").click()
    expect(page.get_by_role("link", name="打开影片")).to_be_visible()
    expect(page.locator(".film").first.get_by_text("已完成")).to_be_visible()
    check(page)
    page.get_by_role("link", name="打开影片").click()
    expect(page.get_by_role("heading", name="收据")).to_be_visible()
    check(page)
    # The dialog that a script opens has the words of the page.
    page.get_by_role("button", name="删除").click()
    expect(page.get_by_role("dialog").get_by_role("button", name="取消")).to_be_visible()
    page.keyboard.press("Escape")
    for path in (
        "/films",
        "/account",
        "/account/usage",
        "/account/keys",
        "/account/profile",
        "/prices",
        "/docs",
        "/docs/errors",
    ):
        page.goto(path)
        check(page)
    assert not watch.faults
