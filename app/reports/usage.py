"""Usage and charges of an account by day, project and model, from its receipts."""

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.errors import AppError
from pricing.exact import exact_number
from pricing.simulation_result import Case

DAYS_MAX = 366

# A pricing case holds the billed seconds of one video, so that sums of them are exact and no body is read.
GROUPED = text(
    """
    SELECT CAST(timezone(:zone, settled_at) AS date) AS day, project_id, pricing_case, count(*) AS videos,
           sum(list_total) AS list_total, sum(total) AS total, sum(gpu_milliseconds) AS gpu_milliseconds
    FROM receipts
    WHERE account_id = :account_id AND test = :test AND settled_at >= :since AND settled_at < :until
          AND (CAST(:project_id AS text) IS NULL OR project_id = :project_id)
    GROUP BY day, project_id, pricing_case
    """
)


@dataclass
class UsageRow:
    """What one day, project and model came to: billed seconds, GPU time of all takes, and money in minor units."""

    day: date
    project_id: str | None
    model: str
    videos: int = 0
    seconds: Fraction = field(default_factory=Fraction)
    gpu_milliseconds: int = 0
    list_total: int = 0
    total: int = 0


def read_usage(
    session: Session,
    account_id: str,
    *,
    first: date,
    last: date,
    project_id: str | None = None,
    test: bool = False,
) -> list[UsageRow]:
    """Return the account's usage from `first` to `last`, both days of its billing zone, by the moment of settlement.

    Test videos show what they would have cost, and are charged nothing.

    Raises AppError `not_found`; `invalid_request` for a period that is empty or longer than a year.
    """
    if not timedelta(0) <= last - first < timedelta(days=DAYS_MAX):
        raise AppError("invalid_request", f"A period has 1 to {DAYS_MAX} days.", field="last", allowed=DAYS_MAX)
    zone = get_account(session, account_id).billing_zone
    rows = session.execute(
        GROUPED,
        {
            "zone": zone,
            "account_id": account_id,
            "test": test,
            "since": midnight(first, zone),
            "until": midnight(last + timedelta(days=1), zone),
            "project_id": project_id,
        },
    )
    by_key: dict[tuple[date, str | None, str], UsageRow] = {}
    for row in rows:
        case = Case.from_json(row.pricing_case)
        use = by_key.setdefault(
            (row.day, row.project_id, case.key.model), UsageRow(row.day, row.project_id, case.key.model)
        )
        use.videos += row.videos
        use.seconds += exact_number(case.seconds) * row.videos
        use.gpu_milliseconds += int(row.gpu_milliseconds)
        use.list_total += int(row.list_total)
        use.total += 0 if test else int(row.total)
    return sorted(by_key.values(), key=lambda use: (use.day, use.project_id or "", use.model))


def midnight(day: date, zone: str) -> datetime:
    """Return the first instant of a day in a zone."""
    return datetime.combine(day, time(), ZoneInfo(zone))
