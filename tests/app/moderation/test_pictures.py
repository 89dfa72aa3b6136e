"""Pictures and clips of orders, at every interface: what a checker refuses holds nothing and leaves nothing."""

import base64
import shutil
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select, update

from app.accounts.keys import issue_key
from app.accounts.projects import create_project
from app.accounts.tables import Account
from app.assets.sample_frames import sample_frames
from app.assets.tables import Asset
from app.clock import now
from app.db import transaction
from app.errors import AppError
from app.jobs.check_files import require_checked_files
from app.jobs.check_pictures import PictureFile, check_pictures
from app.jobs.idempotency import CheckedOrder, OrderIdentity
from app.jobs.review import open_review_of
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec
from app.jobs.tables import Job
from app.moderation.checked_files import forget_answers
from app.moderation.checked_tables import CheckedFile
from app.moderation.checker_interface import PictureAnswer
from app.moderation.outcomes import CheckFailed, CheckStage, Outcome
from app.moderation.picture_checkers import input_checkers
from app.moderation.rules import shipped_rules
from app.moderation.tables import ModerationOutcome
from app.storage import get_storage
from tests.api_client import SCOPES, World
from tests.app.assets.media_files import make, make_clip, png_header
from tests.app.moderation.conftest import PolicyWriter
from tests.app.moderation.test_orders import FILM, counts, mcp, wallets
from tests.session_guard import watch

pytestmark = pytest.mark.xdist_group("service")


def picture(path: Path, colour: tuple[int, int, int], seed: int = 0) -> bytes:
    """Write a picture of one colour, a little different for each seed, and return its bytes."""
    noise = np.random.default_rng(seed).integers(0, 20, (120, 160, 3))
    Image.fromarray((np.clip(np.array(colour) + noise, 0, 255)).astype(np.uint8)).save(path, format="PNG")
    return path.read_bytes()


RED, GREEN = (200, 0, 0), (0, 200, 0)


