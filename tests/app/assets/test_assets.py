"""The life of assets: ingested, found, used, deleted, expired, cleaned up."""

import base64
import hashlib
import http.server
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.request import Request, urlopen  # noqa: TID251 - a customer's plain HTTP client

import pytest
from sqlalchemy import false, true
from sqlalchemy.orm import Session

import app.assets.ingest
from app.accounts.accounts import create_account
from app.accounts.projects import create_project
from app.assets.find import asset_key, get_asset, list_assets, ready_asset
from app.assets.ingest import ingest_upload, ingest_url
from app.assets.limits import PENDING_MAX
from app.assets.links import open_upload_link
from app.assets.owner import AssetOwner, OwnerIds
from app.assets.remove import FOLDERS, delete_asset, remove_expired, unreferenced_files
from app.assets.schemas import AssetOut
from app.assets.tables import Asset
from app.assets.upload import UPLOAD_SECONDS, begin_upload, confirm, receive
from app.clock import now
from app.errors import AppError
from app.settings import get_settings
from app.storage import Storage, get_storage
from tests.app.assets.media_files import make, make_clip, make_picture, png_header, tone
from tests.contracts.storage_servers import rclone


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.setenv("CINEMETER_STORAGE_URL", f"file:{tmp_path / 'store'}")
    monkeypatch.setenv("CINEMETER_WEBHOOK_ALLOW_PRIVATE", "1")
    get_settings.cache_clear()
    yield get_storage()
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.fixture
def account(session: Session) -> AssetOwner:
    return OwnerIds(create_account(session, "Ada").id)


@pytest.fixture
def picture(tmp_path: Path) -> bytes:
    return make_picture(tmp_path / "picture.png").read_bytes()


def keys(storage: Storage) -> list[str]:
    return [stat.key for stat in storage.list("")]


def test_an_upload_becomes_a_ready_asset(
    session: Session, storage: Storage, account: AssetOwner, picture: bytes
) -> None:
    asset = ingest_upload(session, account, io.BytesIO(picture), kind="picture", filename="C:\\me\\a\x00b.png")
    assert (asset.state, asset.kind, asset.width, asset.height) == ("ready", "picture", 320, 200)
    assert asset.filename == "ab.png"
    assert keys(storage) == [asset.key] == [f"assets/{account.account_id}/{asset.id}.png"]
    stored = b"".join(storage.read_range(str(asset.key), 0, asset.bytes or 0))
    assert hashlib.sha256(stored).hexdigest() == asset.sha256
    assert stored != picture
    asset_out = AssetOut.of(asset)
    assert (asset_out.id, asset_out.object, asset_out.bytes) == (asset.id, "asset", len(stored))
    assert asset_out.expires_at is not None
    assert asset_out.expires_at - asset_out.created_at == 30 * 86_400


def test_clips_and_sounds_carry_their_exact_length(
    session: Session, storage: Storage, account: AssetOwner, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=2, rate="30000/1001")
    with clip.open("rb") as file:
        asset = ingest_upload(session, account, file)
    assert (asset.kind, asset.fps, asset.frames, asset.seconds) == ("clip", "30000/1001", 60, "1001/500")
    with make(tmp_path / "sound.wav", *tone(1)).open("rb") as file:
        sound = ingest_upload(session, account, file, kind="sound")
    assert (sound.kind, sound.seconds, sound.has_audio) == ("sound", "1", True)
    session.expire_all()
    assert {each.id for each in list_assets(session, account)} == {asset.id, sound.id}


def test_a_refused_upload_leaves_nothing(session: Session, storage: Storage, account: AssetOwner) -> None:
    for data in (b"", b"#EXTM3U\n", png_header(13_000, 13_000)):
        with pytest.raises(AppError) as refused:
            ingest_upload(session, account, io.BytesIO(data), kind="picture", field="first_frame")
        assert (refused.value.code, refused.value.field) == ("asset_refused", "first_frame")
        assert refused.value.message.startswith("The file was refused: it ")
    assert keys(storage) == []
    assert list_assets(session, account) == []


