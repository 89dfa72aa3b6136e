"""Notify the owner that a project's month came to the amount they set, in the transaction of the order."""

from sqlalchemy.orm import Session

from app.accounts.tables import Project
from app.events.record import record_event
from app.webhooks.fanout import fan_out
from pricing.money import Money


def publish_project_alert(session: Session, project_id: str, *, month: str, used: int, currency: str) -> None:
    """Write the event `project.alert` and its deliveries.

    `used` is what is held and spent in the billing month, in minor units. Call this for each order that takes it to the
    alert; where held amounts are released, a later order may do so again.
    """
    project = session.get_one(Project, project_id)
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
