"""An account that was lived in is erased: no value of it is anywhere, and the books agree as before."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.caller import require_active_now
from app.accounts.keys import authenticate
from app.accounts.members import add_member
from app.accounts.tables import Account
from app.admin.accounts import (
    KeyOptions,
    create_account_project,
    create_key,
    invite_member,
    suspend_account,
)
from app.admin.erasures import cancel_account_films, erase_subject, plan_erasure
from app.admin.money import correct_balance, refund_job
from app.assets.ingest import add_asset, new_asset
from app.assets.owner import OwnerIds
from app.assets.tables import Asset
from app.audit_log.actor import Actor
from app.audit_log.log import FIRST, entry_hash, list_entries
from app.audit_log.tables import AuditEntry, AuditValue
from app.audit_log.values import ERASED, ERASED_FACT, shown_facts
from app.audit_log.verify import AUDIT_ERASED, broken_among, broken_entries
from app.clock import now
from app.db import Base, allow_erasure, get_engine, new_id, transaction
from app.erasure import account_steps
from app.erasure.audit_entries import Choice, erase_entries
from app.erasure.erase import list_erasures, run_erasure, start_erasure
from app.erasure.tables import Erasure, ErasureKind
from app.errors import AppError
from app.events.tables import Event
from app.jobs.idempotency import OrderIdentity
from app.jobs.schemas import VideoRequest
from app.jobs.submit import submit
from app.jobs.tables import Job, ReceiptRow
from app.moderation.tables import ModerationOutcome
from app.provenance.registry_tables import RegistryFilm
from app.reports.audit import audit_books
from app.reports.replay import replay_job
from app.roles import ADMIN_ROLES, Role
from app.storage import get_storage
from app.takedowns.reports import ReportForm, submit_report
from app.takedowns.tables import ReportSender
from app.wallet.tables import Transfer
from tests.api_client import World

pytestmark = pytest.mark.xdist_group("service")

OPERATOR = Actor("member_operator", "page", frozenset(ADMIN_ROLES))
# No word of the service or of another account; every value of the account has it.
WORD = "zephyrine"
FILM: dict[str, Any] = {"model": "synthetic", "prompt": f"{WORD} dances", "seconds": 1, "resolution": "480P"}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


@pytest.fixture
def lived_in(world: World) -> World:
    """The world, in which Alice's account has ordered by every interface, and operators have dealt with it."""
    order(world)
    world.work()
    deal_with(world)
    return world


def order(world: World) -> None:
    endpoint = {"url": f"https://{WORD}.example/hook", "event_types": ["*"], "name": f"{WORD}'s server"}
    assert world.post("/v1/webhook_endpoints", endpoint).status_code < 300
    more = {
        "metadata": {"customer": f"{WORD} Ltd"},
        "user": f"{WORD}-7",
        "callback_url": f"https://{WORD}.example/done",
    }
    native = world.post("/v1/videos", {**FILM, **more}, headers={"Idempotency-Key": f"{WORD}-1"})
    assert native.status_code < 300, native.text
    shots = [{"prompt": f"{WORD} sings", "seconds": 1, "negative_prompt": f"no {WORD}"}]
    storyboard = {"model": "synthetic", "resolution": "480P", "prompt": f"as {WORD} likes it", "shots": shots}
    assert world.post("/v1/videos", storyboard).status_code < 300
    assert world.post("/v1/videos", {**FILM, "n": 2}).status_code < 300
    assert world.post("/v1/videos/quotes", FILM).status_code < 300
    assert world.post("/v1/videos", FILM, key=world.test_key).status_code < 300
    task = {
        "model": "synthetic",
        "input": {"prompt": f"{WORD} runs"},
        "parameters": {"duration": 1, "size": "832*480"},
    }
    path = "/api/v1/services/aigc/video-generation/video-synthesis"
    assert world.post(path, task, headers={"X-DashScope-Async": "enable"}).status_code == 200
    call = {"input": {"prompt": f"{WORD} flies", "duration": 1}, "webhook": f"https://{WORD}.example/replicate"}
    prediction = world.post("/replicate/v1/models/cinemeter/synthetic/predictions", call)
    assert prediction.status_code < 300, prediction.text
    refused = world.post("/v1/videos", {**FILM, "prompt": f"nude child {WORD}"})
    assert refused.json()["code"] == "content_refused"
    uploaded = world.post("/v1/assets", files={"file": (f"{WORD}.png", PNG, "image/png")})
    assert uploaded.status_code in (201, 422), uploaded.text


