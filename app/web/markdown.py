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


def render_markdown(text: str) -> RenderedMarkdown:
    """Render a document that begins with a heading and a paragraph. Raises ValueError for another beginning."""
    tokens = _parser().parse(text)
    kinds = [token.type for token in tokens[:6]]
    if kinds[:4] != ["heading_open", "inline", "heading_close", "paragraph_open"]:
        raise ValueError("a document begins with a heading and a paragraph")
    sections = []
    for position, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag in ("h2", "h3"):
            title = tokens[position + 1].content.replace("`", "")
            token.attrSet("id", anchor_of(title))
            if token.tag == "h2":
                sections.append((anchor_of(title), title))
    html = _parser().renderer.render(tokens[3:], _parser().options, {})
    return RenderedMarkdown(tokens[1].content, tokens[4].content, Markup(html), tuple(sections))


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
