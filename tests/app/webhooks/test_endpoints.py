import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from standardwebhooks import Webhook

from app.clock import local_now
from app.db import transaction
from app.errors import AppError
from app.settings import get_settings
from app.webhooks.callback_secret import get_callback_secret, rotate_callback_secret
from app.webhooks.endpoints import (
    ENDPOINTS_MAX,
    create_endpoint,
    delete_endpoint,
    find_endpoint,
    list_endpoints,
    rotate_secret,
    update_endpoint,
)
from app.webhooks.schemas import EndpointCreate, EndpointUpdate, SecretRotate
from app.webhooks.secret import ACTIVE_MAX, SecretLostError, active_secrets, current_secret, key_of
from app.webhooks.signing import format_secret, sign
from app.webhooks.tables import Delivery, Endpoint, Secret
from tests.app.webhooks.factories import URL, claim_due, let_pass, open_account, open_endpoint, open_project, publish


def refused(session: Session, **fields: object) -> AppError:
    with pytest.raises(AppError) as caught:
        open_endpoint(session, open_account(session), **fields)
    return caught.value


def signing_secrets(session: Session, endpoint_id: str) -> list[str]:
    owner = (session.get_one(Endpoint, endpoint_id).account_id, endpoint_id)
    rows = active_secrets(session, [owner]).get(owner, ())
    return [format_secret(key_of(identifier, fingerprint)) for identifier, fingerprint in rows]


def test_the_secret_is_shown_at_creation_and_never_again(session: Session):
    caller = open_account(session)
    endpoint = open_endpoint(session, caller, name="billing")
    assert endpoint.signing_secret is not None
    assert endpoint.signing_secret.startswith("whsec_")
    [listed], more = list_endpoints(session, caller)
    assert (listed.id, listed.signing_secret, more) == (endpoint.id, None, False)
    assert listed.signing_secret_hint == f"whsec_…{endpoint.signing_secret[-4:]}"
    assert signing_secrets(session, endpoint.id) == [endpoint.signing_secret]


def test_no_secret_lies_in_the_database(session: Session):
    endpoint = open_endpoint(session, open_account(session))
    row = session.scalars(select(Secret).where(Secret.endpoint_id == endpoint.id)).one()
    stored = " ".join(str(getattr(row, column.key)) for column in Secret.__table__.columns)
    assert endpoint.signing_secret is not None
    assert endpoint.signing_secret[6:-4] not in stored


def test_a_rotation_overlaps_for_the_requested_time(session: Session):
    caller = open_account(session)
    old = open_endpoint(session, caller)
    new = rotate_secret(session, caller, old.id, keep_old_hours=24)
    assert new.signing_secret != old.signing_secret
    assert signing_secrets(session, old.id) == [new.signing_secret, old.signing_secret]
    let_pass(session, timedelta(hours=25))
    assert signing_secrets(session, old.id) == [new.signing_secret]
    newest = rotate_secret(session, caller, old.id, keep_old_hours=0)
    assert signing_secrets(session, old.id) == [newest.signing_secret]


def test_a_receiver_with_either_secret_verifies_during_the_overlap(session: Session):
    caller = open_account(session)
    old = open_endpoint(session, caller)
    new = rotate_secret(session, caller, old.id, keep_old_hours=24)
    event = publish(session, caller)
    [request] = claim_due(session)
    keys = [key_of(identifier, fingerprint) for identifier, fingerprint in request.secrets]
    headers = sign(keys, event_id=event.id, at=local_now(), body=request.body)
    for secret in (old.signing_secret, new.signing_secret):
        assert secret is not None
        Webhook(secret).verify(request.body.decode(), headers)


def test_many_rotations_leave_few_secrets(session: Session):
    caller = open_account(session)
    endpoint = open_endpoint(session, caller)
    for _ in range(8):
        rotate_secret(session, caller, endpoint.id, keep_old_hours=72)
    assert len(signing_secrets(session, endpoint.id)) == ACTIVE_MAX