def deal_with(world: World) -> None:
    account_id = world.alice_id
    with transaction() as session:
        session.execute(update(Account).where(Account.id == account_id).values(name=f"{WORD} Ltd"))
        add_member(
            session, account_id, f"{WORD}@example.com", roles=("owner", "creator"), password="a long pass", name=WORD
        )
        create_account_project(session, OPERATOR, account_id, f"{WORD}'s trailer", None)
        invite_member(session, OPERATOR, account_id, f"friend-of-{WORD}@example.com", ("creator",))
        create_key(session, OPERATOR, account_id, KeyOptions(("videos",), name=f"{WORD}'s key"))
        job_id = session.scalars(select(ReceiptRow.job_id).where(ReceiptRow.total > 1)).first()
        assert job_id is not None
        refund_job(session, OPERATOR, account_id, job_id, 1, reference="refund-1", reason=f"erased: {WORD}")
        suspend_account(session, OPERATOR, account_id, f"{WORD} asked for it")
        report = ReportForm("copyright", job_id, "It is mine.", "Chen Wei", "chen@example.com", is_truthful=True)
        submit_report(session, report)
        write_in_the_clear(session, account_id)


def write_in_the_clear(session: Session, account_id: str, **more: str) -> None:
    """Write an entry of the audit log as the versions before it did: with the values themselves in its facts."""
    last = session.scalar(select(AuditEntry.hash).order_by(AuditEntry.number.desc()).limit(1))
    entry = AuditEntry(
        at=now(session),
        actor="house",
        via="seed",
        act="account.opened",
        subject=account_id,
        facts={"name": f"{WORD} Ltd", "kind": "prepaid", **more},
        previous_hash=last or FIRST,
    )
    entry.hash = entry_hash(entry)
    session.add(entry)


def rows_with(word: str) -> list[str]:
    """The names of the tables that have a word anywhere in a row."""
    with transaction() as session:
        return [
            table.name
            for table in Base.metadata.sorted_tables
            if session.scalar(text(f"SELECT true FROM {table.name} AS t WHERE t::text ILIKE '%{word}%' LIMIT 1"))
        ]


