"""The calls of clients of SGLang and vLLM-Omni, as their benchmarks and gateways send them."""

import asyncio
import io
import json
from typing import Any

import aiohttp
import httpx
import pytest
from PIL import Image

from tests.live_service import Service, follow

pytestmark = pytest.mark.xdist_group("service")


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (640, 360), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def test_a_benchmark_of_sglang_measures_films(service: Service) -> None:
    asyncio.run(_benchmark(service))


async def _benchmark(service: Service) -> None:
    # Its session sends no key; a proxy in front adds it, as deploy/clients.md says.
    headers = {"Authorization": f"Bearer {service.keys['pro']}"}
    with service.client("pro") as native:
        await _measure(service, headers, native)


async def _measure(service: Service, headers: dict[str, str], native: httpx.Client) -> None:
    async with aiohttp.ClientSession(service.base_url, headers=headers) as session:
        async with session.get("/health") as health, session.get("/v1/model_info") as info:
            assert (health.status, info.status) == (200, 200)
            assert (await info.json())["model_path"]
        payload: dict[str, Any] = {
            "model": "synthetic",
            "prompt": "bars",
            "size": "832x480",
            "num_frames": 17,
            "fps": 16,
            "num_inference_steps": 2,
        }
        async with session.post("/v1/videos", json={**payload, "num_outputs_per_prompt": 1}) as created:
            assert created.status == 200, await created.text()
            video = await asyncio.to_thread(follow, native, (await created.json())["id"])
        assert (video["status"], video["duration_s"], video["num_frames"]) == ("completed", 1.0, 16)
        assert video["peak_memory_mb"] > 0
        form = aiohttp.FormData()
        for name, value in (("model", "synthetic"), ("prompt", "from a picture"), ("size", "832x480")):
            form.add_field(name, value)
        form.add_field("extra_body", json.dumps({"num_inference_steps": 2, "seed": 7}))
        form.add_field("num_frames", "17")
        form.add_field("fps", "16")
        form.add_field("input_reference", picture(), filename="a.png", content_type="application/octet-stream")
        async with session.post("/v1/videos", data=form) as created:
            assert created.status == 200, await created.text()
            video = await created.json()
        assert (video["resolved"]["mode"], video["seed"]) == ("i2v", 7)
        assert {each["field"] for each in video["warnings"]} == {"num_inference_steps"}, "16 is the model's own rate"


def test_a_form_of_vllm_omni_is_answered_with_the_film(service: Service) -> None:
    form = {
        "model": "synthetic",
        "prompt": "bars",
        "width": "832",
        "height": "480",
        "seconds": "1",
        "generate_sound": "false",
        "guidance_scale": "5.0",
        "extra_params": json.dumps({"flow_shift": 3.0}),
    }
    headers = {"Authorization": f"Bearer {service.keys['pro']}"}
    address = f"{service.base_url}/v1/videos/sync"
    film = httpx.post(
        address, files={name: (None, value) for name, value in form.items()}, headers=headers, timeout=120
    )
    assert (film.status_code, film.headers["content-type"]) == (200, "video/mp4"), film.text[:500]
    assert film.content[4:8] == b"ftyp"
    refused = httpx.post(address, data={**form, "lora": '{"name": "style"}'}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "lora")
