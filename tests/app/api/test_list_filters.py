"""The list of videos by metadata, own ids, time, project and group: what it returns, refuses and reads."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.caller import Caller
from app.clock import now
from app.jobs.find import JobFilter, jobs_query
from tests.api_client import World
from tests.factories import make_account, make_queued_job

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


def listed(world: World, **params: Any) -> list[str]:
    answer = world.get("/v1/videos", params=params)
    assert answer.status_code == 200, answer.text
    return [video["id"] for video in answer.json()["data"]]


def test_videos_are_found_by_metadata_and_own_ids_page_by_page(world: World) -> None:
    def order(**change: Any) -> str:
        answer = world.post("/v1/videos", {**ORDER, **change})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    first = order(metadata={"scene": "3", "take": "1"}, user="end-user-1")
    second = order(metadata={"scene": "3", "take": "2"}, external_id="mine/7")
    third = order(metadata={"scene": "4"})
    world.post("/v1/videos", {**ORDER, "metadata": {"scene": "3"}}, key=world.bob)
    assert listed(world, **{"metadata[scene]": "3"}) == [second, first]
    assert listed(world, **{"metadata[scene]": "3", "order": "asc"}) == [first, second]
    assert listed(world, **{"metadata[scene]": "3", "metadata[take]": "2"}) == [second]
    assert listed(world, **{"metadata[scene]": "3", "limit": 1}) == [second]
    assert listed(world, **{"metadata[scene]": "3", "limit": 1, "after": second}) == [first]
    assert listed(world, user="end-user-1") == [first]
    assert listed(world, external_id="mine/7") == [second]
    assert listed(world, **{"metadata[scene]": "5"}) == []
    assert third in listed(world)


def test_videos_are_found_by_time(world: World) -> None:
    video = world.post("/v1/videos", ORDER).json()
    created = datetime.fromtimestamp(video["created_at"], UTC)
    before, after = created - timedelta(minutes=1), created + timedelta(minutes=1)
    assert listed(world, created_after=int(before.timestamp()), created_before=after.isoformat()) == [video["id"]]
    assert listed(world, created_after=after.isoformat().replace("+00:00", "Z")) == []
    assert listed(world, created_before=int(before.timestamp())) == []
    assert listed(world, project="project_none") == []


@pytest.mark.parametrize(
    "time", ["2026-11-30T12:00:00Z", "2026-11-30 12:00:00Z", "2026-11-30T14:00:00 02:00", "2026-11-30 12:00:00 0000"]
)
def test_a_space_in_a_time_is_its_own_or_a_plus_sign(world: World, time: str) -> None:
    assert world.get("/v1/videos", params={"created_after": time}).status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("statsu=queued", "statsu"),
        ("metadata=x", "metadata"),
        ("metadata[]=x", "metadata[]"),
        ("metadata[a]=1&metadata[a]=2", "metadata[a]"),
        ("created_after=yesterday", "created_after"),
        ("created_before=2026-11-30T12:00:00", "created_before"),
        ("created_after=99999999999999999999", "created_after"),
        ("created_after=20&created_before=10", "created_before"),
        ("status=done", "status"),
        ("user=a&metadata[user]=b", "user"),
        pytest.param(f"metadata[a]={'x' * 513}", "metadata[a]", id="a long value"),
    ],
)
def test_a_bad_filter_is_refused_with_its_name_and_what_is_allowed(world: World, query: str, field: str) -> None:
    refused = world.get(f"/v1/videos?{query}")
    assert refused.status_code == 422, refused.text
    problem = refused.json()
    assert (problem["code"], problem["field"]) == ("invalid_request", field)
    assert problem["allowed"]


_COPIES = text(
    """
    INSERT INTO jobs
    SELECT copy.*
    FROM jobs AS j, generate_series(1, 1500) AS n, jsonb_populate_record(
        CAST(NULL AS jobs), to_jsonb(j) || jsonb_build_object(
            'id', j.id || n,
            'mark_id', NULL,
            'created_at', j.created_at - n * interval '1 second',
            'metadata', jsonb_build_object('scene', 'x', 'n', CAST(n AS text))
        )
    ) AS copy
    WHERE j.id = :id
    """
)


def plan_of(session: Session, caller: Caller, wanted: JobFilter) -> str:
    query = jobs_query(caller, wanted).limit(21)
    sql = str(query.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))
    return "\n".join(session.scalars(text(f"EXPLAIN {sql}".replace(":", r"\:"))))


def test_every_filter_is_read_by_an_index(session: Session) -> None:
    account, other = make_account(session), make_account(session, "Bob")
    for each in (account, other):
        job = make_queued_job(session, each.id)
        session.execute(_COPIES, {"id": job.id})
    session.execute(text("ANALYZE jobs, job_metadata"))
    caller = Caller(get_account(session, account.id), frozenset({"videos"}), frozenset())
    moment = now(session)
    for wanted in (
        JobFilter(),
        JobFilter(metadata={"scene": "x"}),
        JobFilter(metadata={"scene": "x", "n": "7"}),
        JobFilter(metadata={"scene": "x"}, since=moment - timedelta(hours=1), until=moment),
        JobFilter(group="group_none"),
        JobFilter(since=moment - timedelta(minutes=5), until=moment),
    ):
        plan = plan_of(session, caller, wanted)
        assert "Seq Scan" not in plan, (wanted, plan)
        # A page costs what it shows: nothing is sorted that is not shown, but for the few films of a group, or those
        # that have the rarer one of two entries.
        assert wanted.group is not None or len(wanted.metadata) > 1 or "Sort" not in plan, (wanted, plan)
