"""A file that the account has uploaded before is not sent again, and nobody learns of another account's files."""

import hashlib
import io
from datetime import timedelta
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import event, select

from app.accounts.accounts import suspend
from app.accounts.keys import issue_key
from app.accounts.projects import create_project
from app.assets.tables import Asset
from app.db import get_engine, transaction
from app.settings import get_settings
from tests.api_client import World


def picture(color: str = "red") -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(drawn, "PNG")
    return drawn.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def upload(world: World, data: bytes, key: str | None = None) -> dict[str, Any]:
    asset: dict[str, Any] = world.post("/v1/assets", files={"file": ("a.png", data, "image/png")}, key=key).json()
    return asset


def is_known(world: World, digest: str, key: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {key or world.alice}"}
    return world.app.head(f"/v1/assets/by_hash/{digest}", headers=headers).status_code


def test_a_known_file_is_used_without_being_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    data = picture()
    digest = sha256(data)
    assert is_known(world, digest) == 404
    assert world.post("/v1/assets/from_hash", {"sha256": digest}).status_code == 404
    first = upload(world, data)
    assert (first["source_sha256"], first["sha256"] != digest) == (digest, True), "it is stored in another form"
    assert is_known(world, digest) == 200
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", "86400")
    get_settings.cache_clear()
    again = world.post("/v1/assets/from_hash", {"sha256": digest, "kind": "picture"}).json()
    assert again["id"] == first["id"]
    assert again["expires_at"] >= first["expires_at"] + 86_400, "as long as one that is uploaded now"
    assert world.post("/v1/assets/from_hash", {"sha256": digest, "kind": "clip"}).status_code == 404
    world.delete(f"/v1/assets/{first['id']}")
    assert is_known(world, digest) == 404


def test_a_file_whose_time_is_over_is_not_known(world: World) -> None:
    data = picture()
    asset_id = upload(world, data)["id"]
    with transaction() as session:
        asset = session.get_one(Asset, asset_id)
        asset.expires_at = asset.created_at - timedelta(seconds=1)
    assert is_known(world, sha256(data)) == 404


def test_a_direct_upload_and_a_data_url_are_known_by_their_bytes(world: World) -> None:
    data = picture("green")
    announced = {"content_type": "image/png", "bytes": len(data)}
    begun = world.post("/v1/assets/uploads", announced).json()
    world.app.put(begun["upload"]["url"], content=data, headers=begun["upload"]["headers"])
    assert is_known(world, sha256(data)) == 404, "not before it is confirmed"
    confirmed = world.post(f"/v1/assets/{begun['id']}/confirm").json()
    assert confirmed["source_sha256"] == sha256(data)
    assert is_known(world, sha256(data)) == 200


def test_another_accounts_file_looks_like_an_unknown_one(world: World) -> None:
    data = picture()
    upload(world, data, key=world.bob)
    statements: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM assets" in statement:
            statements.append(statement)

    event.listen(get_engine(), "before_cursor_execute", record)
    try:
        runs = []
        for digest in (sha256(data), sha256(b"nothing")):
            statements.clear()
            answer = world.post("/v1/assets/from_hash", {"sha256": digest})
            body = {name: value for name, value in answer.json().items() if name not in ("id", "request_id")}
            runs.append((answer.status_code, body, is_known(world, digest), list(statements)))
    finally:
        event.remove(get_engine(), "before_cursor_execute", record)
    foreign, unknown = runs
    assert foreign == unknown, "in its answers and in what the database is asked"
    assert foreign[0] == foreign[2] == 404
    assert len(foreign[3]) == 2


def test_projects_and_test_mode_know_their_own_files_only(world: World) -> None:
    data = picture()
    with transaction() as session:
        project = create_project(session, world.alice_id, "one").id
        of_project = issue_key(session, world.alice_id, scopes=["videos"], project_id=project)[1]
    upload(world, data)
    assert is_known(world, sha256(data), key=of_project) == 404
    assert is_known(world, sha256(data), key=world.test_key) == 404
    assert is_known(world, sha256(data)) == 200


@pytest.mark.parametrize("digest", ["", "A" * 64, "0" * 63, 5])
def test_what_is_no_hash_is_refused(world: World, digest: object) -> None:
    assert world.post("/v1/assets/from_hash", {"sha256": digest}).status_code == 422
    # Without a hash the path is another one.
    assert not digest or is_known(world, str(digest)) == 422


def test_a_suspended_account_gets_no_new_life_for_its_files(world: World) -> None:
    data = picture()
    asset_id = upload(world, data)["id"]
    with transaction() as session:
        before = session.scalar(select(Asset.expires_at).where(Asset.id == asset_id))
        suspend(session, world.alice_id, "a test")
    assert world.post("/v1/assets/from_hash", {"sha256": sha256(data)}).json()["code"] == "account_suspended"
    with transaction() as session:
        assert session.scalar(select(Asset.expires_at).where(Asset.id == asset_id)) == before
