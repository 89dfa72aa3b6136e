"""Storage faults: a bucket behind a bad network, and a folder after a crash."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from app.storage import StorageError
from app.storage.files import FileStorage
from app.storage.s3 import PART_BYTES, S3Storage
from tests.contracts.storage_servers import BadNetwork, S3Server, free_port, random_file, rclone
from tests.contracts.swift_server import swift

SMALL = 400_000


@pytest.fixture(scope="module", params=["rclone", pytest.param("swift", marks=pytest.mark.deep)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    start = {"rclone": rclone, "swift": swift}[request.param]
    with start(tmp_path_factory.mktemp(request.param) / "server") as server:
        yield server


def store(server: S3Server, endpoint: str, *, patience: float = 20) -> S3Storage:
    """A store as in production, that waits `patience` seconds for an answer: little where a test lets it stall."""
    config = Config(connect_timeout=2, read_timeout=patience, retries={"mode": "standard", "total_max_attempts": 4})
    return S3Storage(
        "faults",
        endpoint=endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
        config=config,
    )


@pytest.fixture
def good(server: S3Server) -> S3Storage:
    return store(server, server.endpoint)


def prepared(server: S3Server, network: BadNetwork, *, patience: float = 20) -> S3Storage:
    """A store behind the network whose bucket is known to be there, so that the script meets the transfer itself."""
    script, network.script = network.script, []
    storage = store(server, network.endpoint, patience=patience)
    assert storage.stat("nothing") is None
    storage._ensure_bucket()
    # Kept-alive connections of the preparation are closed, so that the next request meets the script.
    storage._client.close()
    del storage.__dict__["_client"]
    network.script = ["good"] * network.connections + script
    return storage


@pytest.mark.parametrize(
    "script",
    [
        ["refuse"],
        ["cut up 100"],
        ["cut up 200000"],
        ["stall up 200000"],
        ["deaf"],
        ["busy", "busy"],
        ["refuse", "cut up 100000", "deaf"],
    ],
)
def test_an_upload_survives_a_bad_network(server: S3Server, good: S3Storage, tmp_path: Path, script: list[str]) -> None:
    data = random_file(tmp_path / "in", SMALL)
    with BadNetwork(server.port, script) as network:
        patience = 2 if {"deaf", "stall up 200000"} & set(script) else 20
        stored = prepared(server, network, patience=patience).put_file("key", tmp_path / "in", "video/mp4")
        assert network.connections > len(network.script)
    assert b"".join(good.read_range("key", 0, stored.bytes)) == data


def test_parts_of_a_large_upload_are_sent_again(server: S3Server, good: S3Storage, tmp_path: Path) -> None:
    data = random_file(tmp_path / "in", 2 * PART_BYTES + 1000)
    with BadNetwork(server.port, ["good", "cut up 3000000", "cut up 5000000"]) as network:
        stored = prepared(server, network).put_file("large", tmp_path / "in", "video/mp4")
    assert stored.bytes == len(data)
    assert good.get_file("large", tmp_path / "out") == stored


def test_an_upload_that_never_succeeds_fails_and_replaces_nothing(
    server: S3Server, good: S3Storage, tmp_path: Path
) -> None:
    before = random_file(tmp_path / "before", 1000)
    good.put_file("kept", tmp_path / "before", "video/mp4")
    random_file(tmp_path / "in", SMALL)
    with BadNetwork(server.port, ["cut up 100000"] * 50) as network, pytest.raises(StorageError):
        prepared(server, network).put_file("kept", tmp_path / "in", "video/mp4")
    assert b"".join(good.read_range("kept", 0, 1000)) == before


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_download_is_taken_up_where_it_broke_off(
    server: S3Server, good: S3Storage, tmp_path: Path, fault: str
) -> None:
    data = random_file(tmp_path / "in", 5_000_000)
    good.put_file("film", tmp_path / "in", "video/mp4")
    with BadNetwork(server.port, [f"{fault} down 1500000", f"{fault} down 1300000"]) as network:
        storage = prepared(server, network, patience=2 if fault == "stall" else 20)
        storage.get_file("film", tmp_path / "out")
        assert network.connections >= len(network.script) + 1
    assert (tmp_path / "out").read_bytes() == data
    with BadNetwork(server.port, [f"{fault} down 1500000"]) as network:
        span = prepared(server, network, patience=2 if fault == "stall" else 20).read_range(
            "film", 1_000_000, 4_000_000
        )
        assert b"".join(span) == data[1_000_000:4_000_000]


def test_a_busy_store_is_asked_again(server: S3Server, good: S3Storage, tmp_path: Path) -> None:
    data = random_file(tmp_path / "in", SMALL)
    good.put_file("film", tmp_path / "in", "video/mp4")
    for ask in (
        lambda storage: storage.stat("film"),
        lambda storage: storage.get_file("film", tmp_path / "out"),
        lambda storage: storage.delete("film"),
    ):
        with BadNetwork(server.port, ["busy", "busy"]) as network:
            ask(prepared(server, network))
            assert network.connections > len(network.script)
    assert (tmp_path / "out").read_bytes() == data
    assert good.stat("film") is None
    with BadNetwork(server.port, ["busy"] * 50) as network, pytest.raises(StorageError, match="503"):
        prepared(server, network).stat("film")


def test_a_download_that_never_succeeds_leaves_no_file(server: S3Server, good: S3Storage, tmp_path: Path) -> None:
    random_file(tmp_path / "in", SMALL)
    good.put_file("film", tmp_path / "in", "video/mp4")
    with BadNetwork(server.port, ["cut down 300"] * 100) as network, pytest.raises(StorageError):
        prepared(server, network).get_file("film", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_a_file_that_is_replaced_during_a_download_is_never_mixed(
    server: S3Server, good: S3Storage, tmp_path: Path
) -> None:
    random_file(tmp_path / "in", 5_000_000)
    good.put_file("film", tmp_path / "in", "video/mp4")
    # The connection is cut only after the first chunk was read: a reset drops unread data, and a download that starts
    # again before the file is replaced would be complete, as it should be.
    with BadNetwork(server.port, ["stall down 1500000"]) as network:
        pieces = prepared(server, network).read_range("film", 0, 5_000_000)
        next(pieces)
        random_file(tmp_path / "other", 5_000_000)
        good.put_file("film", tmp_path / "other", "video/mp4")
        network.break_lines()
        with pytest.raises(StorageError):
            list(pieces)


def test_an_unreachable_store_is_an_error_with_a_message(server: S3Server, tmp_path: Path) -> None:
    storage = store(server, f"http://127.0.0.1:{free_port()}")
    random_file(tmp_path / "in", 10)
    for call in (
        lambda: storage.put_file("key", tmp_path / "in", "video/mp4"),
        lambda: storage.get_file("key", tmp_path / "out"),
        lambda: storage.stat("key"),
        lambda: storage.read_range("key", 0, 1),
        lambda: storage.delete("key"),
        lambda: list(storage.list("")),
    ):
        with pytest.raises(StorageError, match="unreachable"):
            call()


def test_a_missing_bucket_is_only_made_where_that_is_asked(server: S3Server, tmp_path: Path) -> None:
    random_file(tmp_path / "in", 10)
    storage = S3Storage("typo", endpoint=server.endpoint, access_key=server.access_key, secret_key=server.secret_key)
    storage._may_create = False
    with pytest.raises(StorageError, match="does not exist; create it"):
        storage.put_file("key", tmp_path / "in", "video/mp4")
    assert storage.stat("key") is None
    assert list(storage.list("")) == []


def test_uploads_that_were_begun_and_left_are_removed(server: S3Server, good: S3Storage) -> None:
    good._ensure_bucket()
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    client.create_multipart_upload(Bucket="faults", Key="left/film.mp4")
    client.close()
    now = datetime.now(UTC)  # noqa: TID251 - the store's clock, not ours
    assert good.remove_partial(now - timedelta(hours=1)) == 0
    assert good.remove_partial(now + timedelta(hours=1)) == 1
    assert good.remove_partial(now + timedelta(hours=1)) == 0


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "store")
    before = random_file(tmp_path / "before", 1000)
    storage.put_file("film", tmp_path / "before", "video/mp4")
    os.mkfifo(tmp_path / "slow")
    script = (
        "import sys, pathlib; from app.storage.files import FileStorage\n"
        "FileStorage(pathlib.Path(sys.argv[1])).put_file('film', pathlib.Path(sys.argv[2]), 'video/mp4')"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "store"), str(tmp_path / "slow")]
    with subprocess.Popen(command) as writer, (tmp_path / "slow").open("wb") as pipe:
        pipe.write(b"x" * 3_000_000)
        pipe.flush()
        writer.kill()
    assert b"".join(storage.read_range("film", 0, 1000)) == before
    assert [stat.key for stat in storage.list("")] == ["film"]
    now = datetime.now(UTC)  # noqa: TID251 - the file system's clock, not ours
    assert storage.remove_partial(now - timedelta(hours=1)) == 0
    assert storage.remove_partial(now + timedelta(hours=1)) == 1


def test_readers_see_one_whole_file_while_writers_replace_it(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "store")
    sources = []
    for letter in b"ab":
        (tmp_path / chr(letter)).write_bytes(bytes([letter]) * 3_000_000)
        sources.append(tmp_path / chr(letter))
    storage.put_file("key", sources[0], "text/plain")
    failures: list[str] = []

    def replace() -> None:
        for number in range(10):
            storage.put_file("key", sources[number % 2], "text/plain")

    def read() -> None:
        for _ in range(10):
            data = b"".join(storage.read_range("key", 0, 3_000_000))
            if len(set(data)) != 1 or len(data) != 3_000_000:
                failures.append("mixed")

    threads = [threading.Thread(target=work) for work in (replace, replace, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_writers_and_removers_of_one_folder_do_not_trip_each_other(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "store")
    random_file(tmp_path / "in", 10)
    failures: list[BaseException] = []

    def work(own: str) -> None:
        try:
            for _ in range(60):
                storage.put_file(f"a/b/{own}", tmp_path / "in", "text/plain")
                storage.delete(f"a/b/{own}")
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_link_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "outside")
    random_file(tmp_path / "in", 10)
    with pytest.raises(ValueError, match="outside the storage folder"):
        FileStorage(tmp_path / "store").put_file("link/file", tmp_path / "in", "text/plain")
