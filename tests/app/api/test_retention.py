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
from app.reports.replay import replay_job
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


def picture(color: str = "red") -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(drawn, "PNG")
    return drawn.getvalue()


def upload(world: World, data: bytes) -> str:
    asset_id: str = world.post("/v1/assets", files={"file": ("a.png", data, "image/png")}).json()["id"]
    return asset_id


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", str(seconds))
    get_settings.cache_clear()


def test_an_order_decides_how_long_its_film_and_its_inputs_are_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, unused = upload(world, picture()), upload(world, picture("blue"))
    body = {**ORDER, "first_frame": used, "retention": {"film": 3600, "inputs": 0}}
    video = world.post("/v1/videos", body).json()
    assert video["retention"] == {"film": 3600, "inputs": 0}
    assert clean(chores())["expired_assets"] == 0, "the job still reads it"
    world.work()
    done = world.get(f"/v1/videos/{video['id']}").json()
    assert done["retention"] == {"film": 3600, "inputs": 0}
    assert done["expires_at"] - done["completed_at"] == 3600
    assert clean(chores())["expired_assets"] == 1
    assert world.get(f"/v1/assets/{used}").status_code == 404
    assert world.get(f"/v1/assets/{unused}").status_code == 200
    assert world.get(f"/v1/videos/{video['id']}/content").status_code == 200
    pass_time(monkeypatch, 3700)
    assert clean(chores())["expired_films"] == 1
    assert world.get(f"/v1/videos/{video['id']}/content").status_code == 410
    receipt = world.get(f"/v1/videos/{video['id']}/receipt").json()
    assert receipt["total"] == done["charged"]
    with transaction() as session:
        assert replay_job(session, video["id"])[1] is None


def test_inputs_of_a_form_leave_with_a_job_that_failed_to_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"model": "synthetic", "prompt": "bars", "seconds": "1", "resolution": "480P", "retention[inputs]": "60"}
    files = {"input_reference": ("a.png", picture(), "image/png")}
    video = world.app.post(
        "/v1/videos", data=fields, files=files, headers={"Authorization": f"Bearer {world.alice}"}
    ).json()
    assert video["retention"] == {"film": None, "inputs": 60}
    ended = world.post(f"/v1/videos/{video['id']}/cancel").json()
    assert ended["status"] == "cancelled"
    with transaction() as session:
        asset = session.scalars(select(Asset)).one()
        assert asset.expires_at is not None
        assert int(asset.expires_at.timestamp()) == ended["completed_at"] + 60
    pass_time(monkeypatch, 70)
    assert clean(chores())["expired_assets"] == 1


def test_a_retention_never_keeps_an_input_longer(world: World) -> None:
    asset = upload(world, picture())
    before = world.get(f"/v1/assets/{asset}").json()["expires_at"]
    video = world.post("/v1/videos", {**ORDER, "first_frame": asset, "retention": {"inputs": 30 * 86_400}}).json()
    world.post(f"/v1/videos/{video['id']}/cancel")
    assert world.get(f"/v1/assets/{asset}").json()["expires_at"] == before


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/videos/estimates", "/v1/videos/quotes"])
def test_a_retention_beyond_the_membership_is_refused_with_the_bound(world: World, path: str) -> None:
    for name, least in (("film", 60), ("inputs", 0)):
        refused = world.post(path, {**ORDER, "retention": {name: 30 * 86_400 + 1}})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        assert refused.json()["field"] == f"retention.{name}"
        assert refused.json()["allowed"] == [least, 30 * 86_400]
        assert "professional keeps files for at most 2592000 seconds (30 days)" in refused.json()["detail"]
    for retention in ({"film": 59}, {"inputs": -1}, {"prompt": 5}, 60):
        assert world.post(path, {**ORDER, "retention": retention}).status_code == 422
    assert world.get("/v1/videos").json()["data"] == []


def test_films_made_from_others_inherit_their_retention_or_have_their_own(world: World) -> None:
    first = world.post("/v1/videos", {**ORDER, "retention": {"film": 3600}}).json()["id"]
    world.work()
    body = {"prompt": "other bars"}
    plain = world.post(f"/v1/videos/{first}/remix", body, headers={"Idempotency-Key": "plain"}).json()
    assert plain["retention"]["film"] == 3600
    short = world.post(f"/v1/videos/{first}/remix", {**body, "retention": {"film": 60}}).json()
    longer = {**body, "video": {"id": first}, "seconds": 1, "retention": {"film": 120}}
    extended = world.post("/v1/videos/extensions", longer).json()
    assert [each["retention"]["film"] for each in (short, extended)] == [60, 120]
    too_long = world.post(f"/v1/videos/{first}/remix", {**body, "retention": {"film": 31 * 86_400}})
    assert (too_long.status_code, too_long.json()["field"]) == (422, "retention.film")


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