def test_secrets_are_lost_with_the_services_secret_and_that_is_noticed(
    session: Session, monkeypatch: pytest.MonkeyPatch
):
    endpoint = open_endpoint(session, open_account(session))
    row = session.scalars(select(Secret).where(Secret.endpoint_id == endpoint.id)).one()
    monkeypatch.setenv("CINEMETER_SECRET", "another one")
    get_settings.cache_clear()
    key_of.cache_clear()
    with pytest.raises(SecretLostError):
        key_of(row.id, row.fingerprint)
    monkeypatch.undo()
    get_settings.cache_clear()


def test_the_callback_secret_of_an_account_rotates_too(session: Session):
    caller = open_account(session)
    first = get_callback_secret(session, caller)
    assert first.signing_secret is None
    let_pass(session, timedelta(seconds=1))
    first = rotate_callback_secret(session, caller, keep_old_hours=24)
    let_pass(session, timedelta(seconds=1))
    publish(session, caller, callback_url="https://app.example.com/done")
    second = rotate_callback_secret(session, caller, keep_old_hours=24)
    [request] = claim_due(session)
    secrets = [format_secret(key_of(identifier, fingerprint)) for identifier, fingerprint in request.secrets]
    # The one that was made first, and shown to nobody, signs for a day too.
    assert secrets[:2] == [second.signing_secret, first.signing_secret]
    assert len(secrets) == 3
    assert get_callback_secret(session, caller).signing_secret_hint == second.signing_secret_hint
    with pytest.raises(AppError, match="project"):
        rotate_callback_secret(session, replace(caller, project_id="proj_1"), keep_old_hours=0)
    assert current_secret(session, open_account(session).account_id, None) is None


@pytest.mark.parametrize(
    "url", ["http://hooks.example.com/", "https://127.0.0.1/", "https://db.internal/", "https://a:b@hooks.example.com/"]
)
def test_a_suspicious_url_is_refused(session: Session, url: str):
    error = refused(session, url=url)
    assert (error.code, error.field) == ("url_refused", "url")


@pytest.mark.parametrize("pattern", ["video.exploded", "vid?o.completed", "*.completed", "audio.*", "video.[a-z]*"])
def test_an_unknown_event_type_is_refused_by_its_place(session: Session, pattern: str):
    error = refused(session, event_types=["video.*", pattern])
    assert (error.code, error.field) == ("invalid_request", "event_types.1")
    assert "video.completed" in error.facts["allowed"]


def test_unknown_fields_are_refused():
    with pytest.raises(ValidationError, match="colour"):
        EndpointCreate.model_validate({"url": URL, "colour": "red"})


def test_an_update_changes_only_what_is_given(session: Session):
    caller = open_account(session)
    endpoint = open_endpoint(session, caller, name="one", event_types=["video.completed"])
    let_pass(session, timedelta(minutes=1))
    same = update_endpoint(session, caller, endpoint.id, EndpointUpdate(name="one"))
    assert same.updated_at == endpoint.updated_at
    changed = update_endpoint(
        session, caller, endpoint.id, EndpointUpdate(url="https://new.example.com/", rate_per_second=5)
    )
    assert (changed.name, changed.url, changed.rate_per_second) == ("one", "https://new.example.com/", 5)
    assert changed.event_types == ["video.completed"]
    assert changed.updated_at > endpoint.updated_at
    with pytest.raises(AppError, match="scheme"):
        update_endpoint(session, caller, endpoint.id, EndpointUpdate(url="ftp://new.example.com/"))


def test_pending_deliveries_follow_a_new_address(session: Session):
    caller = open_account(session)
    endpoint = open_endpoint(session, caller)
    publish(session, caller)
    update_endpoint(session, caller, endpoint.id, EndpointUpdate(url="https://new.example.com/"))
    assert [request.url for request in claim_due(session)] == ["https://new.example.com/"]


def test_disabling_abandons_and_enabling_starts_clean(session: Session):
    caller = open_account(session)
    endpoint = open_endpoint(session, caller)
    event = publish(session, caller)
    off = update_endpoint(session, caller, endpoint.id, EndpointUpdate(enabled=False))
    assert (off.status, off.disabled_reason) == ("disabled", "owner")
    delivery = session.scalars(select(Delivery).where(Delivery.event_id == event.id)).one()
    session.refresh(delivery)
    assert (delivery.state, delivery.ended_reason) == ("abandoned", "endpoint_disabled")
    on = update_endpoint(session, caller, endpoint.id, EndpointUpdate(enabled=True))
    assert (on.status, on.disabled_reason) == ("enabled", None)


