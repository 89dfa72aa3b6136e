"""Record what moderation decided."""

from datetime import UTC

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.clock import now
from app.db import new_id
from app.metrics import MODERATION
from app.moderation.outcomes import CheckStage, Finding
from app.moderation.tables import ModerationOutcome


def record_before_order(
    session: Session, finding: Finding, stage: CheckStage, *, account_id: str, test: bool, interface: str
) -> None:
    """Record a finding about what is no job yet; an equal one of the account and the day is counted in its row."""
    moment = now(session)
    row = insert(ModerationOutcome).values(
        id=new_id("moderation"),
        account_id=account_id,
        test=test,
        interface=interface,
        stage=str(stage),
        outcome=str(finding.outcome),
        category=finding.category,
        score=finding.score,
        checker=finding.checker,
        rule=finding.rule,
        version=finding.version,
        day=moment.astimezone(UTC).date(),
        times=1,
        first_at=moment,
        last_at=moment,
    )
    session.execute(
        row.on_conflict_do_update(
            index_elements=["account_id", "day", "checker", "rule", "version", "stage", "outcome", "test", "interface"],
            index_where=ModerationOutcome.job_id.is_(None),
            set_={"times": ModerationOutcome.times + 1, "last_at": row.excluded.last_at, "score": row.excluded.score},
        )
    )
    MODERATION.labels(stage, finding.outcome, finding.category, finding.checker).inc()