def erase(account_id: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for step, rows in erase_subject(OPERATOR, ErasureKind.ACCOUNT, account_id):
        totals[step] = totals.get(step, 0) + rows
    return totals


def files() -> Iterator[str]:
    return (stat.key for folder in ("films/", "takes/", "assets/", "uploads/") for stat in get_storage().list(folder))


@pytest.mark.timeout(300)
def test_nothing_of_an_erased_account_is_left_and_the_books_agree(
    lived_in: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob_film = lived_in.post("/v1/videos", {**FILM, "prompt": "Bob's film"}, key=lived_in.bob).json()["id"]
    lived_in.work()
    with transaction() as session:
        assert audit_books(session) == []
        moment = now(session)
        receipts = dict(session.execute(select(ReceiptRow.job_id, ReceiptRow.body)).all())
        films = session.scalars(select(Job.id).where(Job.account_id == lived_in.alice_id)).all()
        plan = plan_erasure(session, OPERATOR, ErasureKind.ACCOUNT, lived_in.alice_id)
    before = rows_with(WORD)
    assert {"accounts", "members", "jobs", "quotes", "events", "webhook_endpoints", "job_metadata", "transfers"} <= set(
        before
    )
    assert {"projects", "api_keys", "invitations", "audit_values", "audit_entries", "submissions"} <= set(before)
    assert next(line.rows for line in plan.goes if line.what.startswith("films")) == len(films)
    assert "were bought" in plan.money[0]
    assert plan.unfinished == ()

    interrupt(lived_in.alice_id)
    with monkeypatch.context() as patch:
        # A step that is done is not done again.
        patch.setattr(account_steps, "get_storage", None)
        totals = erase(lived_in.alice_id)
    assert "films" not in totals
    assert totals["account"] == 1
    assert rows_with(WORD) == []
    assert {key.split("/")[1] for key in files()} == {bob_film}
    with transaction() as session:
        assert audit_books(session) == []
        assert list(broken_entries(session)) == []
        for job_id, body in receipts.items():
            assert replay_job(session, job_id) == (body.encode(), None)
        assert not session.scalars(select(ModerationOutcome)).all()
        # The law keeps the film's entry in the registry, without the account.
        kept = session.scalars(select(RegistryFilm).where(RegistryFilm.film_id.in_(films))).all()
        assert kept
        assert {each.account_id for each in kept} == {None}
        # What somebody else reported is theirs.
        assert session.scalars(select(ReportSender.name)).all() == ["Chen Wei"]
        entries = list_entries(session, subject=lived_in.alice_id)
        facts = shown_facts(session, entries)
        assert [(each.act, facts[each.number]) for each in entries if each.act.startswith("account.")] == [
            ("account.opened", {"name": ERASED, "kind": "prepaid"}),
            ("account.suspended", {"reason": ERASED}),
        ]
        assert broken_among(session, entries) == []
        assert [each.act for each in entries][:2] == ["erasure.finished", AUDIT_ERASED]
        assert moment <= entries[0].at
    assert lived_in.get("/v1/videos").status_code == 401
    assert lived_in.get(f"/v1/videos/{bob_film}", key=lived_in.bob).status_code == 200
    # As after a restore of an older backup: everything is gone over again.
    assert erase(lived_in.alice_id)["films"] == len(films)
    with transaction() as session:
        assert [each.finished_at is not None for each in list_erasures(session)] == [True, True]
        assert audit_books(session) == []


def interrupt(account_id: str) -> None:
    """Start an erasure whose process dies in the middle of the events, some of which are erased by then."""
    with transaction() as session:
        erasure_id = start_erasure(session, OPERATOR, ErasureKind.ACCOUNT, account_id).id
    steps = run_erasure(erasure_id, OPERATOR)
    for name, _ in steps:
        if name == "events":
            break
    del steps
    with transaction() as session:
        [erasure] = list_erasures(session)
        assert set(erasure.steps) == {"films", "uploads", "orders", "webhooks"}
        assert audit_books(session) == []


def test_an_account_with_films_in_work_is_not_erased(world: World) -> None:
    video = world.post("/v1/videos", FILM).json()["id"]
    with transaction() as session:
        plan = plan_erasure(session, OPERATOR, ErasureKind.ACCOUNT, world.alice_id)
        assert (plan.unfinished, plan.open_holds) == ((video,), 1)
    with pytest.raises(AppError, match="1 films are not finished, and 1 holds are open") as refused:
        erase(world.alice_id)
    assert refused.value.facts["videos"] == [video]
    # Nothing was closed.
    assert world.get(f"/v1/videos/{video}").status_code == 200
    assert cancel_account_films(OPERATOR, world.alice_id) == 1
    world.work()
    erase(world.alice_id)
    assert rows_with(WORD) == []
    with transaction() as session:
        assert audit_books(session) == []


def test_who_may_not_erase_changes_nothing(world: World) -> None:
    reader = Actor("member_reader", "page", frozenset({Role.PRICING_APPROVER}))
    own = Actor(world.alice_id, "key", frozenset({Role.OPERATOR}))
    for actor in (reader, own):
        with pytest.raises(AppError) as refused:
            list(erase_subject(actor, ErasureKind.ACCOUNT, world.alice_id))
        assert refused.value.code == "forbidden"
    with pytest.raises(AppError) as missing:
        list(erase_subject(OPERATOR, ErasureKind.ACCOUNT, "acct_nobody"))
    assert missing.value.code == "not_found"
    assert world.get("/v1/videos").status_code == 200


@pytest.fixture
def dealt_with(world: World) -> World:
    """The world with one order and an account that is suspended; the log has an entry of an older version too."""
    assert world.post("/v1/videos", FILM).status_code < 300
    with transaction() as session:
        suspend_account(session, OPERATOR, world.alice_id, f"{WORD} asked for it")
        write_in_the_clear(session, world.alice_id)
    return world


@pytest.mark.usefixtures("dealt_with")
def test_the_audit_notices_values_that_no_erasure_took() -> None:
    """A fact that was deleted or changed by hand, a body without an erasure, an erasure that the log does not have."""
    statements = (
        ("DELETE FROM audit_values", "audit_trail_is_unbroken"),
        ("UPDATE audit_values SET value = '\"another\"'", "audit_trail_is_unbroken"),
        ("UPDATE audit_entries SET facts = '{}' WHERE act = 'account.opened'", "audit_trail_is_unbroken"),
        ("UPDATE events SET erased_hash = ''", "erased_event_has_its_erasure"),
        (f"UPDATE transfers SET reason = 'erased:{'a' * 64}'", "erased_reason_has_its_erasure"),
        (
            "INSERT INTO erasures VALUES ('erasure_1', 'account', 'acct_1', 'me', now(), '{}', now())",
            "erasure_is_in_the_audit_log",
        ),
    )
    for statement, rule in statements:
        with Session(get_engine()) as session:
            session.execute(text("SET LOCAL session_replication_role = replica"))
            session.execute(text(statement))
            assert rule in {finding.rule for finding in audit_books(session)}, statement
            session.rollback()


@pytest.mark.usefixtures("dealt_with")
def test_rows_that_stay_are_changed_by_an_erasure_only() -> None:
    for table, change in (
        (Event, {"body": "{}"}),
        (Transfer, {"reason": "another"}),
        (AuditEntry, {"facts": {}}),
    ):
        with pytest.raises(IntegrityError, match=r"never changed|only ever added"), transaction() as session:
            session.execute(update(table).values(**change))
    # Nor by an erasure, in what is no personal value.
    for table, change in (
        (Event, {"type": "video.failed", "erased_hash": "x"}),
        (Event, {"body": "{}"}),
        (Transfer, {"amount": 1}),
        (AuditEntry, {"actor": "nobody"}),
    ):
        with Session(get_engine()) as session:
            allow_erasure(session)
            with pytest.raises(IntegrityError, match=r"never changed|only ever added"):
                session.execute(update(table).values(**change))


def test_an_erasure_puts_no_fact_back_that_another_one_took(dealt_with: World) -> None:
    """The other one is whole between the reading of the entries and their change."""
    with transaction() as session:
        write_in_the_clear(session, dealt_with.alice_id, title=f"{WORD}'s contract")
    ids, calls = [], []
    for kind in (ErasureKind.ACCOUNT, ErasureKind.MEMBER):
        with transaction() as session:
            ids.append(new_id("erasure"))
            session.add(
                Erasure(
                    id=ids[-1],
                    kind=kind,
                    subject_id=dealt_with.alice_id,
                    started_by="a",
                    started_at=now(session),
                    steps={},
                )
            )

    def fact(name: str) -> Choice:
        def choose(_session: Session, _subject: str, entries: Sequence[AuditEntry]) -> dict[int, Callable[..., bool]]:
            if name == "name" and not calls:
                calls.append(name)
                list(erase_entries(dealt_with.alice_id, ids[1], fact("title")))
            return {each.number: lambda each, _value: each == name for each in entries if each.act == "account.opened"}

        return choose

    list(erase_entries(dealt_with.alice_id, ids[0], fact("name")))
    with transaction() as session:
        opened = select(AuditEntry).where(AuditEntry.act == "account.opened").order_by(AuditEntry.number.desc())
        entry = session.scalars(opened.limit(1)).one()
        assert (entry.facts["name"], entry.facts["title"]) == (ERASED_FACT, ERASED_FACT)
        assert list(broken_entries(session)) == []


def test_an_erasure_hides_no_entry_that_was_changed(dealt_with: World) -> None:
    cancel_account_films(OPERATOR, dealt_with.alice_id)
    dealt_with.work()
    with transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(
            text("UPDATE audit_entries SET actor = 'nobody' WHERE act = 'account.suspended'"),
        )
    with pytest.raises(AppError, match="does not verify"):
        erase(dealt_with.alice_id)


@pytest.mark.usefixtures("dealt_with")
def test_personal_facts_are_beside_their_entries() -> None:
    with transaction() as session:
        for entry in session.scalars(select(AuditEntry).where(AuditEntry.act == "account.suspended")):
            digest = entry.facts["reason"]["salted_sha256"]
            value = session.get_one(AuditValue, (entry.number, "reason"))
            own = f'["{value.salt}","reason","{value.value}"]'
            assert hashlib.sha256(own.encode()).hexdigest() == digest
        with pytest.raises(IntegrityError, match="foreign key"), session.begin_nested():
            session.execute(insert(AuditValue).values(number=9999, name="a", salt="b", value="c"))


def test_a_request_that_began_before_the_account_closed_brings_nothing_in(world: World) -> None:
    """Its caller was authenticated with an open account, which is erased before it writes."""
    upload = {"filename": "a.png", "bytes": len(PNG), "content_type": "image/png"}
    begun = world.post("/v1/assets/uploads", upload).json()["id"]
    with Session(get_engine(), expire_on_commit=False) as session:
        caller = authenticate(session, world.alice)
        session.commit()
        with transaction() as other:
            erasure_id = start_erasure(other, OPERATOR, ErasureKind.ACCOUNT, world.alice_id).id
        asset = new_asset(OwnerIds(world.alice_id), filename=f"{WORD}.png")
        for act in (
            lambda: submit(session, caller, OrderIdentity(VideoRequest.model_validate(FILM))),
            lambda: add_asset(session, asset),
            lambda: require_active_now(session, world.alice_id),
        ):
            with pytest.raises(AppError) as refused:
                act()
            assert (refused.value.code, refused.value.facts) == ("account_suspended", {"reason": "erased"})
            session.rollback()
    steps = run_erasure(erasure_id, OPERATOR)
    for name, _ in steps:
        if name == "people":
            break
    with transaction() as session:
        # One that was not refused.
        session.execute(update(Asset).where(Asset.id == begun).values(state="pending", filename=f"{WORD}.png"))
    with pytest.raises(AppError, match="arrived while the account was closed") as late:
        list(steps)
    assert late.value.facts == {"id": begun}
    list(run_erasure(erasure_id, OPERATOR))
    assert rows_with(WORD) == []
    with transaction() as session:
        assert list_erasures(session)[0].finished_at is not None


def test_what_was_written_after_its_step_is_erased_by_the_last_one(dealt_with: World) -> None:
    cancel_account_films(OPERATOR, dealt_with.alice_id)
    dealt_with.work()
    with transaction() as session:
        erasure_id = start_erasure(session, OPERATOR, ErasureKind.ACCOUNT, dealt_with.alice_id).id
    steps = run_erasure(erasure_id, OPERATOR)
    for name, _ in steps:
        if name == "people":
            break
    del steps
    with transaction() as session:
        correct_balance(session, OPERATOR, dealt_with.alice_id, -1, reference="late", reason=f"{WORD} owed it")
    list(run_erasure(erasure_id, OPERATOR))
    assert rows_with(WORD) == []
    with transaction() as session:
        assert session.scalars(select(Event.id).where(Event.erased_hash.is_(None))).all() == []
        assert audit_books(session) == []
