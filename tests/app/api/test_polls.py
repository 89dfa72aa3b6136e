"""A poll is one statement beside that of its key, says when to ask again, and answers 304 while nothing changes."""

import pytest
from sqlalchemy import Engine

from app.accounts.keys import revoke_key
from app.accounts.tables import ApiKey
from app.api.videos.events import read
from app.api.videos.polling import RENDERING_SECONDS, UNKNOWN_SECONDS, WAITING_SECONDS, poll_seconds
from app.db import transaction
from app.dispatch import waiting_work
from app.dispatch.claim import claim
from app.dispatch.queue_snapshot import refresh_queue_snapshot
from app.etags import matches_etag
from tests.api_client import World
from tests.app.api.test_list_statements import ORDER, statements
from tests.factories import make_worker


def order(world: World) -> str:
    return str(world.post("/v1/videos", ORDER).raise_for_status().json()["id"])


@pytest.mark.parametrize("path", ["/v1/videos/{}", "/api/v1/tasks/{}"])
def test_a_poll_is_one_statement_beside_that_of_its_key(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    # What other accounts have waiting is read again after a few seconds.
    monkeypatch.setattr(waiting_work, "KEPT_SECONDS", 1000.0)
    video = order(world)
    make_pool(engine)
    world.get(path.format(video))
    poll = lambda: world.get(path.format(video)).raise_for_status()  # noqa: E731
    assert statements(engine, poll) == 2, "while it waits"
    with transaction(engine) as session:
        assert claim(session, "worker-1", ["synthetic"]) is not None
    assert statements(engine, poll) == 2, "while it renders"
    world.post(f"/v1/videos/{video}/cancel").raise_for_status()
    world.work()
    assert statements(engine, poll) == 2, "when it has ended"
    ended = world.get(f"/v1/videos/{video}").json()
    assert (ended["status"], ended["charged"], ended["meter"]["takes"]) == ("cancelled", "0.00", 1)


def make_pool(engine: Engine) -> None:
    with transaction(engine) as session:
        make_worker(session, "worker-1", pools=("finish", "synthetic"))
        refresh_queue_snapshot(session)


def test_the_rows_of_a_stream_are_one_statement(world: World, engine: Engine) -> None:
    video = order(world)
    make_pool(engine)
    events, facts = read(video, 0)
    assert [(event.sequence, event.type) for event in events] == [(1, "video.created")]
    assert (facts["progress"], facts["stage"], facts["queue_position"]) == (0, "waiting", 0)
    assert read(video, 1) == ([], facts)
    assert statements(engine, lambda: read(video, 0)) == 1


def test_an_unchanged_video_is_not_sent_again(world: World, engine: Engine) -> None:
    video = order(world)
    make_pool(engine)
    first = world.get(f"/v1/videos/{video}")
    tag = first.headers["etag"]
    assert first.json()["eta"] is not None
    same = world.get(f"/v1/videos/{video}", headers={"If-None-Match": f'"another", {tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert same.headers["openai-poll-after-ms"] == first.headers["openai-poll-after-ms"]
    world.post(f"/v1/videos/{video}/cancel").raise_for_status()
    changed = world.get(f"/v1/videos/{video}", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["status"]) == (200, "cancelled")
    assert changed.headers["etag"] != tag
    assert "openai-poll-after-ms" not in changed.headers, "nothing more will change"
    stranger = world.get(f"/v1/videos/{video}", key=world.bob, headers={"If-None-Match": "*"})
    assert stranger.status_code == 404


def test_a_revoked_key_polls_no_more(world: World, engine: Engine) -> None:
    video = order(world)
    for _ in range(2):
        world.get(f"/v1/videos/{video}").raise_for_status()
    with transaction(engine) as session:
        key = session.query(ApiKey).filter_by(account_id=world.alice_id, test=False).one()
        revoke_key(session, world.alice_id, key.id)
    assert world.get(f"/v1/videos/{video}").status_code == 401


def test_a_client_is_asked_back_when_something_may_have_changed(world: World, engine: Engine) -> None:
    answer = world.post("/v1/videos", ORDER)
    video = answer.json()["id"]
    assert answer.headers["openai-poll-after-ms"] == f"{1000 * UNKNOWN_SECONDS}", "no worker serves the pool"
    make_pool(engine)
    poll = world.get(f"/v1/videos/{video}")
    seconds = poll_seconds("queued", poll.json()["eta"])
    assert poll.headers["openai-poll-after-ms"] == f"{1000 * (seconds or 0)}"
    assert poll.headers["retry-after"] == world.get(f"/api/v1/tasks/{video}").headers["retry-after"] == str(seconds)


@pytest.mark.parametrize(
    ("state", "start", "end", "seconds"),
    [
        ("queued", 0, 10, RENDERING_SECONDS[0]),
        ("queued", 1, 100, WAITING_SECONDS[0]),
        ("queued", 120, 300, 30),
        ("queued", 100_000, 200_000, WAITING_SECONDS[1]),
        ("in_progress", 0, 30, 3),
        ("in_progress", 0, 9_000, RENDERING_SECONDS[1]),
        ("completed", 0, 0, None),
    ],
)
def test_polls_are_seconds_apart_while_it_renders_and_tens_of_seconds_while_it_waits(
    state: str, start: int, end: int, seconds: int | None
) -> None:
    assert poll_seconds(state, {"start_seconds": start, "seconds_p50": end, "seconds_p90": end}) == seconds


def test_tags_are_compared_weakly() -> None:
    assert matches_etag('W/"a"', 'W/"a"')
    assert matches_etag('"b", "a"', 'W/"a"')
    assert matches_etag("*", 'W/"a"')
    assert not matches_etag('"b"', 'W/"a"')
    assert not matches_etag("", 'W/"a"')
