"""The whole service on a real S3 server: a plain HTTP client plays the film from its presigned URL."""

import io
import json
import os
import threading
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import av
import httpx
import pytest

from tests.contracts.storage_servers import rclone
from tests.journeys.test_film import follow
from tests.live_service import start, stop

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 2, "resolution": "480P"}


@pytest.mark.deep
def test_a_film_is_made_on_s3_and_played_from_there(tmp_path: Path) -> None:
    with rclone(tmp_path / "store") as server:
        service = start(
            tmp_path / "home",
            CINEMETER_STORAGE_URL=f"s3://films/main?endpoint={server.endpoint}",
            CINEMETER_S3_ACCESS_KEY=server.access_key,
            CINEMETER_S3_SECRET_KEY=server.secret_key,
            CINEMETER_LOG_FORMAT="json",
        )
        try:
            with service.client("pro") as client:
                order = client.post("/v1/videos", json=ORDER).raise_for_status().json()
                video = follow(client, order["id"])
                assert video["status"] == "completed", video
                answer = client.get(f"/v1/videos/{video['id']}/content")
                assert answer.status_code == 302
                assert answer.headers["cache-control"] == "no-store"
            url = answer.headers["location"]
            assert urlsplit(url).port == server.port
            # A client without a key: the URL is enough.
            film = httpx.get(url)
            assert (film.status_code, film.headers["content-type"]) == (200, "video/mp4")
            with av.open(io.BytesIO(film.content)) as opened:
                stream = opened.streams.video[0]
                frames = sum(1 for _ in opened.decode(stream))
                assert Fraction(frames) / stream.average_rate == Fraction(video["seconds"])
            part = httpx.get(url, headers={"Range": "bytes=4-7"})
            # Some servers answer a range request with status 200.
            assert part.status_code in (200, 206)
            assert part.content == b"ftyp"
            forged = httpx.get(url.replace(video["id"], "video_" + "0" * 24))
            assert forged.status_code in (400, 403, 404), "the signature is of this film alone"
            with service.client("pro") as client:
                assert client.delete(f"/v1/videos/{video['id']}").json()["deleted"] is True
            # Retention removes the files a moment later.
            until = monotonic() + 60
            while httpx.get(url).status_code != 404 or _films_in(tmp_path / "store"):
                assert monotonic() < until
                threading.Event().wait(0.2)
        finally:
            stop(service)
        _follow_the_logs(tmp_path / "home" / "logs", video["id"])


def _films_in(store: Path) -> list[str]:
    # Unlike `rglob`, `walk` passes over folders that are removed meanwhile.
    return [name for _, _, names in os.walk(store) for name in names if name.endswith(".mp4")]


def _follow_the_logs(folder: Path, video_id: str) -> None:
    """Check that log lines are JSON objects, and that a job can be followed by its ids from order to film."""
    roles = ("api", "worker", "scheduler", "courier")
    raw_lines = [line for role in roles for line in (folder / f"{role}.log").read_text().splitlines()]
    # Celery's signal handler writes its shutdown line without a logger.
    lines = [json.loads(line) for line in raw_lines if line and not line.startswith("worker: Warm shutdown")]
    assert {line["role"] for line in lines} == set(roles)
    of_job = [line for line in lines if line.get("job_id") == video_id]
    assert {line["role"] for line in of_job} >= {"api", "worker"}
    assert next(line["message"].split(" ")[:2] for line in of_job if line.get("request_id")) == ["POST", "/v1/videos"]
    assert len({line["take_id"] for line in of_job if line["role"] == "worker"}) == 2, "a segment and a finish"
