"""Fields that real clients send and that the native schema does not have: understood, warned of, or refused."""

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from tests.api_client import World

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
TASK = "/api/v1/services/aigc/video-generation/video-synthesis"
LENIENT, STRICT = {"Prefer": "handling=lenient"}, {"Prefer": "wait=5, handling=strict"}


def picture(size: tuple[int, int] = (320, 200)) -> str:
    file = io.BytesIO()
    Image.new("RGB", size, (10, 120, 200)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


URL = "data:image/png;base64," + picture()


def estimate(world: World, changes: dict[str, Any], drop: tuple[str, ...] = (), **options: Any) -> Any:
    order = {name: value for name, value in {**ORDER, **changes}.items() if name not in drop}
    return world.post("/v1/videos/estimates", order, **options)


@pytest.mark.parametrize(
    ("changes", "drop", "resolved"),
    [
        ({"duration": 2}, ("seconds",), {"frames": 32}),
        ({"duration": "2.0"}, ("seconds",), {"frames": 32}),
        ({"extra_params": {"duration": 2}}, ("seconds",), {"frames": 32}),
        ({"num_frames": 32, "fps": 16}, ("seconds",), {"frames": 32}),
        ({"num_frames": 81, "fps": 16}, ("seconds",), {"frames": 80}),
        ({"num_frames": 33}, ("seconds",), {"frames": 32}),
        ({"aspect_ratio": "1:1"}, (), {"ratio": "1:1"}),
        ({"width": 480, "height": "832"}, ("resolution",), {"size": "480x832"}),
        ({"generate_audio": True, "generate_sound": True}, (), {"mode": "t2v"}),
        ({"n": 1, "num_outputs_per_prompt": 1}, (), {"mode": "t2v"}),
        ({"enable_frame_interpolation": False, "frame_interpolation_exp": 1}, (), {"mode": "t2v"}),
        ({"input_reference": {"type": "image_url", "image_url": {"url": URL}}}, (), {"mode": "i2v"}),
        ({"image_reference": [{"image_url": URL}]}, (), {"mode": "i2v"}),
        (
            {"frame_images": [{"type": "image_url", "image_url": {"url": URL}, "frame_type": "first_frame"}]},
            (),
            {"mode": "i2v"},
        ),
        ({"ratio": "adaptive", "first_frame": "data:;base64," + picture((300, 400))}, (), {"ratio": "3:4"}),
        ({"ratio": "adaptive"}, (), {"ratio": "16:9"}),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_fields_of_other_servers_are_understood(
    world: World, changes: dict[str, Any], drop: tuple[str, ...], resolved: dict[str, Any]
) -> None:
    answer = estimate(world, changes, drop)
    assert answer.status_code == 200, answer.text
    assert {name: answer.json()["resolved"][name] for name in resolved} == resolved


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_frames": 50, "fps": 16}, "num_frames"),
        ({"num_frames": 10, "model": "auto"}, "fps"),
        ({"duration": 3}, "duration"),
        ({"width": 480}, "width"),
        ({"width": 100, "height": 100}, "size"),
        ({"n": 0}, "n"),
        ({"lora": {"name": "style"}}, "lora"),
        ({"enable_frame_interpolation": True}, "enable_frame_interpolation"),
        ({"image_reference": [{"image_url": URL}, {"image_url": URL}]}, "image_reference"),
        ({"input_references": [{"image_url": URL}]}, "input_references"),
        ({"frame_images": [{"image_url": {"url": URL}, "frame_type": "middle"}]}, "frame_images.0.frame_type"),
        ({"video_reference": {"name": "x"}}, "video_reference"),
        ({"extra_params": "{"}, "extra_params"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value,
)
@pytest.mark.parametrize("headers", [{}, LENIENT], ids=["native", "lenient"])
def test_what_would_change_the_film_is_refused_by_name(
    world: World, changes: dict[str, Any], field: str, headers: dict[str, str]
) -> None:
    refused = estimate(world, changes, ("resolution",) if "width" in changes else (), headers=headers)
    assert (refused.status_code, refused.json()["field"]) == (422, field), refused.text


def test_what_the_model_sets_is_a_warning_on_the_video(world: World) -> None:
    knobs = {"num_inference_steps": 4, "guidance_scale": "5.0", "user": "customer-7"}
    video = world.post("/v1/videos", {**ORDER, **knobs}).json()
    warnings = {each["field"]: each["code"] for each in video["warnings"]}
    assert warnings == dict.fromkeys(("num_inference_steps", "guidance_scale"), "set_by_model")
    assert video["metadata"] == {"user": "customer-7"}
    stored = world.get(f"/v1/videos/{video['id']}").json()
    assert stored["warnings"] == video["warnings"]
    refused = world.post("/v1/videos", {**ORDER, **knobs}, headers=STRICT)
    assert (refused.status_code, refused.json()["field"]) == (422, "num_inference_steps")


def test_unknown_fields_are_refused_unless_the_caller_prefers_otherwise(world: World) -> None:
    order = {**ORDER, "colour": "warm", "shots": None, "metadata": {"scene": "1"}}
    for headers in ({}, STRICT):
        refused = world.post("/v1/videos", order, headers=headers)
        assert (refused.status_code, refused.json()["field"]) == (422, "colour")
    for path in ("/v1/videos/estimates", "/v1/videos/quotes", "/v1/videos"):
        answer = world.post(path, order, headers=LENIENT)
        assert answer.headers["preference-applied"] == "handling=lenient"
        [warning] = answer.json()["warnings"]
        assert (warning["code"], warning["field"]) == ("ignored", "colour")
    shots = [{"prompt": "one", "seconds": 1, "mood": "calm"}]
    [warning] = estimate(world, {"shots": shots}, headers=LENIENT).json()["warnings"]
    assert warning["field"] == "shots.0.mood"


def test_a_form_carries_objects_as_json_text(world: World) -> None:
    form = {
        "model": "synthetic",
        "prompt": "bars",
        "width": "832",
        "height": "480",
        "num_frames": "17",
        "fps": "16",
        "generate_sound": "false",
        "extra_params": json.dumps({"seed": 7, "guidance_scale": 5}),
        "metadata": json.dumps({"scene": "12"}),
        "image_reference": json.dumps({"image_url": URL}),
    }
    answer = world.app.post("/v1/videos", data=form, headers={"Authorization": f"Bearer {world.alice}"})
    assert answer.status_code == 200, answer.text
    video = answer.json()
    assert (video["size"], video["seconds"], video["seed"], video["metadata"]) == ("832x480", "1", 7, {"scene": "12"})
    assert video["resolved"]["mode"] == "i2v"


def task(world: World, content: dict[str, Any], parameters: dict[str, Any], **headers: str) -> Any:
    body = {
        "model": "synthetic",
        "input": {"prompt": "bars", **content},
        "parameters": {"resolution": "480P", "duration": 1, **parameters},
    }
    return world.post(TASK, body, headers={"X-DashScope-Async": "enable", **headers})


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"prompt_extend": True}, "ignored"),
        ({"watermark": True}, "ignored"),
        ({"enable_thinking": True}, "ignored"),
        ({"shot_type": "multi"}, "ignored"),
        ({"unheard_of": 1}, "ignored"),
        ({"duration": -1}, "default_used"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_switches_of_dashscope_are_warnings_unless_strict(world: World, parameters: dict[str, Any], code: str) -> None:
    [name] = parameters
    answer = task(world, {}, parameters)
    assert answer.status_code == 200, answer.text
    [warning] = answer.json()["output"]["warnings"]
    assert (warning["code"], warning["field"]) == (code, f"parameters.{name}")
    video = world.get(f"/v1/videos/{answer.json()['output']['task_id']}").json()
    assert video["warnings"] == [warning]
    refused = task(world, {}, parameters, **STRICT)
    assert (refused.status_code, refused.json()["field"]) == (400, f"parameters.{name}")


def test_dashscope_takes_pictures_as_bare_base64_and_their_ratio(world: World) -> None:
    for content in (
        {"img_url": picture((300, 300))},
        {"media": [{"type": "first_frame", "url": picture((300, 300))}]},
    ):
        answer = task(world, content, {"ratio": "adaptive", "n": 1, "audio": True})
        assert answer.status_code == 200, answer.text
        video = world.get(f"/v1/videos/{answer.json()['output']['task_id']}").json()
        assert (video["resolved"]["mode"], video["size"], video["warnings"]) == ("i2v", "624x624", [])


@pytest.mark.parametrize(
    ("content", "parameters", "named"),
    [
        ({"media": [{"type": "reference_image", "url": URL}]}, {}, "input.media.0.type"),
        ({"media": [{"type": "first_clip", "url": URL}]}, {}, "input.media.0.type"),
        ({"template": "flying"}, {}, "input.template"),
        ({}, {"n": 11}, "parameters.n"),
        ({}, {"audio_setting": "origin"}, "parameters.audio_setting"),
        ({}, {"duration": 0}, "parameters.duration"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value,
)
def test_what_dashscope_cannot_have_here_is_refused_by_name(
    world: World, content: dict[str, Any], parameters: dict[str, Any], named: str
) -> None:
    refused = task(world, content, parameters)
    assert (refused.status_code, refused.json()["field"]) == (400, named), refused.text
    assert world.get("/v1/wallet").json()["held"] == "0.00"


@pytest.mark.parametrize(
    "name", ["duration", "resolution", "generate_audio", "prompt", "img_url", "media", "n", "lora"]
)
def test_a_field_of_dashscope_outside_its_table_is_refused_if_it_would_change_the_film(world: World, name: str) -> None:
    body = {"model": "synthetic", "input": {"prompt": "bars"}, "parameters": {"resolution": "480P"}, name: "1"}
    refused = world.post(TASK, body, headers={"X-DashScope-Async": "enable"})
    assert (refused.status_code, refused.json()["field"]) == (400, name), refused.text
