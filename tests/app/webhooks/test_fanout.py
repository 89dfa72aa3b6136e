import json

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.events.types import EVENT_TYPES
from app.webhooks.endpoints import update_endpoint
from app.webhooks.fanout import fan_out, is_subscribed, new_delivery
from app.webhooks.schemas import EndpointUpdate
from app.webhooks.tables import Delivery, Endpoint, Secret
from tests.app.webhooks.factories import URL, open_account, open_endpoint, open_project, publish


def targets(session: Session, event_id: str) -> set[str]:
    query = (
        select(Endpoint.name).join(Delivery, Delivery.endpoint_id == Endpoint.id).where(Delivery.event_id == event_id)
    )
    return set(session.scalars(query))


def test_each_endpoint_gets_what_it_asked_for(session: Session):
    caller = open_account(session)
    open_endpoint(session, caller, name="all")
    open_endpoint(session, caller, name="videos", event_types=["video.*"])
    open_endpoint(session, caller, name="ends", event_types=["video.completed", "video.failed"])
    open_endpoint(session, caller, name="wallet", event_types=["wallet.low"])
    assert targets(session, publish(session, caller).id) == {"all", "videos", "ends"}
    assert targets(session, publish(session, caller, "video.started").id) == {"all", "videos"}
    assert targets(session, publish(session, caller, "wallet.low").id) == {"all", "wallet"}


def test_projects_accounts_and_test_mode_stay_apart(session: Session):
    caller, other, trial = open_account(session), open_account(session), open_account(session, test=True)
    ours, theirs = open_project(session, caller, "ours"), open_project(session, caller, "theirs")
    open_endpoint(session, caller, name="ours", project=ours)
    open_endpoint(session, caller, name="whole")
    open_endpoint(session, other, name="other")
    open_endpoint(session, trial, name="trial")
    assert targets(session, publish(session, caller, project_id=ours).id) == {"ours", "whole"}
    assert targets(session, publish(session, caller, project_id=theirs).id) == {"whole"}
    assert targets(session, publish(session, caller).id) == {"whole"}
    assert targets(session, publish(session, trial).id) == {"trial"}


def test_a_disabled_endpoint_receives_nothing(session: Session):
    caller = open_account(session)
    endpoint = open_endpoint(session, caller)
    update_endpoint(session, caller, endpoint.id, EndpointUpdate(enabled=False))
    assert targets(session, publish(session, caller).id) == set()


def test_a_callback_url_receives_the_end_of_its_own_job_only(session: Session):
    caller = open_account(session)
    urls = ["https://app.example.com/done?job=1", "https://app.example.com/done?job=2", "https://b.example.com/"]
    for url in urls:
        assert fan_out(session, publish(session, caller, "video.started", callback_url=url)) == []
        publish(session, caller, "video.failed", callback_url=url)
    deliveries = session.scalars(select(Delivery).where(Delivery.account_id == caller.account_id)).all()
    assert sorted(delivery.url or "" for delivery in deliveries) == urls
    # One hidden endpoint per origin, one secret per account.
    origins = session.scalars(select(Endpoint.url).where(Endpoint.account_id == caller.account_id)).all()
    assert sorted(origins) == ["https://app.example.com", "https://b.example.com"]
    secrets = select(func.count()).select_from(Secret).where(Secret.account_id == caller.account_id)
    assert session.scalar(secrets) == 1


def test_an_event_is_fanned_out_once(session: Session):
    caller = open_account(session)
    open_endpoint(session, caller)
    event = publish(session, caller)
    with pytest.raises(IntegrityError, match="uq_webhook_deliveries"):
        fan_out(session, event)


def test_an_event_has_one_open_delivery_to_an_endpoint(session: Session):
    caller = open_account(session)
    endpoint = open_endpoint(session, caller)
    event = publish(session, caller)
    session.add(new_delivery(session, event, endpoint.id, None, "manual"))
    with pytest.raises(IntegrityError, match="uq_webhook_deliveries_open"):
        session.flush()


@pytest.mark.parametrize("type_", EVENT_TYPES)
def test_a_star_passes_everything_but_tests(type_: str):
    assert is_subscribed(["*"], type_) == (type_ != "webhook.test")


def test_nothing_of_the_event_is_in_the_url(session: Session):
    caller = open_account(session)
    open_endpoint(session, caller)
    event = publish(session, caller)
    assert json.loads(event.body)["data"]["price"] == {"total": "2.19"}
    assert session.scalars(select(Endpoint.url).where(Endpoint.account_id == caller.account_id)).all() == [URL]
