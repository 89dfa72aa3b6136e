"""One contract for every storage backend: folders and buckets behave the same."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen  # noqa: TID251 - a customer's plain HTTP client

import pytest

from app.settings import get_settings
from app.storage import Storage, StorageError, open_storage
from app.storage.s3 import PART_BYTES
from tests.contracts.storage_servers import S3Server, random_file, rclone
from tests.contracts.swift_server import swift

STORES = ["files", "rclone", pytest.param("swift", marks=pytest.mark.deep)]


@pytest.fixture(scope="module")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with rclone(tmp_path_factory.mktemp("rclone") / "buckets") as server:
        yield server


@pytest.fixture(scope="module")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with swift(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty store of each kind; a bucket does not exist yet."""
    if request.param == "files":
        yield f"file:{tmp_path / 'a store with spaces, 100% ours'}"
        return
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    monkeypatch.setenv("CINEMETER_S3_ACCESS_KEY", server.access_key)
    monkeypatch.setenv("CINEMETER_S3_SECRET_KEY", server.secret_key)
    get_settings.cache_clear()
    bucket = "b" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]
    yield f"s3://{bucket}/films?endpoint={server.endpoint}&region=us-east-1"
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.fixture
def storage(url: str) -> Storage:
    return open_storage(url)


def test_a_file_comes_back_as_it_went(storage: Storage, tmp_path: Path) -> None:
    data = random_file(tmp_path / "in", 300_001)
    stored = storage.put_file("films/video_1/take_1/film.mp4", tmp_path / "in", "video/mp4")
    fetched = storage.get_file("films/video_1/take_1/film.mp4", tmp_path / "out")
    assert stored == fetched
    assert (stored.bytes, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (tmp_path / "out").read_bytes() == data


def test_an_empty_file_is_a_file(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"")
    assert storage.put_file("empty", tmp_path / "in", "text/plain").bytes == 0
    assert storage.get_file("empty", tmp_path / "out").bytes == 0
    stat = storage.stat("empty")
    assert stat is not None
    assert stat.bytes == 0


def test_a_large_file_goes_in_parts(storage: Storage, tmp_path: Path) -> None:
    random_file(tmp_path / "in", 2 * PART_BYTES + 12_345)
    stored = storage.put_file("large", tmp_path / "in", "video/mp4")
    assert storage.get_file("large", tmp_path / "out") == stored
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_the_later_file_replaces_the_earlier(storage: Storage, tmp_path: Path) -> None:
    for text in (b"earlier and longer", b"later"):
        (tmp_path / "in").write_bytes(text)
        storage.put_file("key", tmp_path / "in", "text/plain")
    storage.get_file("key", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"later"


def test_ranges_are_exact(storage: Storage, tmp_path: Path) -> None:
    data = random_file(tmp_path / "in", 3_000_000)
    storage.put_file("key", tmp_path / "in", "video/mp4")
    for start, end in [(0, 1), (0, 3_000_000), (1_234, 2_345_678), (2_999_999, 3_000_000), (5, 5)]:
        assert b"".join(storage.read_range("key", start, end)) == data[start:end]
    for start, end in [(0, 3_000_001), (3_000_000, 3_000_001)]:
        with pytest.raises(StorageError):
            list(storage.read_range("key", start, end))


def test_what_is_missing_is_said_so(storage: Storage, tmp_path: Path) -> None:
    assert storage.stat("nothing") is None
    with pytest.raises(FileNotFoundError):
        storage.get_file("nothing", tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        storage.read_range("nothing", 0, 1)
    assert not (tmp_path / "out").exists()
    storage.delete("nothing")
    assert list(storage.list("")) == []


def test_stat_returns_size_and_time(storage: Storage, tmp_path: Path) -> None:
    random_file(tmp_path / "in", 17)
    before = datetime.now(UTC)  # noqa: TID251 - the stores have clocks of their own
    storage.put_file("key", tmp_path / "in", "text/plain")
    stat = storage.stat("key")
    assert stat is not None
    assert (stat.key, stat.bytes) == ("key", 17)
    assert abs(stat.modified_at - before) < timedelta(minutes=1)


def test_a_deleted_file_is_gone_and_others_stay(storage: Storage, tmp_path: Path) -> None:
    random_file(tmp_path / "in", 10)
    for key in ("a/b/one", "a/b/two"):
        storage.put_file(key, tmp_path / "in", "text/plain")
    storage.delete("a/b/one")
    assert storage.stat("a/b/one") is None
    assert storage.stat("a/b/two") is not None
    storage.delete("a/b/two")
    storage.put_file("a/b", tmp_path / "in", "text/plain")


def test_a_prefix_is_purged_and_others_stay(storage: Storage, tmp_path: Path) -> None:
    random_file(tmp_path / "in", 10)
    for key in ("films/1/a", "films/1/b/c", "films/10/a"):
        storage.put_file(key, tmp_path / "in", "text/plain")
    assert storage.purge("films/1/") >= 2
    assert [stat.key for stat in storage.list("")] == ["films/10/a"]
    assert storage.purge("films/1/") == 0
    with pytest.raises(ValueError, match="empty"):
        storage.purge("")


def test_lists_are_ordered_and_bounded_by_their_prefix(storage: Storage, tmp_path: Path) -> None:
    random_file(tmp_path / "in", 3)
    keys = ["takes/1/a", "takes/1/b", "takes/10/a", "takes/2/x/y", "other", "takes-not"]
    for key in keys:
        storage.put_file(key, tmp_path / "in", "text/plain")
    assert [stat.key for stat in storage.list("")] == sorted(keys)
    assert [stat.key for stat in storage.list("takes/1")] == ["takes/1/a", "takes/1/b", "takes/10/a"]
    assert [stat.key for stat in storage.list("takes/1/")] == ["takes/1/a", "takes/1/b"]
    assert [stat.bytes for stat in storage.list("takes/2/")] == [3]
    assert list(storage.list("none/")) == []


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".hidden", "a/.b", "a\\b", "a b", "a\x00b", "ä", "a" * 600],
)
def test_keys_cannot_leave_the_store(storage: Storage, tmp_path: Path, key: str) -> None:
    random_file(tmp_path / "in", 3)
    with pytest.raises(ValueError, match="is not a storage key"):
        storage.put_file(key, tmp_path / "in", "text/plain")
    with pytest.raises(ValueError, match="is not a storage key"):
        storage.stat(key)


def test_presigned_urls_work_for_a_plain_client_or_are_not_given(storage: Storage, tmp_path: Path) -> None:
    data = random_file(tmp_path / "in", 100_000)
    storage.put_file("film", tmp_path / "in", "video/mp4")
    url = storage.presign_get("film", seconds=60, filename="film.mp4", content_type="video/mp4")
    if url is None:
        assert storage.presign_put("new", seconds=60, content_type="image/png", size=10) is None
        return
    with urlopen(url) as answer:
        assert answer.read() == data
        assert answer.headers["content-type"] == "video/mp4"
    part = Request(url, headers={"range": "bytes=10-19"})
    with urlopen(part) as answer:
        # rclone delivers the range and calls it 200.
        assert answer.status in (200, 206)
        assert answer.read() == data[10:20]
    with pytest.raises(HTTPError):
        urlopen(url.replace("/film?", "/other?"))


def test_a_client_puts_a_file_itself(storage: Storage, tmp_path: Path) -> None:
    upload = storage.presign_put("uploads/picture", seconds=60, content_type="image/png", size=1000)
    if upload is None:
        return
    place, elsewhere = upload.url, upload.url.replace("picture", "other")
    # Another key, type or length is not what was signed.
    for url, size, kind in ((elsewhere, 1000, "image/png"), (place, 1000, "text/html"), (place, 1001, "image/png")):
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(url, b"x" * size, {"content-type": kind}, method="PUT"))
    assert storage.stat("uploads/picture") is None
    with urlopen(Request(place, b"x" * 1000, dict(upload.headers), method=upload.method)) as answer:
        assert answer.status == 200
    stat = storage.stat("uploads/picture")
    assert stat is not None
    assert stat.bytes == 1000


def test_two_stores_at_one_place_see_the_same(url: str, tmp_path: Path) -> None:
    random_file(tmp_path / "in", 5)
    open_storage(url).put_file("key", tmp_path / "in", "text/plain")
    assert open_storage(url).stat("key") is not None


def test_a_wrong_secret_is_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if urlsplit(url).scheme == "file":
        return
    random_file(tmp_path / "in", 5)
    monkeypatch.setenv("CINEMETER_S3_SECRET_KEY", "not the secret")
    get_settings.cache_clear()
    with pytest.raises(StorageError):
        open_storage(url).put_file("key", tmp_path / "in", "text/plain")
    with pytest.raises(StorageError):
        open_storage(url).stat("key")


@pytest.mark.parametrize("url", ["", "films", "ftp://host/x", "s3:///prefix", "s3://bucket/?endpiont=http://x"])
def test_other_urls_are_refused_with_a_message(url: str) -> None:
    with pytest.raises(ValueError, match="is not a storage URL"):
        open_storage(url)
