"""What is in the images: their sizes, their largest parts, and nothing that they do not need."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.images.engine import Engine

pytestmark = [pytest.mark.images, pytest.mark.timeout(300)]
CONTENTS = Path(__file__).with_name("contents.py").read_text(encoding="utf-8")
EXTRAS = {"cinemeter-api": ["tracing"], "cinemeter-worker": ["worker", "hopper", "tracing"]}
RENDERS = {"torch", "diffusers", "transformers", "accelerate", "tokenizers", "safetensors", "imageio-ffmpeg"}
LARGEST = 8


def packages(engine: Engine, image: str) -> dict[str, Any]:
    """Return the sizes of an image's packages, and which of them nobody needs."""
    command = ["docker", "run", "--rm", "--interactive", "--network", "none", "--entrypoint", "python", image, "-"]
    done = subprocess.run(
        [*command, *EXTRAS[image]],
        env=engine.environment,
        input=CONTENTS,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@pytest.mark.parametrize("image", EXTRAS)
def test_an_image_has_what_it_needs_and_nothing_else(image: str, engine: Engine, report: list[str]) -> None:
    facts = packages(engine, image)
    sizes: dict[str, int] = facts["sizes"]
    largest = sorted(sizes, key=lambda name: -sizes[name])[:LARGEST]
    parts = ", ".join(f"{name} {sizes[name] / 1e6:.0f}" for name in largest)
    total = int(engine.docker("inspect", "--format", "{{.Size}}", image)) / 1e6
    report.append(f"{image}: {total:.0f} MB, of which packages {sum(sizes.values()) / 1e6:.0f}; largest (MB): {parts}")
    assert not facts["unneeded"]
    if image == "cinemeter-api":
        assert not RENDERS & set(sizes)
        assert engine.docker("run", "--rm", "--entrypoint", "sh", image, "-c", "command -v ffmpeg || true") == ""
    else:
        assert set(sizes) >= RENDERS


@pytest.mark.parametrize("image", EXTRAS)
def test_an_image_is_one_command_of_a_user_without_rights(image: str, engine: Engine) -> None:
    config = engine.inspect(image)["Config"]
    assert config["User"] == "10001"
    assert config["Entrypoint"] == ["cinemeter"]
    assert config["Cmd"] == [image.removeprefix("cinemeter-")]
    options = ["--network", "none", "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp"]
    assert engine.docker("run", "--rm", *options, image, "--version").startswith("cinemeter ")
