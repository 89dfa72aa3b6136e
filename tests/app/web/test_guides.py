"""The guides in Chinese: the same blocks, code, links and anchors as in English, and no English prose."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from app.web.docs import GUIDES, guide_source, guides
from app.web.language import LANGUAGES, in_language, translate
from app.web.markdown import code_blocks, links_of, render_markdown
from tests.app.web.conftest import Site
from tests.app.web.test_languages import CHINESE, english_words

FOLDER = Path("app/web/guides")
# Names of protocols and products, beside those of other pages; and the statuses 2xx.
NAMES = {"RFC", "SSE", "Streamable", "Svix", "xx"}
_PARSER = MarkdownIt("commonmark").enable("table")


def in_chinese(name: str) -> str:
    """Return the Chinese Markdown of a guide, with its tables."""
    with in_language("zh"):
        return guide_source(name)


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the kinds of a document's blocks in their order: headings with their level, paragraphs, items, cells."""
    return [(token.type, token.tag) for token in _PARSER.parse(text)]


def code_spans(text: str) -> list[str]:
    """Return the code in the sentences and tables of a document, sorted."""
    children = [child for token in _PARSER.parse(text) for child in token.children or ()]
    return sorted(child.content for child in children if child.type == "code_inline")


def anchors(html: str) -> list[str]:
    return re.findall(r'<h[23] id="([^"]*)"', html)


def test_every_guide_is_in_every_language():
    for folder in (FOLDER, *(FOLDER / name for name in LANGUAGES if name != "en")):
        assert sorted(path.stem for path in folder.glob("*.md")) == sorted(GUIDES), folder


@pytest.mark.parametrize("name", GUIDES)
def test_a_chinese_guide_has_the_blocks_the_code_and_the_links_of_the_english_one(name: str):
    english, chinese = guide_source(name), in_chinese(name)
    assert blocks(chinese) == blocks(english)
    assert code_blocks(chinese) == code_blocks(english)
    assert code_spans(chinese) == code_spans(english)
    assert links_of(chinese) == links_of(english)


@pytest.mark.parametrize("name", GUIDES)
def test_a_chinese_guide_names_places_and_buttons_as_the_chinese_pages_do(name: str):
    chinese = in_chinese(name)
    for names in re.findall(r"\*([A-Z][^*\n]+)\*", guide_source(name)):
        with in_language("zh"):
            assert f"“{' > '.join(translate(each) for each in names.split(', '))}”" in chinese


@pytest.mark.parametrize("name", GUIDES)
def test_the_page_of_a_guide_is_chinese_with_the_anchors_of_the_english_one(site: Site, name: str):
    browser = site.browser()
    english, chinese = browser.get(f"/docs/{name}").text, browser.get(f"/docs/{name}", **CHINESE)
    assert chinese.headers["content-language"] == "zh-CN"
    assert anchors(chinese.text) == anchors(english) == list(guides()[name].text.anchors)
    assert all(anchors(english))
    # No section says that it is English: english_words would leave that out.
    assert '<article class="prose">' in chinese.text
    assert "lang=" not in chinese.text.split("<article", 1)[1].split("</article>")[0]
    assert not english_words(chinese.text, NAMES)
    assert not re.search("[\u4e00-\u9fff]", english.split("<article", 1)[1].split("</article>")[0])


def test_a_translation_with_another_number_of_headings_is_refused():
    with pytest.raises(ValueError, match="2 headings, and 1 anchors"):
        render_markdown("# 标题\n\n正文。\n\n## 一\n\n### 二", ("one",))
