"""Receipts as an HTML page and a PDF, in English and in Chinese, from their stored bytes alone."""

from dataclasses import dataclass
from importlib.resources import files
from zoneinfo import ZoneInfo

from jinja2 import Environment
from reportlab.platypus import Flowable
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.errors import not_found
from app.jobs.tables import ReceiptRow
from app.prices.find import book_by_hash
from app.reports import pdf
from app.reports.translations import Language, decimals, translate
from pricing.exact import exact_number
from pricing.labels import label_text, mode_words
from pricing.receipt import read_receipt


@dataclass(frozen=True)
class ReceiptDocument:
    """The content of a receipt in one language; amounts are decimal strings."""

    language: Language
    number: int
    title: str
    currency: str
    facts: tuple[tuple[str, str], ...]
    head: tuple[str, str, str]
    lines: tuple[tuple[str, str, str], ...]
    total: tuple[str, str]
    tax: tuple[str, str]
    notes: tuple[str, ...]


def receipt_document(session: Session, job_id: str, language: Language) -> ReceiptDocument:
    """Return the content of an ended job's receipt. Raises AppError `not_found`."""
    row = session.get(ReceiptRow, job_id)
    if row is None:
        raise not_found("receipt", job_id)
    account = get_account(session, row.account_id)
    receipt = read_receipt(row.body.encode())
    usage, delivered = receipt["quoted"]["usage"], receipt["delivered"]
    book = book_by_hash(session, receipt["book"]["hash"]).book
    settled = row.settled_at.astimezone(ZoneInfo(account.billing_zone))
    alias = delivered["facts"].get("model_alias")
    model = f"{usage['model']} ({translate('ordered_as', language)} {alias})" if alias else usage["model"]
    facts = [
        ("settled_at", settled.strftime("%Y-%m-%d %H:%M %Z")),
        ("account", f"{account.name} ({account.id})"),
        ("video", row.job_id),
        ("outcome", translate(row.outcome, language)),
        ("model", f"{model}, {usage['resolution']}, {mode_words(usage['mode'], language)}"),
        ("tier", getattr(book.tier(usage["service_tier"]).title, language)),
        ("billed_seconds", decimals(exact_number(receipt["billed_seconds"]))),
        ("quoted", f"{receipt['quoted']['total']} {row.currency}"),
    ]
    if row.film_sha256:
        film = delivered["facts"]
        facts.append(("film", f"{film.get('frames')} / {film.get('fps')} fps, {film.get('size')}"))
    notes = [
        f"{translate('book', language)}: {receipt['book']['name']} ({receipt['book']['hash']})",
        *([f"sha256: {row.film_sha256}"] if row.film_sha256 else []),
        f"{translate('replays', language)} cinemeter replay {row.job_id}",
    ]
    if row.test:
        notes.insert(0, translate("test", language))
    return ReceiptDocument(
        language=language,
        number=row.number,
        title=f"{translate('receipt', language)} {translate('number', language)} {row.number}",
        currency=row.currency,
        facts=tuple((translate(name, language), text) for name, text in facts),
        head=(
            translate("what", language),
            translate("rule", language),
            f"{translate('amount', language)} ({row.currency})",
        ),
        lines=tuple(
            (label_text(each["key"], each["facts"], language), each["rule"], each["amount"])
            for each in receipt["lines"]
        ),
        total=(translate("total", language), receipt["total"]),
        tax=(translate("tax_included", language), receipt["tax_included"]),
        notes=tuple(notes),
    )


def receipt_html(page: ReceiptDocument) -> str:
    """Return the receipt as a page of HTML that needs nothing else, and prints well."""
    source = (files("app.reports") / "receipt.html").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(source).render(page=page)


def receipt_pdf(page: ReceiptDocument) -> bytes:
    """Return the receipt as a PDF."""
    facts = [pdf.pdf_text(f"{name}: {text}") for name, text in page.facts]
    rows = [*page.lines, (page.total[0], "", page.total[1]), (page.tax[0], "", page.tax[1])]
    story: list[Flowable] = [
        pdf.pdf_text(page.title, pdf.TITLE),
        *facts,
        pdf.gap(5),
        pdf.table(page.head, rows, widths=(6, 4, 2), right=1),
        pdf.gap(6),
        *(pdf.pdf_text(note, pdf.SMALL) for note in page.notes),
    ]
    return pdf.write_pdf(page.title, story)
