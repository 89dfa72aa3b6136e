"""The files of deleted and expired assets: retention removes them, and no transaction waits for the store."""

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

import app.assets.upload
from app.assets.ingest import ingest_upload
from app.assets.links import open_upload_link
from app.assets.owner import OwnerIds
from app.assets.remove import delete_asset
from app.assets.tables import Asset
from app.assets.upload import begin_upload, confirm, receive
from app.clock import now
from app.db import transaction
from app.dispatch.retention import expired_assets
from app.errors import AppError
from app.settings import get_settings
from app.storage import StorageError, get_storage
from app.storage.files import FileStorage
from tests.app.assets.media_files import make_picture
from tests.factories import make_account


@pytest.fixture
def picture(engine: Engine, redis_url: str, tmp_path: Path) -> bytes:
    return make_picture(tmp_path / "picture.png").read_bytes()


@pytest.fixture
def add(picture: bytes) -> Callable[[], Asset]:
    """Add an asset of an account of its own."""

    def ingest() -> Asset:
        with transaction() as session:
            return ingest_upload(session, OwnerIds(make_account(session).id), io.BytesIO(picture))

    return ingest


def stored() -> set[str]:
    return {stat.key for stat in get_storage().list("")}


def row(asset: Asset) -> Asset:
    with transaction() as session:
        return session.get_one(Asset, asset.id)


def test_the_file_of_a_deleted_asset_goes_with_the_next_round(add: Callable[[], Asset]) -> None:
    gone, other = add(), add()
    assert expired_assets() == 0
    with transaction() as session:
        delete_asset(session, OwnerIds(gone.account_id), gone.id)
    assert stored() == {gone.key, other.key}
    assert expired_assets() == 1
    assert stored() == {other.key}
    assert (row(gone).state, row(gone).key) == ("deleted", None)
    assert expired_assets() == 0


def test_a_file_that_the_store_keeps_stops_no_other(add: Callable[[], Asset], monkeypatch: pytest.MonkeyPatch) -> None:
    locked, others = add(), [add() for _ in range(3)]
    with transaction() as session:
        for asset in session.scalars(select(Asset)):
            asset.expires_at = now(session)
    delete = FileStorage.delete

    def refuse(storage: FileStorage, key: str) -> None:
        if key == locked.key:
            raise StorageError("this object is locked")
        delete(storage, key)

    monkeypatch.setattr(FileStorage, "delete", refuse)
    expired_assets()
    assert stored() == {locked.key}
    assert {row(each).state for each in (locked, *others)} == {"deleted"}
    monkeypatch.setattr(FileStorage, "delete", delete)
    assert expired_assets() == 0, "it is left alone for a while"
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", "700")
    get_settings.cache_clear()
    assert expired_assets() == 1
    assert stored() == set()


def test_of_two_that_confirm_one_upload_one_has_the_asset_and_its_file(
    picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction() as session:
        owner = OwnerIds(make_account(session).id)
        asset, upload = begin_upload(
            session, owner, kind=None, filename="", content_type="image/png", size=len(picture)
        )
    with transaction() as session:
        receive(session, open_upload_link(upload.url.rpartition("/")[2]), io.BytesIO(picture))
    both_have_read = threading.Barrier(2, timeout=60)
    store_file = app.assets.upload.store_file

    def meet(*arguments: object) -> object:
        both_have_read.wait()
        return store_file(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(app.assets.upload, "store_file", meet)

    def confirm_it() -> str:
        try:
            with transaction() as session:
                return confirm(session, owner, asset.id).state
        except AppError as error:
            return error.code

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(future.result() for future in [pool.submit(confirm_it) for _ in range(2)])
    assert outcomes == ["conflict", "ready"]
    assert stored() == {row(asset).key}
