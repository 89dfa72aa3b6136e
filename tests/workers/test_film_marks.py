"""Ordered films: both marks on each, by every interface, on clips too; and what happens to a film without them."""

import io
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from PIL import Image
from sqlalchemy import select

from app.accounts.accounts import set_visible_label
from app.db import transaction
from app.jobs.queue_tables import Take, Unit
from app.provenance.aigc import read_label
from app.provenance.label_policy import VisibleLabel
from app.provenance.manifest import FilmOrigin, read_manifest
from app.provenance.mark_state import MarkError
from app.provenance.mp4_tags import read_tags
from app.provenance.registry_tables import RegistryFilm
from app.provenance.signing import SigningIdentity, signing_identity
from app.provenance.watermark import watermark_key
from app.provenance.watermark_reader import read_marks, reduce
from app.reports.audit import audit_books
from app.settings import get_settings
from app.storage import get_storage
from tests.api_client import World
from tests.app.provenance.marked_films import marked_film, silence_verifier, verdict
from tests.app.provenance.signing_keys import write_key
from tests.bench.marks import ATTACKS, attack
from tests.bench.marks import frames_of as planes_of

Picture = npt.NDArray[np.uint8]

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
TASKS = "/api/v1/services/aigc/video-generation/video-synthesis"


@pytest.fixture(autouse=True)
def _home_of_the_verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silence_verifier(monkeypatch, tmp_path)


def native(world: World) -> str:
    return str(world.post("/v1/videos", ORDER).json()["id"])


def openai(world: World) -> str:
    form = {"model": "synthetic", "prompt": "bars", "seconds": "1", "size": "832x480"}
    files = {name: (None, value) for name, value in form.items()}
    return str(world.post("/v1/videos", files=files).json()["id"])


def dashscope(world: World) -> str:
    body = {
        "model": "synthetic",
        "input": {"prompt": "bars"},
        "parameters": {"duration": 1, "resolution": "480P"},
    }
    answer = world.post(TASKS, body, headers={"X-DashScope-Async": "enable"})
    return str(answer.json()["output"]["task_id"])


def mcp(world: World) -> str:
    quote = call_tool(world, "quote", {"order": ORDER})
    film = call_tool(world, "generate", {"quote_id": quote["id"], "confirm_total": quote["total"]})
    return str(film["id"])


