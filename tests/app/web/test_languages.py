"""Pages in Chinese and English: which language a visitor gets, and that no Chinese page shows an English text."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import get_args

import pytest
from babel.messages.catalog import Message
from sqlalchemy import select

from app.accounts.members import add_member, list_members
from app.concurrency import ConcurrencyLimit
from app.db import transaction
from app.errors import AppError
from app.jobs.queue_tables import Worker
from app.prices.tables import StoredBook
from app.roles import Role
from app.web import words
from app.web.formats import ago, count, day, field, minor, money, seconds, size, when
from app.web.language import LANGUAGE_COOKIE, LANGUAGES, in_language
from app.web.sentences import sentence
from app.webhooks.schemas import EndpointOut
from tests.app.web.conftest import Browser, Site
from tests.app.web.test_access import alices_objects, routes
from tests.repo import catalogues

CHINESE = {"accept-language": "zh-CN,zh;q=0.9,en;q=0.8"}
# What stays as it is in every language: names, units, formats, protocols, and words of products.
ALLOWED = {
    *(
        "Cinemeter",
        "OpenAI",
        "DashScope",
        "Replicate",
        "Gateway",
        "Webhook",
        "Webhooks",
        "Standard",
        "English",
        "Turbo",
    ),
    *(
        "API",
        "SDK",
        "MCP",
        "AI",
        "URL",
        "ID",
        "IP",
        "DNS",
        "TLS",
        "HTTP",
        "JSON",
        "CSV",
        "PDF",
        "TOML",
        "Lines",
        "curl",
    ),
    *(
        "GPU",
        "GiB",
        "MB",
        "kB",
        "GB",
        "CNY",
        "USD",
        "UTC",
        "Asia",
        "Shanghai",
        "Python",
        "JavaScript",
        "OpenAPI",
        "NUL",
    ),
    *("Videos", "CST", "https", "Bearer", "Shell"),
}
NOT_READ = {"script", "style", "svg", "code", "pre", "textarea", "template"}
READ_ATTRIBUTES = ("aria-label", "title", "placeholder", "alt", "data-confirm", "data-accept", "data-decline", "label")


class TextOfPage(HTMLParser):
    """The texts that a person meets on a page: of elements and attributes, outside of code and of what is English."""

    VOID = frozenset(("input", "meta", "link", "br", "hr", "img", "source", "wbr"))

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.skipped: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if self.skipped or tag in NOT_READ or values.get("lang") == "en":
            if tag not in self.VOID:
                self.skipped.append(tag)
            return
        self.texts += [values[name] for name in READ_ATTRIBUTES if values.get(name)]

    def handle_endtag(self, tag):
        if self.skipped and tag not in self.VOID:
            self.skipped.pop()

    def handle_data(self, data):
        if not self.skipped:
            self.texts.append(data)


# Addresses, codes, ids, names of files, and ids with hyphens.
CODES = re.compile(
    r"https?://\S+|\S+@\S+|[a-z]+(?:_[A-Za-z0-9]+)+…?|whsec_\S+|\S*\.[a-z]{2,}\b\S*|[\w*]+(?:[-/:.+][\w*]+)+"
)


def english_words(html: str, data: set[str]) -> list[str]:
    """Return the English words of a page with the text around them; `data` are words of the test's own objects."""
    page = TextOfPage()
    page.feed(html)
    found = []
    for text in page.texts:
        words = [each for each in re.findall(r"[A-Za-z]{2,}", CODES.sub(" ", text)) if each not in ALLOWED | data]
        if words:
            found.append(f"{' '.join(text.split())[:90]} [{' '.join(words)}]")
    return found


# Files and streams, and what is made of the OpenAPI document, which is English.
NO_PAGES = (
    "/static/",
    "/films/live",
    "/docs/openapi.json",
    "/studio/pictures",
    "/showcase/studio",
    "/showcase/{film_id}",
)
NO_PAGE_ENDS = (".pdf", ".csv", ".jsonl", "/{variant}", "/receipt", "/{position}")


@pytest.mark.parametrize("domain", catalogues.DOMAINS)
@pytest.mark.parametrize("name", [each for each in LANGUAGES if each != "en"])
def test_catalogues_are_complete(name: str, domain: str):
    """`python -m tests.repo.catalogues` adds what is new to the files, where it is translated."""
    stored, current = catalogues.read_catalogue(name, domain), catalogues.updated_catalogue(name, domain)
    # Messages of errors elsewhere may wait: pages show the sentence of their code until they are translated.
    missing = [
        each.id
        for each in current
        if each.id and not text_of(each) and (domain == "pages" or each.locations[0][0].startswith("app/web/"))
    ]
    assert not missing
    assert not [each.id for each in stored if each.id and each.fuzzy]
    if domain == "pages":
        assert catalogues.catalogue_text(current) == catalogues.path_of(name, domain).read_bytes()


