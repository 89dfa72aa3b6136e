"""Server-sent events of a job, live and from its rows, for one viewer and for two hundred."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from sqlalchemy import select

from app import progress
from app.api.application import create_app
from app.api.videos import events
from app.db import get_engine, transaction
from app.events.tables import Event
from app.jobs.live_feed import JobUpdate, LiveFeed, Viewer
from app.jobs.tables import Job
from app.progress import publish
from app.redis_client import get_redis
from app.settings import get_settings
from tests.api_client import World
from tests.contracts.storage_servers import BadNetwork

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
PREVIEW = b"\xff\xd8 not really a picture"


@pytest.fixture
def address(world: World) -> Iterator[str]:
    """The API behind a real socket, in this process, so that its connection pool can be inspected."""
    server = uvicorn.Server(uvicorn.Config(create_app(), port=0, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def order(world: World) -> str:
    created = world.post("/v1/videos", ORDER)
    assert created.status_code == 200, created.text
    return str(created.json()["id"])


@asynccontextmanager
async def streaming(
    client: httpx.AsyncClient, video_id: str, key: str, **headers: str
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """An open stream, as an iterator of frames: `{"event", "id", "data"}`."""
    all_headers = {"Authorization": f"Bearer {key}", **headers}
    async with client.stream("GET", f"/v1/videos/{video_id}/events", headers=all_headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield frames(answer.aiter_lines())


async def frames(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    """Read the wire format as a browser does: fields until an empty line, comments left out."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
        else:
            if "data" in fields:
                yield {"event": fields["event"], "id": fields.get("id"), "data": json.loads(fields["data"])}
            fields = {}


async def read_all(address: str, video_id: str, key: str, **headers: str) -> list[dict[str, Any]]:
    async with (
        httpx.AsyncClient(base_url=address, timeout=60) as client,
        streaming(client, video_id, key, **headers) as stream,
    ):
        return [frame async for frame in stream]


def test_a_stream_has_every_event_and_ends(world: World, address: str) -> None:
    video_id = order(world)

    async def watch_while_it_is_made() -> list[dict[str, Any]]:
        seen = []
        async with (
            httpx.AsyncClient(base_url=address, timeout=60) as client,
            streaming(client, video_id, world.alice) as stream,
        ):
            async for frame in stream:
                seen.append(frame)
                if len(seen) == 2:
                    worker = asyncio.create_task(asyncio.to_thread(world.work))
        await worker
        return seen

    frames_seen = asyncio.run(watch_while_it_is_made())
    assert [frame["event"] for frame in frames_seen[:2]] == ["video.created", "video.progress"]
    assert frames_seen[1]["data"]["queue_position"] is not None, "a job that waits is told its place"
    named = {frame["event"] for frame in frames_seen}
    assert {"video.started", "video.progress", "video.completed"} <= named
    assert frames_seen[-1]["event"] == "video.completed"
    assert frames_seen[-1]["data"]["data"]["charged"] == frames_seen[-1]["data"]["data"]["price"]["total"]
    percents = [frame["data"]["progress"] for frame in frames_seen if frame["event"] == "video.progress"]
    assert percents == sorted(percents)
    numbered = [frame["id"] for frame in frames_seen if frame["id"] is not None]
    assert numbered == ["1", "2", "3"]
    with transaction() as session:
        bodies = session.scalars(select(Event.body).where(Event.job_id == video_id).order_by(Event.sequence)).all()
    assert [json.loads(body) for body in bodies] == [frame["data"] for frame in frames_seen if frame["id"] is not None]


def test_a_client_that_comes_back_misses_nothing(world: World, address: str) -> None:
    video_id = order(world)
    world.work()
    again = asyncio.run(read_all(address, video_id, world.alice, **{"Last-Event-ID": "1"}))
    assert [(frame["event"], frame["id"]) for frame in again] == [("video.started", "2"), ("video.completed", "3")]
    done = httpx.get(
        f"{address}/v1/videos/{video_id}/events",
        headers={"Authorization": f"Bearer {world.alice}", "Last-Event-ID": "3"},
    )
    assert done.status_code == 204, "a browser that has seen the end stops asking"


def test_previews_and_steps_pass_through(world: World, address: str) -> None:
    video_id = order(world)

    async def watch() -> list[dict[str, Any]]:
        seen = []
        async with (
            httpx.AsyncClient(base_url=address, timeout=60) as client,
            streaming(client, video_id, world.alice) as stream,
        ):
            async for frame in stream:
                seen.append(frame)
                if frame["event"] == "video.preview":
                    break
                if frame["event"] == "video.progress":
                    while not await asyncio.to_thread(_is_heard, video_id):
                        await asyncio.sleep(0.05)
                    message = {"type": "progress", "take": "take_1", "step": 3, "steps": 12, "progress": 25}
                    publish(video_id, message, preview_jpeg=PREVIEW)
        return seen

    frame_list = asyncio.run(watch())
    assert frame_list[-2]["data"] | {"step": 3, "steps": 12, "progress": 25} == frame_list[-2]["data"]
    assert frame_list[-1]["data"]["preview"].startswith("data:image/jpeg;base64,")
    assert "take" not in json.dumps(frame_list[-2:]), "what a take is called is our own business"


def _is_heard(video_id: str) -> bool:
    return bool(get_redis().pubsub_numsub(f"cinemeter:progress:{video_id}")[0][1])


