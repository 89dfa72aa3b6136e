"""Aliases and retiring models at every interface."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api_client import World
from tests.model_folder import ModelFolder

ORDER: dict[str, Any] = {"prompt": "bars", "seconds": 1, "resolution": "480P"}
TASK = "/api/v1/services/aigc/video-generation/video-synthesis"
GATEWAY: dict[str, Any] = {"prompt": "bars", "n": 1, "resolution": "832x480", "duration": 1, "providerOptions": {}}
DEPRECATED, RETIRES = "2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z"


def order(world: World, interface: str, model: str) -> Any:
    """The answer of an interface to an order of this model."""
    if interface == "dashscope":
        body = {"model": model, "input": {"prompt": "bars"}, "parameters": {"duration": 1, "resolution": "480P"}}
        return world.post(TASK, body, headers={"X-DashScope-Async": "enable"})
    if interface == "gateway":
        return world.post("/v4/ai/video-model/start", GATEWAY, headers={"ai-model-id": f"cinemeter/{model}"})
    if interface == "replicate":
        body = {"input": {"prompt": "bars", "duration": 1, "resolution": "480p"}}
        return world.post(f"/replicate/v1/models/cinemeter/{model}/predictions", body)
    return world.post("/v1/videos", {**ORDER, "model": model})


INTERFACES = ("native", "dashscope", "gateway", "replicate")


@pytest.mark.parametrize("interface", INTERFACES)
def test_an_alias_is_ordered_and_the_end_of_its_model_announced(
    world: World, models: ModelFolder, interface: str
) -> None:
    models.alias(best="first")
    assert "deprecation" not in order(world, interface, "first").headers
    models.write("first", f"deprecated_at = {DEPRECATED}", f"retires_at = {RETIRES}", 'replaced_by = "second"')
    answer = order(world, interface, "best")
    assert answer.status_code in (200, 201), answer.text
    assert answer.headers["deprecation"] == "@1767225600"
    assert answer.headers["sunset"] == "Tue, 01 Jan 2036 00:00:00 GMT"
    assert answer.headers["link"].endswith('/v1/models/second>; rel="successor-version"')
    video = world.get("/v1/videos").json()["data"][0]
    assert (video["model"], video["model_alias"]) == ("first", "best")
    assert world.get(f"/v1/videos/{video['id']}").json()["model_alias"] == "best"


@pytest.mark.parametrize(
    ("interface", "status", "code"),
    [
        ("native", 422, "model_retired"),
        ("dashscope", 404, "ModelNotFound"),
        ("gateway", 404, "model_not_found"),
        ("replicate", 404, "model_retired"),
    ],
)
def test_a_retired_model_is_refused_in_the_words_of_its_interface(
    world: World, models: ModelFolder, interface: str, status: int, code: str
) -> None:
    models.write("first", "retires_at = 2026-01-01T00:00:00Z", 'replaced_by = "second"')
    before = world.get("/v1/wallet").json()
    answer = order(world, interface, "first")
    assert answer.status_code == status, answer.text
    assert code in answer.text
    assert "retired on 2026-01-01; order second instead" in answer.text
    assert answer.headers["sunset"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    assert answer.headers["link"].endswith('/v1/models/second>; rel="successor-version"')
    assert world.get("/v1/wallet").json() == before


def test_models_show_their_aliases_and_their_end(world: World, models: ModelFolder) -> None:
    models.alias(best="first", old="second")
    models.write("first", f"deprecated_at = {DEPRECATED}", f"retires_at = {RETIRES}", 'replaced_by = "second"')
    listed = {each["id"]: each for each in world.get("/v1/models").json()["data"]}
    facts = {name: listed["first"][name] for name in ("aliases", "deprecated_at", "retires_at", "replaced_by")}
    assert facts == {
        "aliases": ["best"],
        "deprecated_at": 1_767_225_600,
        "retires_at": int(datetime(2036, 1, 1, tzinfo=UTC).timestamp()),
        "replaced_by": "second",
    }
    assert listed["demo"]["aliases"] == []
    assert listed["demo"]["retires_at"] is None
    answer = world.get("/v1/models/best")
    assert answer.json() == listed["first"]
    assert answer.headers["deprecation"] == "@1767225600"
    models.write("first", "retires_at = 2026-01-01T00:00:00Z", 'replaced_by = "second"')
    assert "first" not in {each["id"] for each in world.get("/v1/models").json()["data"]}
    retired = world.get("/v1/models/first")
    assert (retired.status_code, retired.json()["replaced_by"]) == (200, "second"), "it says what to order instead"
    assert "sunset" in retired.headers
    assert world.get("/replicate/v1/models/cinemeter/old").json()["name"] == "second"


def test_filters_accept_an_alias(world: World, models: ModelFolder) -> None:
    models.alias(best="first")
    ids = [order(world, "native", name).json()["id"] for name in ("best", "second")]
    listed = world.get("/v1/videos", params={"model": "best"}).json()["data"]
    assert [each["id"] for each in listed] == ids[:1]
    tasks = world.get("/api/v1/tasks", params={"model_name": "best"}).json()
    assert (tasks["total"], tasks["data"][0]["task_id"]) == (1, ids[0])


def test_an_estimate_and_a_quote_announce_the_end_of_their_model(world: World, models: ModelFolder) -> None:
    models.alias(best="first")
    models.write("first", f"retires_at = {RETIRES}")
    for path in ("estimates", "quotes"):
        answer = world.post(f"/v1/videos/{path}", {**ORDER, "model": "best"})
        assert answer.json()["resolved"]["model_alias"] == "best"
        assert "sunset" in answer.headers
        assert "deprecation" not in answer.headers


def test_other_dialects_find_the_frame_rate_of_an_alias(world: World, models: ModelFolder) -> None:
    models.alias(best="first")
    body = {"prompt": "bars", "model": "best", "num_frames": 16, "fps": 16, "resolution": "480P"}
    video = world.post("/v1/videos", body).json()
    assert (video["seconds"], video["model"], video["warnings"]) == ("1", "first", [])


def test_a_film_that_is_made_from_another_announces_its_model(world: World, models: ModelFolder) -> None:
    models.write("first", f"retires_at = {RETIRES}")
    video_id = order(world, "native", "first").json()["id"]
    world.work()
    body = {"prompt": "other bars", "video": {"id": video_id}, "seconds": 1}
    for answer in (
        world.post(f"/v1/videos/{video_id}/remix", {"prompt": "other bars"}),
        world.post("/v1/videos/extensions", body),
    ):
        assert answer.status_code == 200, answer.text
        assert "sunset" in answer.headers