@pytest.mark.parametrize("domain", catalogues.DOMAINS)
@pytest.mark.parametrize("name", [each for each in LANGUAGES if each != "en"])
def test_translations_have_the_placeholders_of_their_texts(name: str, domain: str):
    place = re.compile(r"%\(\w+\)s|%%|\{\d+\}|<[^>]*>")
    for message in catalogues.read_catalogue(name, domain):
        singular, text = message.id if isinstance(message.id, str) else message.id[0], text_of(message)
        if singular and text:
            assert sorted(place.findall(text)) == sorted(place.findall(singular)), singular
            # A text may stand in an attribute.
            assert '"' not in re.sub(r"<[^>]*>", "", text), singular


def text_of(message: Message) -> str:
    return message.string if isinstance(message.string, str) else message.string[0]


def test_every_status_of_an_endpoint_is_listed_for_the_catalogues():
    statuses = get_args(EndpointOut.model_fields["status"].annotation)
    assert {status.replace("_", " ") for status in statuses} <= set(words.CODES)


def test_the_switch_changes_the_language_and_the_browsers_is_used_before(site: Site):
    browser = site.browser()
    assert '<html lang="en"' in browser.get("/sign-in").text
    assert '<html lang="en"' in browser.get("/sign-in", **{"accept-language": "fr, en;q=0.5"}).text
    answer = browser.get("/sign-in", **{"accept-language": "de;q=0.9, zh-TW;q=0.8, en;q=0.3"})
    assert '<html lang="zh-CN"' in answer.text
    assert answer.headers["content-language"] == "zh-CN"
    assert {"accept-language", "cookie"} <= {each.strip().lower() for each in answer.headers["vary"].split(",")}
    assert answer.headers["cache-control"] == "private, no-store"
    browser.send("/language", {"language": "zh", "next": "/sign-in"})
    assert browser.page.url.path == "/sign-in"
    assert "登录" in browser.text()
    assert browser.client.cookies[LANGUAGE_COOKIE] == "zh"
    # The cookie counts before the browser's languages.
    assert '<html lang="zh-CN"' in browser.get("/prices", **{"accept-language": "en"}).text
    browser.send("/language", {"language": "xx", "next": "/prices"})
    assert '<html lang="zh-CN"' in browser.page.text


def test_a_members_language_counts_on_every_device(site: Site):
    first = site.browser("alice")
    first.get("/account/profile")
    first.send("/language", {"language": "zh", "next": "/account/profile"})
    # This browser keeps it when it is signed out; the others get it at the sign-in.
    assert first.client.cookies[LANGUAGE_COOKIE] == "zh"
    assert "个人资料" in first.text()
    other = site.browser("alice")
    assert '<html lang="zh-CN"' in other.get("/films", **{"accept-language": "en"}).text
    other.send("/language", {"language": "en", "next": "/films"})
    assert '<html lang="en"' in other.page.text
    assert '<html lang="en"' in first.get("/films").text
    first.get("/account/profile")
    first.send("/language", {"language": "", "next": "/account/profile"})
    assert LANGUAGE_COOKIE not in first.client.cookies
    with transaction() as session:
        assert [each.language for each in list_members(session, site.accounts["alice"])] == [None]
    assert '<html lang="zh-CN"' in first.get("/films", **CHINESE).text


def test_refusals_are_in_the_language_of_the_page_and_of_the_api_in_english(site: Site):
    browser = site.browser("alice")
    browser.client.headers.update(CHINESE)
    browser.get("/account/projects")
    browser.send("/account/projects", {"name": "", "budget": "12,5"})
    assert "'12,5' 不是金额。请写成 12.50，用点号作小数点。" in browser.text()
    assert "没有此 ID 的影片。" in browser.get("/films/video_nothing").text
    browser.get("/studio")
    browser.send("/studio/orders", {"shot_prompt": "", "shot_seconds": "1"})
    assert "提示词" in browser.text()
    answer = browser.client.get("/v1/videos/video_nothing", headers={"accept": "application/json", **CHINESE})
    assert not re.search("[\u4e00-\u9fff]", answer.text)


def test_sentences_are_found_by_themselves_by_their_pattern_or_by_their_code():
    with in_language("zh"):
        assert sentence(AppError("conflict", "A project needs a name.")) == "项目需要名称。"
        assert sentence(AppError("not_found", "There is no receipt with this id.")) == "没有此 ID 的收据。"
        question = "Shot 2: This model does not know “dog”; it draws a circle. Generate it anyway?"
        assert sentence(AppError("conflict", question)) == "分镜 2：此模型不认识“dog”，将绘制圆形。仍然生成吗？"
        unknown = AppError("gone", "Nobody has translated this sentence: it is new.")
        assert sentence(unknown) == "文件已在保留期结束时删除。"
        assert field("shots.0.last_frame") == "分镜 1，尾帧"
    assert sentence(unknown) == unknown.message


