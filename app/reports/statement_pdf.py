"""A statement as a PDF, in English and in Chinese."""

from fractions import Fraction

from reportlab.platypus import Flowable

from app.reports import pdf
from app.reports.statements import Statement
from app.reports.translations import Language, decimals, translate
from pricing.money import Money


def statement_pdf(statement: Statement, language: Language) -> bytes:
    """Return the statement as a PDF: usage and charges, waiting times, and the wallet's movements."""
    title = f"{translate('statement', language)} {statement.month}"
    project = statement.project or translate("all_projects", language)
    story: list[Flowable] = [
        pdf.pdf_text(title, pdf.TITLE),
        pdf.pdf_text(f"{translate('account', language)}: {statement.account} ({statement.account_id})"),
        pdf.pdf_text(f"{translate('project', language)}: {project}"),
        pdf.pdf_text(f"{statement.since:%Y-%m-%d} – {statement.until:%Y-%m-%d} ({statement.zone})"),
        *([pdf.pdf_text(_numbers(*statement.numbers, language))] if statement.numbers else []),
        pdf.gap(4),
        _positions(statement, language),
    ]
    if statement.waits:
        story += [pdf.pdf_text(translate("waits", language), pdf.HEADING), _waits(statement, language)]
    if statement.opening is not None:
        heading = f"{translate('wallet', language)} ({statement.currency})"
        story += [pdf.pdf_text(heading, pdf.HEADING), _wallet(statement, language)]
    return pdf.write_pdf(title, story)


def _numbers(first: int, last: int, language: Language) -> str:
    words = f"{translate('receipts', language)} {translate('number', language)}"
    return f"{words} {first}" + (f" – {last}" if last > first else "")


def _positions(statement: Statement, language: Language) -> Flowable:
    head = ("project", "model", "resolution", "tier", "videos", "seconds", "gpu_seconds", "list_price", "charged")
    rows = [
        (
            each.project,
            each.model,
            each.resolution,
            statement.tier(each.tier, language),
            str(each.videos),
            decimals(each.seconds),
            decimals(Fraction(each.gpu_milliseconds, 1000)),
            Money(each.list_total, statement.currency).text,
            Money(each.total, statement.currency).text,
        )
        for each in (*statement.positions, statement.whole)
    ]
    rows[-1] = (translate("total", language), *rows[-1][1:])
    widths = (2.6, 2.6, 1.7, 1.6, 1.2, 1.5, 1.9, 1.9, 1.7)
    return pdf.table([translate(name, language) for name in head], rows, widths=widths, right=5)


def _waits(statement: Statement, language: Language) -> Flowable:
    head = [translate(name, language) for name in ("tier", "started", "median", "p95")]
    rows = [
        (statement.tier(each.tier, language), str(each.started), str(each.median), str(each.p95))
        for each in statement.waits
    ]
    return pdf.table(head, rows, widths=(3, 2, 2, 2), right=3)


def _wallet(statement: Statement, language: Language) -> Flowable:
    def money(minor: int) -> str:
        return Money(minor, statement.currency).text

    rows = [(translate("opening", language), "", money(statement.opening or 0))]
    rows += [(translate(each.kind, language), str(each.transfers), money(each.amount)) for each in statement.moved]
    rows.append((translate("closing", language), "", money(statement.closing or 0)))
    head = [translate(name, language) for name in ("what", "transfers", "amount")]
    return pdf.table(head, rows, widths=(5, 2, 3), right=2)