def test_a_stream_without_end_is_cut_off(session: Session, storage: Storage, account: AssetOwner) -> None:
    class Endless(io.RawIOBase):
        bytes_read = 0

        def read(self, size: int = -1) -> bytes:
            self.bytes_read += size
            return b"\x89PNG\r\n\x1a\n".ljust(size, b"x")

    stream = Endless()
    with pytest.raises(AppError, match="larger than 31,457,280 bytes"):
        ingest_upload(session, account, stream, kind="picture")  # type: ignore[arg-type]
    assert stream.bytes_read < 35 * 2**20


def test_a_data_url_is_decoded(session: Session, storage: Storage, account: AssetOwner, picture: bytes) -> None:
    address = "data:text/html;base64," + base64.b64encode(picture).decode()
    assert ingest_url(session, account, address, kind="picture").width == 320
    for wrong in ("data:", "data:image/png;base64", "data:image/png;base64,***", "data:,hello"):
        with pytest.raises(AppError) as refused:
            ingest_url(session, account, wrong, kind="picture", field="first_frame")
        assert refused.value.code == "asset_refused"
    with pytest.raises(AppError, match="larger than"):
        ingest_url(session, account, "data:;base64," + "A" * (70 * 2**20), kind="picture")


def test_a_url_is_fetched_through_the_guard(
    session: Session, storage: Storage, account: AssetOwner, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/a.png" else 404)
            self.send_header("content-length", str(len(picture)))
            self.end_headers()
            self.wfile.write(picture)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert ingest_url(session, account, f"{url}/a.png", kind="picture").state == "ready"
        with pytest.raises(AppError) as missing:
            ingest_url(session, account, f"{url}/b.png", kind="picture", field="first_frame")
        assert (missing.value.code, missing.value.field) == ("url_refused", "first_frame")
        monkeypatch.setenv("CINEMETER_WEBHOOK_ALLOW_PRIVATE", "0")
        get_settings.cache_clear()
        with pytest.raises(AppError) as private:
            ingest_url(session, account, f"{url}/a.png", kind="picture")
        assert private.value.code == "url_refused"
        server.shutdown()
    for wrong in ("file:///etc/passwd", "ftp://example.com/a.png", "gopher:x", "concat:a|b"):
        with pytest.raises(AppError) as refused:
            ingest_url(session, account, wrong, kind="picture")
        assert refused.value.code == "url_refused"


def test_an_upload_in_two_steps(session: Session, storage: Storage, account: AssetOwner, picture: bytes) -> None:
    asset, upload = begin_upload(
        session, account, kind=None, filename="a.png", content_type="image/png", size=len(picture)
    )
    assert asset.state == "pending"
    with pytest.raises(AppError, match="not arrived"):
        confirm(session, account, asset.id)
    link = open_upload_link(upload.url.rpartition("/")[2])
    assert (link.asset_id, link.size) == (asset.id, len(picture))
    for wrong in (picture + b"x", picture[:-1]):
        with pytest.raises(AppError, match=r"larger than|were announced"):
            receive(session, link, io.BytesIO(wrong))
    with pytest.raises(AppError) as late:
        receive(
            session,
            replace(link, token=replace(link.token, expires=link.token.expires - UPLOAD_SECONDS)),
            io.BytesIO(picture),
        )
    assert late.value.code == "gone"
    assert keys(storage) == []
    receive(session, link, io.BytesIO(picture))
    ready = confirm(session, account, asset.id)
    assert (ready.id, ready.state, ready.kind) == (asset.id, "ready", "picture")
    assert keys(storage) == [ready.key]
    for again in (
        lambda: confirm(session, account, asset.id),
        lambda: receive(session, link, io.BytesIO(picture)),
    ):
        with pytest.raises(AppError) as conflict:
            again()
        assert conflict.value.code == "conflict"


def test_what_was_put_and_is_no_picture_is_refused_for_good(
    session: Session, storage: Storage, account: AssetOwner
) -> None:
    asset, upload = begin_upload(session, account, kind="picture", filename="", content_type="image/png", size=6)
    receive(session, open_upload_link(upload.url.rpartition("/")[2]), io.BytesIO(b"<svg/>"))
    refused = confirm(session, account, asset.id)
    assert refused.state == "refused"
    assert refused.refused_reason == "it is none of PNG, JPEG, WebP."
    assert keys(storage) == []
    assert AssetOut.of(refused).refused_reason == refused.refused_reason
    with pytest.raises(AppError) as error:
        ready_asset(session, account, asset.id, kind="picture", field="first_frame")
    assert error.value.code == "asset_refused"


def test_uploads_are_bounded_in_size_and_number(session: Session, storage: Storage, account: AssetOwner) -> None:
    with pytest.raises(AppError) as large:
        begin_upload(session, account, kind="picture", filename="", content_type="image/png", size=40 * 2**20)
    assert (large.value.code, large.value.field) == ("asset_refused", "bytes")
    for _ in range(PENDING_MAX):
        begin_upload(session, account, kind=None, filename="", content_type="image/png", size=1)
    with pytest.raises(AppError) as many:
        begin_upload(session, account, kind=None, filename="", content_type="image/png", size=1)
    assert many.value.code == "conflict"


def test_a_client_puts_its_file_into_the_bucket_itself(
    session: Session, account: AssetOwner, picture: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rclone(tmp_path / "server" / "buckets") as server:
        monkeypatch.setenv("CINEMETER_STORAGE_URL", f"s3://assets/x?endpoint={server.endpoint}")
        monkeypatch.setenv("CINEMETER_S3_ACCESS_KEY", server.access_key)
        monkeypatch.setenv("CINEMETER_S3_SECRET_KEY", server.secret_key)
        get_settings.cache_clear()
        asset, upload = begin_upload(
            session, account, kind="picture", filename="", content_type="image/png", size=len(picture)
        )
        with urlopen(Request(upload.url, picture, upload.headers, method=upload.method)) as answer:
            assert answer.status == 200
        ready = confirm(session, account, asset.id)
        assert (ready.state, ready.width) == ("ready", 320)
        assert keys(get_storage()) == [ready.key]
        other, upload = begin_upload(
            session, account, kind="picture", filename="", content_type="image/png", size=len(picture)
        )
        monkeypatch.setattr(app.assets.ingest, "LIMITS", {"picture": type("Small", (), {"bytes_max": 10})})
        with urlopen(Request(upload.url, picture, upload.headers, method=upload.method)):
            pass
        assert confirm(session, account, other.id).state == "refused"
    monkeypatch.undo()
    get_settings.cache_clear()


def test_nobody_sees_anothers_assets(session: Session, storage: Storage, account: AssetOwner, picture: bytes) -> None:
    asset = ingest_upload(session, account, io.BytesIO(picture))
    project = create_project(session, account.account_id, "unit").id
    ours = ingest_upload(session, OwnerIds(account.account_id, project), io.BytesIO(picture))
    assert {each.id for each in list_assets(session, account)} == {asset.id, ours.id}, "the account sees its projects'"
    for other in (
        OwnerIds(create_account(session, "Bob").id),
        OwnerIds(account.account_id, create_project(session, account.account_id, "another unit").id),
        OwnerIds(account.account_id, test=True),
    ):
        refuse_all(session, other, asset.id, ours.id)
    assert get_asset(session, account, asset.id) is asset


def refuse_all(session: Session, other: AssetOwner, *ids: str) -> None:
    """Nothing that can be done with these assets is done for this other owner."""
    for asset_id in (*ids, "asset_unknown"):
        for look in (
            partial(get_asset, session, other, asset_id),
            partial(ready_asset, session, other, asset_id, kind="picture", field="first_frame"),
            partial(delete_asset, session, other, asset_id),
            partial(confirm, session, other, asset_id),
        ):
            with pytest.raises(AppError) as unseen:
                look()
            assert unseen.value.code == "not_found"
    assert list_assets(session, other) == []


def test_an_asset_is_used_as_what_it_is(
    session: Session, storage: Storage, account: AssetOwner, picture: bytes
) -> None:
    asset = ingest_upload(session, account, io.BytesIO(picture))
    assert ready_asset(session, account, asset.id, kind="picture", field="first_frame") is asset
    assert asset_key(session, asset.id) == asset.key
    with pytest.raises(AppError) as wrong:
        ready_asset(session, account, asset.id, kind="clip", field="video")
    assert (wrong.value.code, wrong.value.field) == ("invalid_request", "video")
    pending, _ = begin_upload(session, account, kind=None, filename="", content_type="image/png", size=1)
    with pytest.raises(AppError) as early:
        ready_asset(session, account, pending.id, kind="picture", field="first_frame")
    assert (early.value.code, early.value.field) == ("conflict", "first_frame")


def test_a_deleted_asset_is_gone(session: Session, storage: Storage, account: AssetOwner, picture: bytes) -> None:
    asset = ingest_upload(session, account, io.BytesIO(picture))
    delete_asset(session, account, asset.id)
    assert keys(storage) == []
    assert list_assets(session, account) == []
    with pytest.raises(AppError) as gone:
        asset_key(session, asset.id)
    assert gone.value.code == "gone"
    with pytest.raises(AppError) as unseen:
        delete_asset(session, account, asset.id)
    assert unseen.value.code == "not_found"


def test_assets_expire_and_begun_uploads_do_too(
    session: Session, storage: Storage, account: AssetOwner, picture: bytes
) -> None:
    soon = now(session) + timedelta(hours=1)
    short = ingest_upload(session, account, io.BytesIO(picture), expires_at=soon)
    long = ingest_upload(session, account, io.BytesIO(picture))
    begin_upload(session, account, kind=None, filename="", content_type="image/png", size=1)
    assert remove_expired(session, awaited=false()) == 0
    for row, moved in ((short, timedelta(hours=2)), (None, timedelta(hours=25))):
        for asset in session.query(Asset):
            asset.expires_at = asset.expires_at and asset.expires_at - moved
        assert remove_expired(session, awaited=true()) == 0
        assert remove_expired(session, awaited=false()) == 1
        if row is not None:
            assert row.state == "deleted"
    assert [asset.id for asset in list_assets(session, account)] == [long.id]
    assert keys(storage) == [long.key]


def test_files_that_no_row_names_are_swept_after_a_day(
    session: Session, storage: Storage, account: AssetOwner, picture: bytes, tmp_path: Path
) -> None:
    asset = ingest_upload(session, account, io.BytesIO(picture))
    for key in ("assets/x/asset_1.png", "uploads/x/asset_2", "films/video_1/take_1/film.mp4"):
        storage.put_file(key, tmp_path / "picture.png", "image/png")
    files = [stat for stat in storage.list("") if stat.key.startswith(FOLDERS)]
    assert unreferenced_files(session, files) == []
    for stat in storage.list(""):
        path = tmp_path / "store" / stat.key
        os.utime(path, (stat.modified_at.timestamp() - 90_000,) * 2)
    files = [stat for stat in storage.list("") if stat.key.startswith(FOLDERS)]
    assert unreferenced_files(session, files) == ["assets/x/asset_1.png", "uploads/x/asset_2"]
    assert asset.key in {stat.key for stat in files}


def test_pages_of_assets_follow_each_other(session: Session, storage: Storage, account: AssetOwner) -> None:
    asset_ids = [
        begin_upload(session, account, kind=None, filename=str(n), content_type="image/png", size=1)[0].id
        for n in range(5)
    ]
    seen: list[str] = []
    after = None
    while page := list_assets(session, account, limit=2, after=after):
        seen += [asset.id for asset in page]
        after = (page[-1].created_at, page[-1].id)
    assert sorted(seen) == sorted(asset_ids)
    assert len(seen) == 5