def test_numbers_dates_and_money_are_written_as_in_the_language():
    at = "2026-11-22T07:42:09+00:00"
    with in_language("zh"):
        assert (money("1234.5", "CNY"), minor(-158, "CNY"), money("0.4388", "USD")) == (
            "¥1,234.50",
            "-¥1.58",
            "US$0.4388",
        )
        assert when(at, "Asia/Shanghai") == "2026年11月22日 15:42"
        assert when(at, "Asia/Shanghai", exact=True) == "2026年11月22日 15:42:09 CST"
        assert day(at, "Asia/Shanghai") == "2026年11月22日"
        assert seconds("80") == "1\u00a0分钟 20\u00a0秒"
        assert (count(1, "film"), count(2, "film")) == ("1 部影片", "2 部影片")
        assert ago(at, datetime(2026, 11, 22, 10, 42, 9, tzinfo=UTC)) == "3小时前"
        assert size(4_200_000) == "4.2\u00a0MB"
    assert when(at, "Asia/Shanghai") == "22 Nov 2026, 15:42"


def pages_of(things: dict[str, str]) -> list[str]:
    """Return the path of every page, its parameters filled in."""
    templates = sorted(set(routes("GET")))
    templates = [each for each in templates if not each.startswith(NO_PAGES) and not each.endswith(NO_PAGE_ENDS)]
    return [re.sub(r"{(\w+)(?::path)?}", lambda match: things.get(match[1], "nothing"), each) for each in templates]


def machine_words() -> set[str]:
    """Return the words of what workers report about their machines."""
    with transaction() as session:
        rows = [(each.host, each.device, each.facts) for each in session.scalars(select(Worker))]
    return set(re.findall(r"[A-Za-z]{2,}", str(rows)))


# Names of accounts and models, ids in price books and pools, and what the machine says of itself.
DATA = {
    *("Alice", "Bob", "Author", "Approver", "alice", "author", "film", "of", "demo", "synthetic", "Synthetic", "bars"),
    *("Kandinsky", "Lite", "Pro", "distilled", "finish", "house", "seed", "session", "colour", "video"),
}
BOOK = {
    *("free", "professional", "studio", "enterprise", "standard", "flex", "priority", "edit", "extend", "turbo"),
    *("the", "first", "book"),
}


def reader(site: Site, member: str | None = None) -> Browser:
    """Return a browser whose pages are in Chinese, of a member or of nobody."""
    browser = site.browser(member) if member else site.browser()
    browser.client.headers.update(CHINESE)
    return browser


def moderator_of(site: Site) -> Browser:
    """Return the browser of a new moderator, in Chinese."""
    email, password = "mo@example.com", "another long password"
    with transaction() as session:
        account = site.accounts["author"]
        add_member(session, account, email, roles=(Role.MODERATOR,), password=password, name="Author")
    browser = reader(site)
    browser.sign_in(email, password)
    return browser


def order_in_chinese(browser: Browser) -> None:
    """Order a film on the studio's page."""
    browser.get("/studio")
    order = {"shot_prompt": "一个红色的圆形", "shot_seconds": "1", "model": "synthetic"}
    browser.send("/studio/orders", order | {"resolution": "480P", "ratio": "16:9"})


def test_no_chinese_page_shows_an_english_text(site: Site):
    things = alices_objects(site)
    site.work()
    alice, author, visitor = reader(site, "alice"), reader(site, "author"), reader(site)
    order_in_chinese(alice)
    with transaction() as session:
        things |= {
            "account_id": site.accounts["alice"],
            "book_id": session.scalars(select(StoredBook.id)).first() or "",
            "worker_id": session.scalars(select(Worker.id)).first() or "",
            "name": "quickstart",
        }
    moderator = moderator_of(site)
    seen, left = 0, []
    for path in pages_of(things):
        browser = author if path.startswith("/admin") else visitor if path in ("/sign-in", "/sign-up", "/") else alice
        browser = moderator if path.startswith("/admin/quarantine") else browser
        answer = browser.get(path)
        assert answer.status_code in (200, 404), (path, answer.status_code)
        assert answer.headers["content-language"] == "zh-CN", path
        seen += answer.status_code == 200
        own = BOOK if path.startswith("/admin/price-books") else set()
        # A worker reports what its machine calls itself.
        own = machine_words() if path.startswith("/admin/workers") else own
        left += [f"{path}: {each}" for each in english_words(answer.text, DATA | own)]
    assert not left, "\n".join(left)
    assert seen > 40


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [" at " * 100 + "x" * 100 + " with " * 100, "a x or a y and a z: " * 90, "x: or a, " * 200, "Shot 1: " * 10_000],
    ids=["values", "nested", "short", "long"],
)
def test_no_message_that_repeats_a_request_is_taken_apart_for_long(text: str) -> None:
    """An address of 661 characters once kept a process busy for six seconds, and one of 893 for thirty."""
    with in_language("zh"):
        assert sentence(AppError("not_found", f"Not found: /{text}."))


def test_a_refusal_of_work_at_once_is_one_sentence_of_its_language() -> None:
    limit = ConcurrencyLimit("files", "verified", each=1, together=2, owner="this network")
    with limit.hold("a"), pytest.raises(AppError) as refused, limit.hold("a"):
        pass
    with in_language("zh"):
        assert sentence(refused.value) == "此网络正在验证的文件已达到允许的数量（1）；其中一个完成后再发送下一个。"
