"""The end of a film's retention: its files are removed, its receipt stays."""

import io
from datetime import timedelta
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import func, select

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.assets.tables import Asset
from app.db import transaction
from app.dispatch.retention import chores, clean
from app.dispatch.tables import SweepCount
from app.jobs.tables import ReceiptRow
from app.settings import get_settings
from app.storage import get_storage
from app.wallet.balance import open_wallet
from app.wallet.funds import top_up
from tests.api_client import World

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


def keys(prefix: str = "") -> set[str]:
    return {stat.key for stat in get_storage().list(prefix)}


def test_a_film_leaves_when_its_retention_ends_and_its_receipt_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = world.post("/v1/videos", ORDER).json()
    world.work()
    done = world.get(f"/v1/videos/{video['id']}").json()
    assert done["expires_at"] - done["completed_at"] == 30 * 86_400, "what the professional membership keeps"
    assert keys(f"films/{video['id']}/")
    assert clean(chores())["expired_films"] == 0
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", str(30 * 86_400 + 60))
    get_settings.cache_clear()
    assert clean(chores())["expired_films"] == 1
    assert keys() == set()
    gone = world.get(f"/v1/videos/{video['id']}/content")
    assert (gone.status_code, gone.json()["code"]) == (410, "gone")
    after = world.get(f"/v1/videos/{video['id']}").json()
    assert (after["status"], after["video_url"]) == ("completed", None)
    assert world.get(f"/v1/videos/{video['id']}/receipt").json()["total"] == done["charged"]
    with transaction() as session:
        assert session.scalar(select(SweepCount.count).where(SweepCount.repair == "expired_films")) == 1
        assert session.scalar(select(func.count()).select_from(ReceiptRow)) == 1
    assert clean(chores())["expired_films"] == 0, "it is removed once"


def test_an_uploaded_picture_is_kept_as_long_as_the_membership_says(world: World) -> None:
    drawn = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(drawn, "PNG")
    answer = world.post("/v1/assets", files={"file": ("red.png", drawn.getvalue(), "image/png")})
    assert answer.status_code == 200, answer.text
    with transaction() as session:
        asset = session.get_one(Asset, answer.json()["id"])
        assert asset.expires_at is not None
        # The row is written when the file is stored, some moments after the membership was read.
        assert round((asset.expires_at - asset.created_at) / timedelta(days=1)) == 30


def test_an_input_stays_until_its_job_has_ended_and_no_job_is_made_without_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(drawn, "PNG")
    asset = world.post("/v1/assets", files={"file": ("red.png", drawn.getvalue(), "image/png")}).json()["id"]
    video = world.post("/v1/videos", {**ORDER, "first_frame": asset}).json()["id"]
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", str(31 * 86_400))
    get_settings.cache_clear()
    assert clean(chores())["expired_assets"] == 0
    world.work()
    assert world.get(f"/v1/videos/{video}").json()["status"] == "completed"
    assert clean(chores())["expired_assets"] == 1
    wallet = world.get("/v1/wallet").json()
    again = world.post(f"/v1/videos/{video}/remix", {"prompt": "other bars"})
    assert (again.status_code, again.json()["code"], again.json()["id"]) == (410, "gone", asset)
    assert world.get("/v1/wallet").json() == wallet
    assert len(world.get("/v1/videos").json()["data"]) == 1


def test_a_film_that_comes_back_is_kept_as_long_as_the_membership_says(world: World) -> None:
    with transaction() as session:
        carol = create_account(session, "Carol").id
        open_wallet(session, carol)
        top_up(session, carol, 10_000, kind="purchased", reference="seed Carol")
        key = issue_key(session, carol, scopes=["videos"])[1]
    film = world.post("/v1/videos", ORDER, key=key).json()
    world.work()
    edit = {"prompt": "as snow", "video": film["id"]}
    assert world.post("/v1/videos/edits", edit, key=key).status_code == 200
    with transaction() as session:
        asset = session.scalars(select(Asset).where(Asset.account_id == carol)).one()
        assert asset.expires_at is not None
        assert asset.expires_at - asset.created_at == timedelta(days=7), "no membership"
