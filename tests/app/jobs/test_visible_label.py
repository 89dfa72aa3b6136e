"""The visible label is part of an order: of its Spec, its quote, and what may be reused with it."""

import pytest
from sqlalchemy import select

from app.accounts.accounts import set_visible_label
from app.db import transaction
from app.jobs.spec import Spec
from app.jobs.tables import Job
from app.jobs.visible_label import labelled
from app.provenance.label_policy import VisibleLabel
from app.settings import get_settings
from tests.api_client import World

pytestmark = pytest.mark.xdist_group("service")

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


def set_label(world: World, label: VisibleLabel | None) -> None:
    with transaction() as session:
        set_visible_label(session, world.alice_id, label)


def spec_of(film_id: str) -> Spec:
    with transaction() as session:
        return Spec.model_validate(session.get_one(Job, film_id).spec)


def order(world: World, **fields: object) -> str:
    answer = world.post("/v1/videos", ORDER | fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def test_the_label_of_the_account_or_the_service_is_fixed_with_the_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = order(world)
    set_label(world, VisibleLabel.OPENING_TEXT)
    china = order(world)
    set_label(world, None)
    monkeypatch.setenv("CINEMETER_VISIBLE_LABEL", "eu_icon")
    get_settings.cache_clear()
    europe = order(world)
    set_label(world, VisibleLabel.NONE)
    opted_out = order(world)
    labels = [spec_of(film_id).visible_label for film_id in (plain, china, europe, opted_out)]
    assert labels == ["none", "gb45438", "eu_icon", "none"]
    resolved = [world.get(f"/v1/videos/{film_id}").json()["resolved"] for film_id in (plain, china)]
    assert "visible_label" not in resolved[0]
    assert resolved[1]["visible_label"] == "gb45438"


def test_specs_without_a_label_are_stored_as_they_were(world: World) -> None:
    with transaction() as session:
        stored = session.get_one(Job, order(world)).spec
    assert not {"visible_label", "deepfake"} & stored.keys()
    plain = Spec.model_validate(stored)
    marked = plain.model_copy(update={"visible_label": VisibleLabel.CORNER_SIGN})
    assert plain.fingerprint() != marked.fingerprint()
    assert Spec.model_validate_json(marked.canonical()) == marked


def test_a_deepfake_always_shows_a_label(world: World) -> None:
    assert spec_of(order(world, deepfake=True)).visible_label == "corner_sign"
    set_label(world, VisibleLabel.EU_ICON)
    declared = spec_of(order(world, deepfake=True))
    assert (declared.deepfake, declared.visible_label) == (True, "eu_icon")


def test_a_quote_fixes_the_label_too(world: World) -> None:
    quote = world.post("/v1/videos/quotes", ORDER).json()
    set_label(world, VisibleLabel.EU_ICON)
    assert spec_of(order(world, quote_id=quote["id"])).visible_label == "none"
    quote = world.post("/v1/videos/quotes", ORDER).json()
    assert quote["resolved"]["visible_label"] == "eu_icon"
    refused = world.post("/v1/videos", ORDER | {"quote_id": quote["id"], "deepfake": True})
    assert (refused.status_code, refused.json()["code"]) == (422, "quote_mismatch")
    assert "deepfake" in refused.json()["differs"]


def test_clips_with_another_label_are_not_reused(world: World) -> None:
    shots = [{"prompt": "bars", "seconds": 1}, {"prompt": "more bars", "seconds": 1}]
    film = world.post("/v1/videos", {"model": "synthetic", "shots": shots, "resolution": "480P"}).json()["id"]
    world.work()
    set_label(world, VisibleLabel.CORNER_SIGN)
    refused = world.post(f"/v1/videos/{film}/retakes", {"shot": 1, "prompt": "other bars"})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "AI sign in a corner" in refused.json()["detail"]
    assert refused.json()["allowed"] == "corner_sign"
    set_label(world, VisibleLabel.NONE)
    retake = world.post(f"/v1/videos/{film}/retakes", {"shot": 1, "prompt": "other bars"})
    assert retake.status_code == 200, retake.text


def test_films_made_from_a_deepfake_are_deepfakes(world: World) -> None:
    film = order(world, deepfake=True)
    world.work()
    set_label(world, VisibleLabel.EU_ICON)
    remix = world.post(f"/v1/videos/{film}/remix", {"prompt": "bars at night"})
    edit = world.post("/v1/videos/edits", {"prompt": "as snow", "video": film, "deepfake": False})
    for answer in (remix, edit):
        assert answer.status_code == 200, answer.text
        made = spec_of(answer.json()["id"])
        assert (made.deepfake, made.visible_label) == (True, "eu_icon")


def test_a_film_that_is_made_anew_has_the_label_of_now(world: World) -> None:
    spec = spec_of(order(world, deepfake=True))
    set_label(world, VisibleLabel.OPENING_TEXT)
    with transaction() as session:
        account = set_visible_label(session, world.alice_id, VisibleLabel.OPENING_TEXT)
        assert labelled(spec, account).visible_label == "gb45438"


def test_a_deepfake_is_declared_at_every_interface(world: World) -> None:
    made = {
        "dashscope": world.post(
            "/api/v1/services/aigc/video-generation/video-synthesis",
            {
                "model": "synthetic",
                "input": {"prompt": "bars"},
                "parameters": {"duration": 1, "resolution": "480P", "deepfake": True},
            },
            headers={"X-DashScope-Async": "enable"},
        ).json()["output"]["task_id"],
        "replicate": world.post(
            "/replicate/v1/predictions",
            {
                "version": "synthetic",
                "input": {"prompt": "bars", "duration": 1, "resolution": "480p", "deepfake": True},
            },
        ).json()["id"],
    }
    gateway = {"prompt": "bars", "n": 1, "duration": 1, "resolution": "832x480"}
    gateway["providerOptions"] = {"cinemeter": {"deepfake": True}}
    answer = world.post("/v4/ai/video-model/start", gateway, headers={"ai-model-id": "cinemeter/synthetic"})
    assert answer.status_code == 200, answer.text
    with transaction() as session:
        newest = session.scalars(select(Job.id).order_by(Job.created_at.desc())).first()
    made["gateway"] = str(newest)
    assert {name: spec_of(film_id).visible_label for name, film_id in made.items()} == dict.fromkeys(
        made, "corner_sign"
    )
