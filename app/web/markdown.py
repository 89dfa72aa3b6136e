"""Render the Markdown of the documentation as HTML: no raw HTML, safe links, headings with anchors."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape


@dataclass(frozen=True)
class RenderedMarkdown:
    """A rendered text: its title (the first heading), its HTML without that heading, and its sections."""

    title: str
    lead: str
    html: Markup
    sections: tuple[tuple[str, str], ...]  # anchor and title of each heading of the second level
    anchors: tuple[str, ...]  # of each heading of the second and third level


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    """Return the parser: CommonMark with tables. Raw HTML is text, and links to scripts are none."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("fence", _code)
    parser.add_render_rule("table_open", _table_open)
    parser.add_render_rule("table_close", _table_close)
    return parser


def render_inline(text: str) -> Markup:
    """Return a short text, such as a description of a parameter, as HTML without a paragraph around it."""
    return Markup(_parser().renderInline(text))


def render_paragraphs(text: str) -> Markup:
    """Return a text of some paragraphs as HTML."""
    return Markup(_parser().render(text))


def render_markdown(text: str, anchors: Sequence[str] | None = None) -> RenderedMarkdown:
    """Render a document that begins with a heading and a paragraph.

    `anchors` are those of its headings of the second and third level in their order: a translation has the anchors of
    its original, so that a link leads to the same section in every language. None makes them of the headings.
    Raises ValueError for another beginning, and for another number of anchors than of headings.
    """
    tokens = _parser().parse(text)
    kinds = [token.type for token in tokens[:6]]
    if kinds[:4] != ["heading_open", "inline", "heading_close", "paragraph_open"]:
        raise ValueError("a document begins with a heading and a paragraph")
    places = [at for at, token in enumerate(tokens) if token.type == "heading_open" and token.tag in ("h2", "h3")]
    titles = [tokens[at + 1].content.replace("`", "") for at in places]
    anchors = tuple(map(anchor_of, titles) if anchors is None else anchors)
    if len(anchors) != len(titles):
        raise ValueError(f"{len(titles)} headings, and {len(anchors)} anchors for them")
    sections = []
    for at, title, anchor in zip(places, titles, anchors, strict=True):
        tokens[at].attrSet("id", anchor)
        if tokens[at].tag == "h2":
            sections.append((anchor, title))
    html = _parser().renderer.render(tokens[3:], _parser().options, {})
    return RenderedMarkdown(tokens[1].content, tokens[4].content, Markup(html), tuple(sections), anchors)


def code_blocks(text: str) -> list[tuple[str, str]]:
    """Return the code blocks of a document: what stands behind the fence, such as `sh run`, and the code."""
    return [(token.info.strip(), token.content) for token in _parser().parse(text) if token.type == "fence"]


def links_of(text: str) -> list[str]:
    """Return the targets of the links of a document."""
    targets = []
    for token in _parser().parse(text):
        for child in token.children or ():
            if child.type == "link_open":
                targets.append(str(child.attrGet("href")))
    return targets


def anchor_of(title: str) -> str:
    """Return the anchor of a heading: `Retry an order` → `retry-an-order`."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _code(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    """Return a code block with a button that copies it. The keyboard reaches it, since it may scroll."""
    token = tokens[index]
    language = (token.info.split() or [""])[0]
    label = {"sh": "Shell", "python": "Python", "json": "JSON", "js": "JavaScript"}.get(language, "Example")
    name = f"code-{env.setdefault('codes', 0) + 1}"
    env["codes"] += 1
    head = f'<div class="apart"><span class="small faint">{label}</span><copy-text for="{name}"></copy-text></div>'
    text = f'<pre class="code" tabindex="0" aria-label="{label}"><code id="{name}">{escape(token.content)}</code></pre>'
    return f'<div class="code-block">{head}{text}</div>'


def _table_open(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    return '<div class="table-wrap" tabindex="0"><table class="table snug">'


def _table_close(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    return "</table></div>"
