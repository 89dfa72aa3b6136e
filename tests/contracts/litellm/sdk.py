"""What LiteLLM's SDK sees of a service: JSON on the input says where it is, and JSON on the output what came of it."""

import json
import sys
import threading
from typing import Any

import litellm

PROVIDERS = ("openai", "hosted_vllm")
_tick = threading.Event()


def make_film(provider: str, base: dict[str, Any]) -> dict[str, Any]:
    """Create, poll and download a film, and look up another with the fields that LiteLLM's callers send."""
    video = litellm.video_generation(
        prompt="bars", model=f"{provider}/synthetic", seconds="1", size="832x480", user="user-1", **base
    )
    status = litellm.video_status(video_id=video.id, **base)
    while status.status in ("queued", "in_progress"):
        _tick.wait(0.2)
        status = litellm.video_status(video_id=video.id, **base)
    content = litellm.video_content(video_id=video.id, **base)
    other = litellm.video_generation(
        prompt="bars",
        model=f"{provider}/synthetic",
        duration=1,
        aspect_ratio="9:16",
        generate_audio=False,
        seed=7,
        user="user-2",
        extra_body={"resolution": "480P"},
        **base,
    )
    return {
        "status": status.status,
        "film": content[4:8].decode("ascii", "replace"),
        "other": litellm.video_status(video_id=other.id, **base).model_dump(),
    }


def refusals(provider: str, base: dict[str, Any], poor: dict[str, Any]) -> dict[str, Any]:
    """Return the class, the status and the sentence of each refusal."""
    small = {"seconds": "1", "size": "832x480"}
    orders: dict[str, dict[str, Any]] = {
        "model": {**base, "model": f"{provider}/no-such-model", "prompt": "x"},
        "picture": {**base, "prompt": "x", "extra_body": {"first_frame": "https://127.0.0.1:9/frame.png"}},
        "prompt": {**base, "prompt": "a" * 5001},
        "money": {**poor, "prompt": "x"},
        "stranger": {**base, "prompt": "x", "api_key": "cm_live_nobody"},
    }
    refused: dict[str, Any] = {}
    for case, order in orders.items():
        try:
            litellm.video_generation(**{"model": f"{provider}/synthetic", **small, **order})
        except Exception as error:  # noqa: BLE001 — which class it is is what is tested
            kinds = [kind.__name__ for kind in type(error).__mro__]
            refused[case] = {"kinds": kinds, "module": type(error).__module__, "message": str(error)}
    return refused


def main() -> None:
    inputs = json.load(sys.stdin)
    seen: dict[str, Any] = {}
    for provider in PROVIDERS:
        base, careful, poor = (
            {"api_base": inputs["base_url"] + "/v1", "api_key": inputs["keys"][name], "max_retries": 0}
            for name in ("pro", "careful", "poor")
        )
        seen[provider] = {**make_film(provider, base), "refused": refusals(provider, careful, poor)}
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
