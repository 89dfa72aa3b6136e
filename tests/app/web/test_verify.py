"""The public page that verifies a file, without scripts and without an account."""

from pathlib import Path

from tests.app.assets.media_files import make_picture
from tests.app.web.conftest import Browser, Site


def send_file(browser: Browser, body: bytes, **headers: str) -> str:
    headers = {"accept": "text/html", "sec-fetch-site": "same-origin", **headers}
    browser.page = browser.client.post("/verify", files={"file": ("<b>x</b>.png", body, "image/png")}, headers=headers)
    return browser.text()


def test_a_stranger_learns_of_a_file(site: Site, tmp_path: Path):
    browser = site.browser()
    assert 'href="/verify"' in browser.get("/prices").text
    assert "nothing of the file is kept" in browser.get("/verify").text
    answer = send_file(browser, make_picture(tmp_path / "picture.png").read_bytes())
    assert browser.page is not None
    assert browser.page.status_code == 200
    assert answer.count("absent") == 4
    assert "<b>x</b>" not in browser.page.text
    assert "Watermark absent The watermark of this service was not found in the pixels." in answer


def test_a_refusal_is_said_on_the_page(site: Site):
    browser = site.browser()
    assert "it is none of PNG" in send_file(browser, b"no picture")
    browser.get("/verify")
    answer = browser.send("/verify", {"url": 'http://127.0.0.1/"><script>alert(1)</script>'})
    assert answer.status_code == 422
    assert "<script>alert" not in answer.text
    assert browser.send("/verify", {"url": ""}).status_code == 422


def test_a_member_sends_the_form_with_its_token_and_another_site_cannot(site: Site):
    member = site.browser("alice")
    member.get("/verify")
    assert member.send("/verify", {"url": ""}).status_code == 422
    send_file(member, b"no picture")
    assert member.page is not None
    assert member.page.status_code == 403, "without the token"
    stranger = site.browser()
    send_file(stranger, b"no picture", **{"sec-fetch-site": "cross-site"})
    assert stranger.page is not None
    assert stranger.page.status_code == 403