def test_a_deleted_endpoint_is_gone_and_its_secrets_with_it(session: Session):
    caller = open_account(session)
    endpoint = open_endpoint(session, caller)
    publish(session, caller)
    delete_endpoint(session, caller, endpoint.id)
    with pytest.raises(AppError, match="no webhook endpoint"):
        find_endpoint(session, caller, endpoint.id)
    assert claim_due(session) == []
    assert signing_secrets(session, endpoint.id) == []
    assert list_endpoints(session, caller) == ([], False)


def test_other_tenants_other_modes_and_other_projects_see_nothing(session: Session):
    caller = open_account(session)
    project = open_project(session, caller)
    endpoint = open_endpoint(session, caller)
    strangers = [open_account(session), replace(caller, test=True), replace(caller, project_id=project)]
    for stranger in strangers:
        assert list_endpoints(session, stranger) == ([], False)
        for attempt in (
            lambda who: find_endpoint(session, who, endpoint.id),
            lambda who: update_endpoint(session, who, endpoint.id, EndpointUpdate(name="mine")),
            lambda who: delete_endpoint(session, who, endpoint.id),
            lambda who: rotate_secret(session, who, endpoint.id, keep_old_hours=0),
        ):
            with pytest.raises(AppError) as caught:
                attempt(stranger)
            assert caught.value.code == "not_found"


def test_a_key_of_a_project_registers_for_its_project(session: Session):
    caller = open_account(session)
    project = open_project(session, caller)
    endpoint = open_endpoint(session, replace(caller, project_id=project))
    assert endpoint.project == project
    by_name = open_endpoint(session, caller, project="unit")
    assert by_name.project == project
    with pytest.raises(AppError, match="no project"):
        open_endpoint(session, caller, project="elsewhere")


def test_lists_page_the_newest_first(session: Session):
    caller = open_account(session)
    endpoint_ids = []
    for _ in range(5):
        endpoint_ids.insert(0, open_endpoint(session, caller).id)
        let_pass(session, timedelta(seconds=1))
    first, more = list_endpoints(session, caller, limit=3)
    second, end = list_endpoints(session, caller, after=first[-1].id, limit=3)
    assert [endpoint.id for endpoint in first + second] == endpoint_ids
    assert (more, end) == (True, False)


def test_an_account_has_only_so_many_endpoints(session: Session):
    caller = open_account(session)
    project = replace(caller, project_id=open_project(session, caller))
    callers = (caller, replace(caller, test=True), project)
    for number in range(ENDPOINTS_MAX):
        last = open_endpoint(session, callers[number % 3])
    for each in callers:
        with pytest.raises(AppError, match="50 endpoints"):
            create_endpoint(session, each, EndpointCreate(url=URL))
    delete_endpoint(session, callers[(ENDPOINTS_MAX - 1) % 3], last.id)
    open_endpoint(session, caller)


def test_two_at_once_are_not_both_an_accounts_last_endpoint(engine: Engine):
    with transaction(engine) as session:
        caller = open_account(session)
        for _ in range(ENDPOINTS_MAX - 1):
            open_endpoint(session, caller)
    together = threading.Barrier(4)

    def create() -> str:
        with transaction(engine) as session:
            together.wait(30)
            try:
                return open_endpoint(session, caller).id
            except AppError as error:
                return error.code

    with ThreadPoolExecutor(4) as pool:
        ended = [each.result() for each in [pool.submit(create) for _ in range(4)]]
    assert sorted(ended)[:3] == ["conflict"] * 3
    assert sorted(ended)[3].startswith("whe_")


def test_both_spellings_of_the_overlap():
    assert SecretRotate().hours() == 0
    assert SecretRotate(keep_old_secret_active_for_24_hours=True).hours() == 24
    assert SecretRotate(keep_old_secret_active_for_24_hours=True, keep_old_hours=48).hours() == 48