def test_without_redis_events_come_from_the_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream while Redis does not answer: events come from the rows, and none is missed."""
    video_id = order(world)
    monkeypatch.setenv("CINEMETER_REDIS_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    get_redis.cache_clear()

    async def watch() -> str:
        async with LiveFeed(silent_seconds=0.05) as feed:
            text, worker = "", None
            async for piece in events.stream_events(feed, video_id, account_id=world.alice_id, heartbeat_seconds=60):
                text += piece.decode()
                worker = worker or asyncio.create_task(asyncio.to_thread(world.work))
            if worker is not None:
                await worker
            assert feed.viewers == 0
        return text

    text = asyncio.run(watch())
    get_redis.cache_clear()
    assert text.startswith("retry: ")
    assert text.index("event: video.started") < text.index("event: video.completed")
    assert "id: 3\n" in text


def test_a_dead_connection_to_redis_is_replaced(world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first connection goes silent without being closed; live updates resume on their own."""
    monkeypatch.setattr(progress, "_PING_SECONDS", 0.1)
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 1.0)
    heard: list[dict[str, Any]] = []

    async def watch(network: BadNetwork) -> None:
        listener = asyncio.create_task(progress.listen(lambda: ["video_1"], lambda _, message: heard.append(message)))
        while not await asyncio.to_thread(_is_heard, "video_1"):
            await asyncio.sleep(0.05)
        network.frozen.set()
        while not heard:
            await asyncio.to_thread(publish, "video_1", {"type": "progress", "progress": 1})
            await asyncio.sleep(0.05)
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)

    where = urlsplit(redis_url)
    with BadNetwork(int(where.port or 0), ["freezes"]) as network:
        monkeypatch.setattr(
            progress,
            "get_settings",
            lambda: get_settings().model_copy(
                update={"redis_url": redis_url.replace(f":{where.port}", f":{network.own_port}")}
            ),
        )
        asyncio.run(watch(network))
        assert network.connections == 2
    assert heard[0]["progress"] == 1


def test_a_quiet_stream_sends_comments_and_reads_the_row(world: World) -> None:
    video_id = order(world)

    async def watch() -> list[bytes]:
        pieces: list[bytes] = []
        async with LiveFeed(silent_seconds=60) as feed:
            async for piece in events.stream_events(feed, video_id, account_id=world.alice_id, heartbeat_seconds=0.05):
                pieces.append(piece)
                if piece == b": alive\n\n":
                    with transaction() as session:
                        session.get_one(Job, video_id).progress = 7
                if b'"progress": 7' in piece:
                    break
        return pieces

    assert asyncio.run(watch())


class EndlessFeed(LiveFeed):
    """A live feed that receives the same update again and again, without a pause."""

    @asynccontextmanager
    async def job(self, job_id: str) -> AsyncIterator[Viewer]:
        async with super().job(job_id) as viewer:
            yield Repeating(viewer)  # type: ignore[misc]


class Repeating:
    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer

    async def next(self, seconds: float) -> JobUpdate | None:
        self._viewer.put(JobUpdate(progress=0))
        return await self._viewer.next(seconds)


def test_notes_that_say_nothing_new_keep_no_comment_back(world: World) -> None:
    video_id = order(world)

    async def watch() -> list[bytes]:
        pieces = []
        async with EndlessFeed(silent_seconds=60) as feed:
            async for piece in events.stream_events(feed, video_id, account_id=world.alice_id, heartbeat_seconds=0.05):
                pieces.append(piece)
                if piece == b": alive\n\n" and pieces.count(piece) == 1:
                    await asyncio.to_thread(world.post, f"/v1/videos/{video_id}/cancel")
        return pieces

    pieces = asyncio.run(asyncio.wait_for(watch(), 60))
    assert b": alive\n\n" in pieces
    assert b"video.cancelled" in pieces[-1], "the rows are read beside the comment"


@pytest.mark.deep
def test_two_hundred_streams_hold_no_database_session(world: World, address: str) -> None:
    video_id = order(world)

    async def watch() -> list[str]:
        async with httpx.AsyncClient(
            base_url=address, timeout=120, limits=httpx.Limits(max_connections=None)
        ) as client:
            all_open, opened = asyncio.Event(), 0
            # Each stream begins with a request that the gate may refuse where many begin at once.
            beginning = asyncio.Semaphore(16)

            async def one() -> str:
                nonlocal opened
                async with AsyncExitStack() as stack:
                    async with beginning:
                        stream = await stack.enter_async_context(streaming(client, video_id, world.alice))
                        last = (await anext(stream))["event"]
                    opened += 1
                    if opened == 200:
                        all_open.set()
                    async for frame in stream:
                        last = frame["event"]
                    return str(last)

            viewers = [asyncio.create_task(one()) for _ in range(200)]
            opening = asyncio.create_task(all_open.wait())
            # A stream that ends before all are open has failed, and says how.
            done, _ = await asyncio.wait([opening, *viewers], return_when=asyncio.FIRST_COMPLETED)
            assert opening in done, [each.result() for each in done]
            # Each stream first reads its rows once; on a busy machine some are still reading.
            while await asyncio.to_thread(_checked_out):
                pass
            cancelled = await client.post(
                f"/v1/videos/{video_id}/cancel", headers={"Authorization": f"Bearer {world.alice}"}
            )
            assert cancelled.status_code == 200, cancelled.text
            return list(await asyncio.gather(*viewers))

    assert set(asyncio.run(watch())) == {"video.cancelled"}
    assert _checked_out() == 0


def _checked_out() -> int:
    threading.Event().wait(0.05)
    return get_engine().pool.checkedout()  # type: ignore[attr-defined]


def test_nobody_watches_anothers_job(world: World, address: str) -> None:
    video_id = order(world)
    for key in (world.bob, world.test_key):
        answer = httpx.get(f"{address}/v1/videos/{video_id}/events", headers={"Authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    wrong = httpx.get(
        f"{address}/v1/videos/{video_id}/events",
        headers={"Authorization": f"Bearer {world.alice}", "Last-Event-ID": "soon"},
    )
    assert wrong.status_code == 422
