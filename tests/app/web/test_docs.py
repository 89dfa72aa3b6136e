"""The documentation: guides, the reference for readers and for operators, and Markdown that cannot harm."""

import json
import re

import pytest

from app.errors import ERROR_CODES
from app.events.types import EVENT_TYPES
from app.web.docs import GUIDES, WRITTEN_BASE, guide_source
from app.web.markdown import links_of, render_inline, render_markdown
from app.web.reference_titles import GROUPS
from tests.app.web.conftest import Browser, Site, shared_site


@pytest.fixture
def guest(site: Site) -> Browser:
    return site.browser()


def anchors(html: str) -> set[str]:
    return set(re.findall(r'id="([^"]+)"', html))


def test_each_guide_is_a_page_with_this_services_url(guest: Browser):
    assert guest.get("/docs").status_code == 200
    for name in GUIDES:
        assert f'href="/docs/{name}"' in guest.get("/docs").text
        answer = guest.get(f"/docs/{name}")
        assert answer.status_code == 200, name
        assert WRITTEN_BASE not in answer.text or WRITTEN_BASE in guide_source(name), name
        assert "{error codes}" not in answer.text
        assert "{event types}" not in answer.text
        assert "<th></th>" not in answer.text, "a column without a name"
    assert guest.get("/docs/nothing").status_code == 404
    assert guest.get("/docs/..%2F..%2Fsettings").status_code == 404


def test_guides_list_every_code_and_every_event():
    errors, webhooks = guide_source("errors"), guide_source("webhooks")
    assert all(f"`{code}`" in errors for code in ERROR_CODES)
    assert all(f"`{type_}`" in webhooks for type_ in EVENT_TYPES)


def test_links_of_the_guides_lead_somewhere(guest: Browser):
    for name in GUIDES:
        for target in links_of(guide_source(name)):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            answer = guest.get(path or f"/docs/{name}")
            assert answer.status_code == 200, (name, target)
            assert not anchor or anchor in anchors(answer.text), (name, target)


def test_the_reference_has_every_operation_once_under_a_title_of_its_own(guest: Browser):
    document = guest.client.get("/docs/openapi.json").json()
    ids = {
        each["operationId"].replace("_", "-")
        for methods in document["paths"].values()
        for each in methods.values()
        if isinstance(each, dict) and "operationId" in each
    }
    overview = guest.get("/docs/api").text
    links = re.findall(r'href="(/docs/api/[\w-]+)#([\w-]+)"', overview)
    assert {anchor for _, anchor in links} == ids
    for path in {path for path, _ in links}:
        page = guest.get(path).text
        assert {anchor for each, anchor in links if each == path} <= anchors(page), path
    videos = guest.get("/docs/api/videos").text
    assert '<h2 id="create-video">Order a film</h2>' in videos
    assert "CINEMETER_API_KEY" in videos
    assert "/v1/videos/VIDEO_ID/cancel" in videos
    assert not re.search(r"<h2[^>]*>[A-Z][a-z]+ [A-Z][a-z]+ ?[A-Z]?", videos), "titles are sentences"


def test_operations_of_operators_are_for_admins(site: Site, guest: Browser):
    admin_groups = [name for tag, (name, _) in GROUPS.items() if tag.startswith("admin")]
    for browser, status in ((guest, 404), (site.browser("alice"), 404), (site.browser("approver"), 200)):
        assert {browser.get(f"/docs/api/{name}").status_code for name in admin_groups} == {status}
        assert ("/v1/admin" in browser.get("/docs/api").text) == (status == 200)
        assert ("/v1/admin" in browser.client.get("/docs/openapi.json").text) == (status == 200)


def test_every_tag_of_the_document_has_a_title_that_is_translated():
    paths = shared_site().openapi()["paths"].values()
    tags = {tag for methods in paths for each in methods.values() for tag in each.get("tags", [])}
    assert tags <= set(GROUPS)


def test_the_document_for_readers_has_only_what_they_can_call(guest: Browser):
    answer = guest.client.get("/docs/openapi.json")
    text, schemas = answer.text, answer.json()["components"]["schemas"]
    assert "VideoRequest" in schemas
    assert "RefundIn" not in schemas
    assert all(f'"#/components/schemas/{name}"' in text for name in schemas)
    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) == set(schemas)
    for path in ("/docs", "/docs/sdks", "/llms.txt"):
        assert '"/openapi.json' not in guest.get(path).text
    assert "/docs/openapi.json" in guest.get("/llms.txt").text


def test_the_document_is_made_once_and_not_sent_to_those_who_have_it(site: Site, guest: Browser):
    first, admin = guest.client.get("/docs/openapi.json"), site.browser("author").client.get("/docs/openapi.json")
    again = guest.client.get("/docs/openapi.json", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["etag"] != admin.headers["etag"]
    app = shared_site()
    parts = json.dumps(app.openapi()["components"]["schemas"])
    known = app.openapi()["components"]["schemas"]["VideoRequest"]
    assert app.openapi()["components"]["schemas"]["VideoRequest"] is known
    assert json.dumps(app.openapi()["components"]["schemas"]) == parts


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        'a <img src="x" onerror="alert(1)"> b',
        "[click](javascript:alert(1))",
        "[click](data:text/html;base64,PHNjcmlwdD4=)",
        "![x](javascript:alert(1))",
        '```"><script>alert(1)</script>\n<script>alert(1)</script>\n```',
        "| a |\n|---|\n| <script>alert(1)</script> |",
        "`<script>`",
    ],
)
def test_markdown_lets_no_markup_through(text: str):
    html = f"{render_markdown(f'# Title{chr(10)}{chr(10)}Lead.{chr(10)}{chr(10)}{text}').html} {render_inline(text)}"
    assert not re.search(r"<(script|img(?! src=\"x\" alt))", html), html
    assert not re.search(r"(href|src)=\"(javascript|data):", html), html


def test_a_document_begins_with_a_heading_and_a_paragraph():
    with pytest.raises(ValueError, match="begins with"):
        render_markdown("no heading")
    text = render_markdown("# Title\n\nLead.\n\n## Retry an `order`\n\nText")
    assert (text.title, text.lead, text.sections) == ("Title", "Lead.", (("retry-an-order", "Retry an order"),))
