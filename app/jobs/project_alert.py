"""Notify the owner that a project's month came to the amount they set, in the transaction of the order."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.accounts.tables import Project
from app.events.record import record_event
from app.webhooks.fanout import fan_out
from pricing.money import Money


def publish_project_alert(session: Session, project_id: str, *, month: str, used: int, currency: str) -> None:
    """Write the event `project.alert` and its deliveries, once in a billing month.

    `used` is what is held and spent in the month, in minor units.
    """
    untold = (Project.id == project_id, Project.alert_told_month.is_distinct_from(month))
    claim = update(Project).where(*untold).values(alert_told_month=month).returning(Project)
    project = session.scalars(claim, execution_options={"populate_existing": True}).one_or_none()
    if project is None:
        # Another order came to the amount at the same time.
        return
    data = {
        "id": project.id,
        "object": "project",
        "name": project.name,
        "month": month,
        "used": Money(used, currency).text,
        "alert": Money(project.alert_month or 0, currency).text,
        "currency": currency,
    }
    event = record_event(
        session, account_id=project.account_id, project_id=project.id, job_id=None, type="project.alert", data=data
    )
    fan_out(session, event)
