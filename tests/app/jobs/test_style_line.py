"""A storyboard's style line: the prompt beside its shots, with which each of them begins."""

from typing import Any

from app.jobs.spec import Shot, Spec
from tests.api_client import World

STYLE = "Watercolour, soft light"
SHOTS = [{"prompt": "one", "seconds": 1}, {"prompt": "two", "seconds": 1}]
ORDER: dict[str, Any] = {"model": "synthetic", "prompt": STYLE, "shots": SHOTS, "resolution": "480P"}


def prompts(video: dict[str, Any]) -> list[str]:
    return [shot["prompt"] for shot in video["shots"]]


def test_each_shot_begins_with_it_in_estimate_quote_and_film(world: World) -> None:
    estimate = world.post("/v1/videos/estimates", ORDER).json()
    quote = world.post("/v1/videos/quotes", ORDER).json()
    film = world.post("/v1/videos", {**ORDER, "quote_id": quote["id"]}).json()
    assert estimate["resolved"]["style"] == quote["resolved"]["style"] == film["resolved"]["style"] == STYLE
    assert prompts(film) == [f"{STYLE}\none", f"{STYLE}\ntwo"]
    plain = world.post("/v1/videos/estimates", {**ORDER, "prompt": " "}).json()
    assert "style" not in plain["resolved"]
    assert plain["total"] == estimate["total"]


def test_a_retaken_shot_keeps_it_once(world: World) -> None:
    film = world.post("/v1/videos", ORDER).json()
    world.work()
    for prompt in ("one, better", f"{STYLE}\none, better"):
        retake = world.post(f"/v1/videos/{film['id']}/retakes", {"shot": 0, "prompt": prompt}).json()
        assert prompts(retake) == [f"{STYLE}\none, better", f"{STYLE}\ntwo"]
    refused = world.post(f"/v1/videos/{film['id']}/retakes", {"shot": 0, "prompt": "x" * 5_000}).json()
    assert (refused["code"], refused["field"]) == ("invalid_request", "prompt")


def test_a_shot_that_is_too_long_with_it_is_refused_by_name(world: World) -> None:
    refused = world.post("/v1/videos", {**ORDER, "prompt": "x" * 4_998}).json()
    assert (refused["code"], refused["field"]) == ("invalid_request", "shots.0.prompt")
    assert "5002 characters" in refused["detail"]


def test_specs_without_one_keep_their_bytes() -> None:
    spec = Spec(
        model="synthetic",
        mode="t2v",
        resolution="480P",
        ratio="16:9",
        width=832,
        height=480,
        fps=16,
        frames=16,
        crossfade_frames=8,
        shots=(Shot(prompt="one", seconds=1, frames=16),),
        seed=7,
    )
    assert "style" not in spec.canonical()
    assert spec.fingerprint() != spec.model_copy(update={"style": STYLE}).fingerprint()
