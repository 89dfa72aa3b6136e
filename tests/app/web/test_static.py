"""Static files and headers: vendored files are unchanged, nothing inline, nothing from other hosts, few bytes."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest

from app.web.headers import page_headers
from app.web.static_files import STYLES, static_files, static_url, version
from tests.app.web.conftest import Site

WEB = Path("app/web")
VENDORED = (WEB / "static/vendor", Path("tests/app/web/vendor"))


@pytest.mark.parametrize("folder", VENDORED, ids=str)
def test_vendored_files_are_what_their_packages_published(folder: Path):
    table = re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert table
    for name, checksum in table:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum, name
    explained = {name for name, _ in table} | {"README.md", "inter-OFL.txt"}
    assert {path.name for path in folder.iterdir()} <= explained


def test_every_stylesheet_is_sent():
    assert {path.stem for path in (WEB / "static/css").glob("*.css")} == set(STYLES)


def test_pages_load_nothing_from_other_hosts():
    for path in [*WEB.rglob("*.html"), *WEB.rglob("*.css"), *(WEB / "static/js").glob("*.js")]:
        urls = re.findall(r"(?:src|href|action|url)\s*[=(]\s*[\"']?(?:https?:)?//[^\"')\s]+", path.read_text())
        assert not urls, path


def test_pages_have_nothing_inline():
    """The content security policy blocks inline scripts and styles."""
    for path in WEB.rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", text), path


def test_the_policy_lets_nothing_inline_run(site: Site):
    policy = page_headers()["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    answer = site.browser().get("/sign-in")
    assert answer.headers["content-security-policy"] == policy
    assert answer.headers["cache-control"] == "private, no-store"


def test_static_files_are_immutable_under_the_url_of_their_release(site: Site):
    browser = site.browser()
    answer = browser.client.get(static_url("site.css"), headers={"accept-encoding": "gzip"})
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    assert len(gzip.compress(answer.content)) < 12_000
    older = browser.client.get("/static/another-release/site.css")
    assert (older.status_code, older.headers["cache-control"]) == (200, "no-cache")
    assert browser.client.get(f"/static/{version()}/../pages.py").status_code == 404


def test_pages_are_compressed_for_who_accepts_it(site: Site):
    client = site.browser().client
    lengths = set()
    for _ in range(20):
        with client.stream("GET", "/prices", headers={"accept-encoding": "gzip"}) as answer:
            body = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
        assert int(answer.headers["content-length"]) == len(body)
        assert "accept-encoding" in answer.headers["vary"].lower()
        lengths.add(len(body))
    assert len(lengths) > 1, "the length must not tell what is on the page"
    plain = client.get("/prices", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    for path in ("/prices", static_url("site.css")):
        refused = client.get(path, headers={"accept-encoding": "identity, gzip;q=0"})
        assert "content-encoding" not in refused.headers
    assert gzip.decompress(body).decode() == plain.text
    assert len(body) < len(plain.content) / 2


# Bytes that one page may load as scripts, compressed: those of every page together, and then its own.
SITE_SCRIPTS_MAX = 24_500
PAGE_SCRIPTS_MAX = 5_000


def test_a_page_loads_few_small_files():
    # Only the page to try calls loads Swagger UI.
    scripts = [path for path in static_files() if path.endswith(".js") and "swagger-ui" not in path]
    sizes = {path: len(static_files()[path].compressed or static_files()[path].body) for path in scripts}
    imports = re.findall(r'^import "\./([\w-]+\.js)"', (WEB / "static/js/site.js").read_text(), re.MULTILINE)
    site = {"vendor/htmx.min.js", "js/site.js", *(f"js/{name}" for name in imports)}
    assert sum(sizes[path] for path in site) < SITE_SCRIPTS_MAX
    loaded = set(site)
    for path in WEB.rglob("*.html"):
        text = path.read_text()
        own = {f"js/{name}" for name in re.findall(r"[\"'/]([\w-]+\.js)[\"']", text)} & set(scripts) - site
        assert sum(sizes[name] for name in own) < PAGE_SCRIPTS_MAX, path
        loaded |= own
        assert path.name == "explorer.html" or "swagger-ui" not in text, path
    assert loaded == set(scripts)


def test_the_page_to_try_calls_is_under_the_same_policy(site: Site):
    browser = site.browser()
    answer = browser.get("/docs/explorer")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == page_headers()["content-security-policy"]
    assert "/docs/openapi.json" in answer.text
    # FastAPI's own documentation pages load scripts from other hosts, so they are not served.
    assert {browser.get(path).status_code for path in ("/redoc", "/docs/oauth2-redirect")} == {404}