def call_tool(world: World, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    answer = world.post("/mcp", call, headers={"Accept": "application/json, text/event-stream"}).json()
    content: dict[str, Any] = answer["result"]["structuredContent"]
    return content


def film_of(world: World, film_id: str, folder: Path) -> Path:
    answer = world.get(f"/v1/videos/{film_id}/content")
    assert answer.status_code == 200, answer.text
    (folder / f"{film_id}.mp4").write_bytes(answer.content)
    return folder / f"{film_id}.mp4"


def test_films_of_every_interface_carry_both_marks(world: World, tmp_path: Path) -> None:
    orders: tuple[Callable[[World], str], ...] = (native, openai, dashscope, mcp)
    film_ids = [order(world) for order in orders]
    world.work()
    for film_id in film_ids:
        film = film_of(world, film_id, tmp_path)
        report = verdict(film, chain=signing_identity().chain)
        assert (report["integrity"], report["trust"]["status"]) == ("valid", "valid_for_supplied_material")
        assert report["validation_results"]["failure"] == []
        label = read_label(read_tags(film))
        assert (label.state, label.content_id) == ("found", film_id)
        assert world.get(f"/v1/videos/{film_id}").json()["meter"]["seconds"]["marks"] > 0
    with transaction() as session:
        clip_key = session.scalar(select(Unit.clip_key).where(Unit.job_id == film_ids[0], Unit.kind == "segment"))
    get_storage().get_file(str(clip_key), tmp_path / "clip.mp4")
    assert read_manifest(tmp_path / "clip.mp4", "video/mp4").film_id == film_ids[0], (
        "clips play before the film is made"
    )


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_films_of_every_interface_are_known_by_their_watermark_after_each_attack(world: World, tmp_path: Path) -> None:
    film_ids = [make(world) for make in (native, openai, dashscope, mcp)]
    world.work()
    with transaction() as session:
        numbers = {film_id: session.get_one(RegistryFilm, film_id).mark_id for film_id in film_ids}
    assert len(set(numbers.values())) == len(film_ids)
    missed = []
    for film_id, number in numbers.items():
        film, attacked = film_of(world, film_id, tmp_path), tmp_path / "attacked.mp4"
        for name, (filters, crf, _) in ATTACKS.items():
            attack(film, attacked, filters, crf)
            readings = read_marks((reduce(frame) for frame in planes_of(attacked)), watermark_key())
            if [reading.mark_id for reading in readings] != [number]:
                missed.append((film_id, name))
        # Who strips its metadata still meets the registry.
        report = world.app.post("/v1/verify", files={"file": ("a.mp4", attacked.read_bytes(), "video/mp4")}).json()
        assert (report["marks"]["c2pa"], report["marks"]["aigc"]) == ("absent", "absent")
        assert film_id in report["ids"], report
    assert missed == []


def test_the_visible_label_is_in_the_film_and_in_its_pictures(world: World, tmp_path: Path) -> None:
    order = ORDER | {"seconds": 4, "seed": 1}
    plain = str(world.post("/v1/videos", order).json()["id"])
    with transaction() as session:
        set_visible_label(session, world.alice_id, VisibleLabel.OPENING_TEXT)
    labelled = str(world.post("/v1/videos", order).json()["id"])
    world.work()
    # One seed makes the same pictures, but for the marks: the watermark is far weaker than the panel.
    frames = [frames_of(film_of(world, film_id, tmp_path)) for film_id in (plain, labelled)]
    fps = len(frames[1]) // 4
    changes = [change(*pair, 16, 30, 20, 60) for pair in zip(*frames, strict=True)]
    assert [each > 20 for each in changes] == [True] * 3 * fps + [False] * fps
    for variant, corner in (("thumbnail", (16, 30, 20, 60)), ("spritesheet", (6, 20, 8, 40))):
        path = f"content?variant={variant}"
        pictures = [picture_of(world, f"/v1/videos/{film_id}/{path}") for film_id in (plain, labelled)]
        assert change(*pictures, *corner) > 20, variant


def frames_of(path: Path) -> list[Picture]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def picture_of(world: World, path: str) -> Picture:
    return np.asarray(Image.open(io.BytesIO(world.get(path).content)).convert("RGB"))


def change(one: Picture, other: Picture, top: int, bottom: int, left: int, right: int) -> float:
    """Return by how many levels two pictures differ at a place, on average."""
    place = (slice(top, bottom), slice(left, right))
    return float(np.abs(one[place].astype(int) - other[place]).mean())


def test_a_film_whose_marks_cannot_be_read_back_fails_and_costs_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsigned(film: Path, out: Path, origin: FilmOrigin) -> None:
        shutil.copy(film, out)

    monkeypatch.setattr("workers.finish_take.sign", unsigned)
    monkeypatch.setenv("CINEMETER_TAKES_ERROR_MAX", "1")
    get_settings.cache_clear()
    film_id = native(world)
    world.work()
    video = world.get(f"/v1/videos/{film_id}").json()
    assert (video["status"], video["error"]["code"], video["charged"]) == ("failed", "finish_failed", "0.00")
    assert "C2PA manifest cannot be read back: it is absent" in video["error"]["message"]
    assert world.get(f"/v1/videos/{film_id}/content").status_code != 200
    assert Decimal(world.get("/v1/wallet").json()["held"]) == 0
    with transaction() as session:
        assert audit_books(session) == []


def test_orders_wait_while_the_certificate_is_of_no_use(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = write_key(tmp_path / "key.pem", [ExtendedKeyUsageOID.SERVER_AUTH])
    monkeypatch.setenv("CINEMETER_SIGNING_KEY", str(key))
    get_settings.cache_clear()
    film_id = native(world)
    world.work()
    assert world.get(f"/v1/videos/{film_id}").json()["status"] == "queued"
    write_key(key, [ExtendedKeyUsageOID.EMAIL_PROTECTION])
    world.work()
    assert world.get(f"/v1/videos/{film_id}").json()["status"] == "completed"


def test_a_take_whose_certificate_expires_meanwhile_is_handed_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities = [signing_identity()]

    def expiring() -> SigningIdentity:
        if not identities:
            raise MarkError("The certificate expired.")
        return identities.pop()

    film_id = native(world)
    with monkeypatch.context() as patched:
        patched.setattr("workers.film_marks.signing_identity", expiring)
        world.work()
    assert world.get(f"/v1/videos/{film_id}").json()["error"] is None
    with transaction() as session:
        assert session.scalars(select(Take.state).where(Take.job_id == film_id)).all() == ["released"]


def test_marks_of_an_upload_are_kept_in_the_manifest_of_the_film_made_with_it(world: World, tmp_path: Path) -> None:
    upload = marked_film(tmp_path, "film_of_another_service")
    asset = world.post("/v1/assets", files={"file": ("clip.mp4", upload.read_bytes(), "video/mp4")}).json()
    assert asset["state"] == "ready", asset
    edited = world.post("/v1/videos/edits", {"prompt": "as snow", "video": asset["id"], "model": "synthetic"})
    assert edited.status_code == 200, edited.text
    world.work()
    film = film_of(world, str(edited.json()["id"]), tmp_path)
    facts = read_manifest(film, "video/mp4")
    assert facts.ingredients == (asset["id"],)
    report = verdict(film)
    assert report["integrity"] == "valid"
    text = film.read_bytes()
    assert b"marks_of_inputs" in text
    assert b"film_of_another_service" in text
