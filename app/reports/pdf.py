"""PDF pages in English and in Chinese: a packaged font for Chinese characters, Helvetica for the rest."""

import io
import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from importlib.resources import as_file, files

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

HAN = "Han"
# Helvetica of every PDF reader has the characters of Windows-1252; all others are set in the packaged font.
_BEYOND = re.compile(r"[^\x00-\xff\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u20ac]+")

TITLE = ParagraphStyle("title", fontName="Helvetica-Bold", fontSize=18, leading=24, spaceAfter=2 * mm)
HEADING = ParagraphStyle(
    "heading", fontName="Helvetica-Bold", fontSize=11, leading=15, spaceBefore=5 * mm, spaceAfter=1.5 * mm
)
TEXT = ParagraphStyle("text", fontName="Helvetica", fontSize=9, leading=12)
RIGHT = ParagraphStyle("right", parent=TEXT, alignment=2)
SMALL = ParagraphStyle("small", parent=TEXT, fontSize=7.5, leading=10, textColor=colors.HexColor("#555555"))
BOLD = ParagraphStyle("bold", parent=TEXT, fontName="Helvetica-Bold")
BOLD_RIGHT = ParagraphStyle("bold_right", parent=BOLD, alignment=2)

_LINES = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, 0), 0.8, colors.black),
        ("LINEBELOW", (0, 1), (-1, -1), 0.25, colors.HexColor("#cccccc")),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
        ("LEFTPADDING", (0, 0), (-1, -1), 2),
        ("RIGHTPADDING", (0, 0), (-1, -1), 2),
    ]
)


@lru_cache(maxsize=1)
def _register() -> None:
    with as_file(files("app.reports") / "fonts" / "DroidSansFallback.ttf") as path:
        pdfmetrics.registerFont(TTFont(HAN, str(path)))


def pdf_text(text: str, style: ParagraphStyle = TEXT) -> Paragraph:
    """Return a paragraph in which each run of characters has a font with its glyphs."""
    _register()
    parts, at = [], 0
    for run in _BEYOND.finditer(text):
        parts.append(escape(text[at : run.start()], quote=False))
        parts.append(f'<font name="{HAN}">{escape(run.group(), quote=False)}</font>')
        at = run.end()
    parts.append(escape(text[at:], quote=False))
    return Paragraph("".join(parts), style)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, widths: Sequence[float], right: int) -> Flowable:
    """Return a table; its last `right` columns hold numbers, and a last row that begins bold is up to the caller.

    `widths` are shares of the page's width.
    """
    width = A4[0] - 36 * mm
    scale = width / sum(widths)
    first_right = len(head) - right

    def cells(row: Sequence[str], left: ParagraphStyle, numbers: ParagraphStyle) -> list[Paragraph]:
        return [pdf_text(cell, numbers if number >= first_right else left) for number, cell in enumerate(row)]

    body = [cells(head, BOLD, BOLD_RIGHT), *(cells(row, TEXT, RIGHT) for row in rows)]
    grid = Table(body, colWidths=[width * scale for width in widths], repeatRows=1)
    grid.setStyle(_LINES)
    return grid


def gap(height: float = 3) -> Flowable:
    """Return vertical space of `height` millimetres."""
    return Spacer(1, height * mm)


def write_pdf(title: str, story: list[Flowable]) -> bytes:
    """Return the pages as bytes; the same story gives the same bytes."""
    out = io.BytesIO()
    SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=18 * mm,
        rightMargin=18 * mm,
        topMargin=16 * mm,
        bottomMargin=16 * mm,
        title=title,
        author="Cinemeter",
        invariant=1,
    ).build(story)
    return out.getvalue()