def data_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def upload(world: World, content: bytes, name: str = "a.png", key: str | None = None) -> str:
    headers = {"Authorization": f"Bearer {key or world.alice}"}
    answer = world.app.post("/v1/assets", files={"file": (name, content)}, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


def refused(answer: Any, *, field: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["code"], body["stage"], body["category"], body["field"]) == (
        422, "content_refused", "input", "violence/graphic", field,
    ), answer.text  # fmt: skip


def test_every_interface_refuses_pictures_and_leaves_nothing(
    world: World, policy: PolicyWriter, tmp_path: Path
) -> None:
    server = policy()
    red = picture(tmp_path / "red.png", RED)
    stored = upload(world, red)
    tests = upload(world, red, key=world.test_key)
    before, wallet = counts(), wallets()
    refused(world.post("/v1/videos", {**FILM, "first_frame": stored}), field="first_frame")
    refused(world.post("/v1/videos", {**FILM, "first_frame": data_url(red)}), field="first_frame")
    refused(world.post("/v1/videos", {**FILM, "first_frame": tests}, key=world.test_key), field="first_frame")
    refused(world.post("/v1/videos", {**FILM, "last_frame": stored, "n": 2}), field="last_frame")
    refused(world.post("/v1/videos/sync", {**FILM, "first_frame": stored}), field="first_frame")
    refused(world.post("/v1/videos/quotes", {**FILM, "first_frame": data_url(red)}), field="first_frame")
    shots = [{"prompt": "a", "seconds": 1}, {"prompt": "b", "seconds": 1, "first_frame": data_url(red)}]
    storyboard = {"model": "synthetic", "resolution": "480P", "shots": shots}
    refused(world.post("/v1/videos", storyboard), field="shots.1.first_frame")
    files = {"first_frame": ("a.png", red, "image/png")}
    headers = {"Authorization": f"Bearer {world.alice}"}
    refused(world.app.post("/v1/videos", data=FILM, files=files, headers=headers), field="first_frame")
    task = {
        "model": "synthetic",
        "input": {"prompt": "bars", "img_url": data_url(red)},
        "parameters": {"duration": 1, "resolution": "480P"},
    }
    answer = world.post(
        "/api/v1/services/aigc/video-generation/video-synthesis", task, headers={"X-DashScope-Async": "enable"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "DataInspectionFailed"), answer.text
    prediction = world.post(
        "/replicate/v1/models/cinemeter/synthetic/predictions", {"input": {"prompt": "bars", "image": data_url(red)}}
    )
    assert (prediction.status_code, prediction.json()["code"]) == (422, "content_refused"), prediction.text
    call = {"prompt": "bars", "n": 1, "duration": 1, "resolution": "832x480"}
    call |= {"image": {"type": "file", "mediaType": "image/png", "data": base64.b64encode(red).decode()}}
    gateway = world.post("/v4/ai/video-model/start", call, headers={"ai-model-id": "cinemeter/synthetic"})
    assert (gateway.status_code, gateway.json()["error"]["code"]) == (422, "content_refused"), gateway.text
    tool = mcp(world, "quote", {"order": {**FILM, "first_frame": data_url(red)}})
    assert tool["isError"]
    assert "content_refused" in tool["content"][0]["text"]
    assert counts() == before
    assert wallets() == wallet
    # However often it comes, a file is looked at once.
    assert len(server.pictures()) == 1
    with transaction() as session:
        rows = session.scalars(select(ModerationOutcome)).all()
        assert {(row.stage, row.outcome, row.checker) for row in rows} == {("input", "refuse", "http")}
        assert {row.interface for row in rows} == {"native", "dashscope", "replicate", "gateway", "mcp"}
        assert session.scalar(select(func.count()).select_from(CheckedFile)) == 1


def test_an_allowed_picture_is_checked_once_and_named_by_the_job(
    world: World, policy: PolicyWriter, tmp_path: Path
) -> None:
    server = policy(model="moderator-1")
    green = upload(world, picture(tmp_path / "green.png", GREEN))
    with watch() as waits:
        orders = [world.post("/v1/videos", {**FILM, "first_frame": green}) for _ in range(2)]
    assert [each.status_code for each in orders] == [200, 200], orders[0].text
    assert waits == []
    calls = server.pictures()
    assert len(calls) == 1
    assert calls[0]["input"][0]["type"] == "image_url"
    assert calls[0]["input"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert calls[0]["model"] == "moderator-1"
    with transaction() as session:
        names = {session.get_one(Job, each.json()["id"]).checked_by for each in orders}
    assert names == {f"rules {shipped_rules().version}, http moderator-1, http pictures moderator-1"}
    # Another policy is another checker.
    policy(model="moderator-2")
    assert world.post("/v1/videos", {**FILM, "first_frame": green}).status_code == 200
    assert len(server.pictures()) == 2
    # What the operator does not want to be checked is not.
    policy(more="[pictures]\ninput = false")
    other = upload(world, picture(tmp_path / "red.png", RED))
    assert world.post("/v1/videos", {**FILM, "first_frame": other}).status_code == 200
    assert len(server.pictures()) == 2


def test_frames_of_clips_and_of_films_that_are_made_from_others(
    world: World, policy: PolicyWriter, tmp_path: Path
) -> None:
    """A second of red in a clip is seen, wherever it lies; so is a film that is edited or extended."""
    green, red = ["-f", "lavfi", "-i", "color=0x00c800:s=320x180:r=24:d=2"], "color=0xc80000:s=320x180:r=24:d=1"
    clip = make(
        tmp_path / "clip.mp4",
        *green, "-f", "lavfi", "-i", red, *green, "-filter_complex", "[0][1][2]concat=n=3", "-pix_fmt", "yuv420p",
    )  # fmt: skip
    film = world.post("/v1/videos", FILM).json()["id"]
    world.work()
    server = policy()
    stored = upload(world, clip.read_bytes(), "clip.mp4")
    before = counts()
    order = {**FILM, "video": stored}
    refused(world.post("/v1/videos", order), field="video")
    refused(world.post("/v1/videos/edits", order), field="video")
    assert len(server.pictures()) == 8
    assert counts() == before
    plain = make_clip(tmp_path / "plain.mp4")
    answer = world.post("/v1/videos/edits", {**FILM, "video": upload(world, plain.read_bytes(), "plain.mp4")})
    assert answer.status_code == 200, answer.text
    policy("/flagged", categories=["violence/graphic"])
    before = counts()
    # Words are flagged too by this path, so it is only asked for films here.
    for path in ("/v1/videos/edits", "/v1/videos/extensions"):
        answer = world.post(path, {"video": film, "prompt": "more", "seconds": 1})
        assert answer.json()["code"] == "content_refused", answer.text
    assert counts() == before


@pytest.mark.parametrize("path", ["/hang", "/error", "/text", "/other"])
def test_a_server_that_fails_at_pictures_leaves_the_decision_to_the_policy(
    world: World, policy: PolicyWriter, tmp_path: Path, path: str
) -> None:
    green = upload(world, picture(tmp_path / "green.png", GREEN))
    server = policy(path, timeout_seconds=0.5, on_failure="open")
    assert world.post("/v1/videos", {**FILM, "first_frame": green}).status_code == 200
    assert len(server.pictures()) == 1
    with transaction() as session:
        rows = session.scalars(select(ModerationOutcome).where(ModerationOutcome.stage == "input")).all()
        assert [(row.outcome, row.category) for row in rows] == [("allow", "unchecked")]
        # It is asked again with the next order.
        assert session.scalar(select(func.count()).select_from(CheckedFile)) == 0


def test_what_cannot_be_checked_is_refused_by_a_closed_policy(
    world: World, policy: PolicyWriter, tmp_path: Path
) -> None:
    server = policy()
    green = upload(world, picture(tmp_path / "green.png", GREEN))
    server.fails = True
    before = counts()
    answer = world.post("/v1/videos", {**FILM, "first_frame": green})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (503, "unavailable", "first_frame")
    assert counts() == before
    server.fails = False
    assert world.post("/v1/videos", {**FILM, "first_frame": green}).status_code == 200
    # A stored file that cannot be read is not seen by any checker.
    broken = upload(world, picture(tmp_path / "broken.png", GREEN, seed=1))
    with transaction() as session:
        key = str(session.get_one(Asset, broken).key)
    get_storage().put_file(key, write(tmp_path / "broken", b"\x89PNG\r\n\x1a\n" + b"?" * 100), "image/png")
    assert world.post("/v1/videos", {**FILM, "first_frame": broken}).json()["code"] == "unavailable"
    get_storage().delete(key)
    assert world.post("/v1/videos", {**FILM, "first_frame": broken}).json()["code"] == "unavailable"
    assert len(server.pictures()) == 2


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_file_that_becomes_ready_after_the_check_is_not_ordered_unseen(
    world: World, policy: PolicyWriter, tmp_path: Path
) -> None:
    green = upload(world, picture(tmp_path / "green.png", GREEN))
    job_id = world.post("/v1/videos", {**FILM, "first_frame": green}).json()["id"]
    with transaction() as session:
        spec = Spec.model_validate(session.get_one(Job, job_id).spec)
    order = OrderIdentity(request=VideoRequest(prompt="bars"), checked=CheckedOrder((), ""))

    def require(order: OrderIdentity) -> None:
        with transaction() as session:
            require_checked_files(session, order, spec)

    require(order)
    policy()
    with pytest.raises(AppError) as caught:
        require(order)
    assert (caught.value.code, caught.value.field) == ("conflict", "first_frame")
    require(replace(order, checked=CheckedOrder((), "", files=frozenset({green}))))


def test_a_projects_key_derives_from_a_film_whose_picture_is_the_accounts(
    world: World, policy: PolicyWriter, tmp_path: Path
) -> None:
    with transaction() as session:
        project = create_project(session, world.alice_id, "Campaign").id
        key = issue_key(session, world.alice_id, scopes=SCOPES, project_id=project)[1]
    green = upload(world, picture(tmp_path / "green.png", GREEN))
    film = world.post("/v1/videos", {**FILM, "first_frame": green, "project": project}).json()["id"]
    world.work()
    policy()
    answer = world.post(f"/v1/videos/{film}/remix", {"prompt": "more"}, key=key)
    assert answer.status_code == 200, answer.text
    # By itself, the key may not name the picture.
    assert world.post("/v1/videos", {**FILM, "first_frame": green}, key=key).json()["field"] == "first_frame"


def test_a_picture_that_calls_for_a_review_is_accepted_and_waits(
    world: World, policy: PolicyWriter, tmp_path: Path
) -> None:
    policy(review=["violence", "violence/graphic"])
    red = upload(world, picture(tmp_path / "red.png", RED))
    quote = world.post("/v1/videos/quotes", {**FILM, "first_frame": red})
    assert quote.status_code == 200, quote.text
    order = {**FILM, "first_frame": red, "quote_id": quote.json()["id"]}
    video = world.post("/v1/videos", order).json()
    assert (video["status"], video["stage"]) == ("queued", "moderating"), video
    world.work()
    with transaction() as session:
        review = open_review_of(session, video["id"])
        assert review is not None
        assert (review.stage, review.category, review.interface) == ("input", "violence/graphic", "native")
        session.execute(update(Account).where(Account.id == world.alice_id).values(moderation_level="strict"))
    refused(world.post("/v1/videos", {**FILM, "first_frame": red}), field="first_frame")


def test_old_answers_are_forgotten(world: World, policy: PolicyWriter, tmp_path: Path) -> None:
    server = policy(more="[pictures]\nremember_days = 3")
    green = upload(world, picture(tmp_path / "green.png", GREEN))
    for passed, calls in ((0, 1), (2, 1), (4, 2)):
        with transaction() as session:
            session.execute(update(CheckedFile).values(checked_at=now(session) - timedelta(days=passed)))
        assert world.post("/v1/videos", {**FILM, "first_frame": green}).status_code == 200
        assert len(server.pictures()) == calls
    with transaction() as session:
        assert forget_answers(session, limit=10) == 0
        session.execute(update(CheckedFile).values(checked_at=now(session) - timedelta(days=4)))
        assert forget_answers(session, limit=10) == 1


def test_the_hostile_media_of_the_suite_are_refused_before_any_checker_sees_them(
    world: World, policy: PolicyWriter
) -> None:
    server = policy()
    before = counts()
    for content in (png_header(30_000, 30_000), b"\x89PNG\r\n\x1a\n", b"#EXTM3U\nfile:///etc/passwd\n", b"GIF89a"):
        answer = world.post("/v1/videos", {**FILM, "first_frame": data_url(content)})
        assert (answer.status_code, answer.json()["code"]) == (422, "asset_refused"), answer.text
    assert counts() == before
    assert server.pictures() == []


def test_stored_pictures_are_reduced_without_a_copy_at_full_size(tmp_path: Path) -> None:
    """Else an order with ten large pictures takes longer than any policy allows."""
    folder, large, damaged = tmp_path / "frames", tmp_path / "large", tmp_path / "damaged"
    folder.mkdir()
    Image.new("RGB", (1600, 1200), GREEN).save(large, format="PNG")
    # A chunk that has no name, for which Pillow raises SyntaxError.
    damaged.write_bytes(large.read_bytes()[:33] + b"\x00" * 40)
    frames = sample_frames([large, damaged], folder, count=8, side_max=512, seconds=30)
    assert [len(each) for each in frames] == [1, 0]
    assert list(folder.iterdir()) == frames[0]
    with Image.open(frames[0][0]) as frame:
        assert frame.size == (512, 384)


def test_files_that_fail_leave_the_answers_to_others_known(world: World, policy: PolicyWriter, tmp_path: Path) -> None:
    server = policy()

    def away(_: Path) -> None:
        raise OSError("the store is away")

    files = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        picture(path, GREEN, number)
        files.append(PictureFile(str(number) * 64, partial(shutil.copy, path)))
    tries = [files[0], replace(files[1], fetch=away), *files[2:]]
    check = check_pictures(tries, input_checkers(), CheckStage.INPUT, owner=world.alice_id)
    assert check.against is not None
    assert (check.against[0], check.against[1].category) == (files[1].sha256, "unchecked")
    with transaction() as session:
        known = set(session.scalars(select(CheckedFile.sha256)))
    assert known == {file.sha256 for file in files} - {files[1].sha256}
    # The next try asks about what is missing alone.
    assert check_pictures(files, input_checkers(), CheckStage.INPUT, owner=world.alice_id).against is None
    assert len(server.pictures()) == 4


@pytest.mark.parametrize("on_failure", ["open", "closed", "review"])
def test_what_is_refused_stays_refused_where_other_frames_and_files_fail(
    world: World, policy: PolicyWriter, tmp_path: Path, on_failure: str
) -> None:
    green, red = (
        upload(world, picture(tmp_path / f"{name}.png", colour)) for name, colour in (("green", GREEN), ("red", RED))
    )
    server = policy(on_failure=on_failure)
    server.fails_but_at_red = True
    refused(world.post("/v1/videos", {**FILM, "first_frame": green, "last_frame": red}), field="last_frame")
    # Two frames of one file.
    paths = [tmp_path / "0.jpg", tmp_path / "1.jpg"]
    for path, colour in zip(paths, (GREEN, RED), strict=True):
        Image.new("RGB", (64, 64), colour).save(path, format="JPEG")
    clip, rest = input_checkers()[0].check([paths, paths[:1]], tmp_path, seconds=10)
    assert isinstance(clip, PictureAnswer)
    assert clip.finding is not None
    assert clip.finding.outcome is Outcome.REFUSE
    assert isinstance(rest, CheckFailed)
