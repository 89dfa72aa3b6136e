"""A statement's videos as a table of comma-separated values, a line each, in English and in Chinese."""

import csv
import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from app.reports.statements import PERIOD, Statement, project_names, tenths
from app.reports.translations import Language, decimals, translate
from pricing.exact import exact_number
from pricing.labels import mode_words
from pricing.money import Money
from pricing.simulation_result import Case

VIDEOS = text(
    f"""
    SELECT coalesce(n.number, r.number) AS number, r.job_id, r.project_id, r.outcome, r.pricing_case, r.list_total,
           r.total, r.gpu_milliseconds, r.settled_at, extract(epoch FROM j.started_at - j.created_at) AS waited
    FROM receipts r JOIN jobs j ON j.id = r.job_id LEFT JOIN receipt_numbers n ON n.job_id = r.job_id
    WHERE {PERIOD} ORDER BY r.settled_at, r.number
    """
)

# The columns of the table of videos, by their words.
COLUMNS = (
    *("number", "settled_at", "video", "project", "outcome", "model", "resolution", "mode", "tier", "membership"),
    *("seconds", "gpu_seconds", "waited", "list_price", "charged", "currency"),
)


def write_csv(session: Session, statement: Statement, language: Language) -> str:
    """Return the month's videos as CSV (RFC 4180), a line each and a last line of sums, headed in a language.

    It begins with the byte order mark by which spreadsheets know that Chinese signs are UTF-8.
    """
    names = project_names(session, statement.account_id)
    out = io.StringIO()
    out.write("\ufeff")
    table = csv.writer(out)
    table.writerow([translate(column, language) for column in COLUMNS])
    facts = {
        "account_id": statement.account_id,
        "since": statement.since,
        "until": statement.until,
        "project_id": statement.project_id,
    }
    rows = session.execute(VIDEOS, facts, execution_options={"stream_results": True}).yield_per(1000)
    for cells in _videos(rows, names, statement, language):
        table.writerow([inert_cell(cell) for cell in cells])
    whole = statement.whole
    sums = {
        "number": translate("total", language),
        "seconds": decimals(whole.seconds),
        "gpu_seconds": decimals(Fraction(whole.gpu_milliseconds, 1000)),
        "list_price": Money(whole.list_total, statement.currency).text,
        "charged": Money(whole.total, statement.currency).text,
        "currency": statement.currency,
    }
    table.writerow([sums.get(column, "") for column in COLUMNS])
    return out.getvalue()


def _videos(rows: Any, names: dict[str, str], statement: Statement, language: Language) -> Iterator[tuple[object, ...]]:
    zone = ZoneInfo(statement.zone)
    row: Row[Any]
    for row in rows:
        case = Case.from_json(row.pricing_case)
        yield (
            row.number,
            row.settled_at.astimezone(zone).isoformat(timespec="seconds"),
            row.job_id,
            names.get(row.project_id or "", ""),
            translate(row.outcome, language),
            case.key.model,
            case.key.resolution,
            mode_words(case.key.mode, language),
            statement.tier(case.service_tier, language),
            statement.membership(case.membership, language),
            decimals(exact_number(case.seconds)),
            decimals(Fraction(row.gpu_milliseconds, 1000)),
            "" if row.waited is None else tenths(row.waited),
            Money(row.list_total, statement.currency).text,
            Money(row.total, statement.currency).text,
            statement.currency,
        )


# Some East Asian spreadsheets also take the signs in full width for the beginning of a formula.
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def inert_cell(cell: object) -> object:
    """Return a cell that no spreadsheet takes for a formula: a project may be named anything."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_SIGNS) else cell
