"""Failures at the end of a request: a commit that fails, and a wake-up that cannot be sent."""

import pytest
from sqlalchemy import text

from app.db import transaction
from app.settings import get_settings
from tests.api_client import World

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}

# A deferred trigger raises at COMMIT, after the handler has done all of its work and before the answer leaves.
FAILING_COMMIT = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no commit today'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION refuse();
"""


def test_a_commit_that_fails_answers_500_and_leaves_nothing(world: World) -> None:
    before = world.get("/v1/wallet").json()
    with transaction() as session:
        session.execute(text(FAILING_COMMIT))
    answer = world.post("/v1/videos", ORDER)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "no commit today" not in answer.text
    with transaction() as session:
        for table in ("jobs", "units", "holds", "events", "submissions", "reservations"):
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0, table
    assert world.get("/v1/wallet").json() == before


@pytest.mark.parametrize("code", ["deadlock_detected", "serialization_failure", "lock_not_available"])
def test_an_order_that_lost_against_another_can_be_sent_again(world: World, code: str) -> None:
    failing = FAILING_COMMIT.replace("'no commit today'", f"'gave way' USING ERRCODE = '{code}'")
    with transaction() as session:
        session.execute(text(failing))
    answer = world.post("/v1/videos", ORDER)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "Nothing was changed" in answer.json()["detail"]
    with transaction() as session:
        session.execute(text("DROP TRIGGER refuse ON jobs"))
        assert session.execute(text("SELECT count(*) FROM holds")).scalar_one() == 0
    assert world.post("/v1/videos", ORDER).status_code == 200


def test_an_order_is_accepted_while_redis_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_REDIS_URL", "redis://127.0.0.1:9/0")
    get_settings.cache_clear()
    video = world.post("/v1/videos", ORDER)
    assert video.status_code == 200, video.text
    world.work()
    assert world.get(f"/v1/videos/{video.json()['id']}").json()["status"] == "completed"
