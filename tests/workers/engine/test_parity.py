"""The same seed, inputs and settings give the same frames as the diffusers pipeline (float32, CPU).

Bit for bit with the two switches off that sum in another order (oneDNN convolutions, one timestep for all tokens);
with them on, which is the default, at most one level of 255 apart, in less than one pixel in a thousand.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, WanImageToVideoPipeline, WanPipeline, WanVideoToVideoPipeline
from PIL import Image

from tests.workers.engine.conftest import TinyWan
from tests.workers.engine.segment_requests import FRAMES, HEIGHT, SEED, STEPS, WIDTH, film, pictures, request
from tests.workers.engine.tiny_wan import TEXT_LENGTH, tiny_model
from workers.engine import SegmentRequest, make_engine
from workers.engine.request import Frames

PROMPT, NEGATIVE = "a red circle moves left", "grey  square"


BIT_FOR_BIT = "quick_vae = false\nuniform_timestep = false"


def ours(family: str, folder: Path, segment: SegmentRequest, switches: str = BIT_FOR_BIT) -> Frames:
    engine = make_engine(tiny_model(family, folder, switches=switches), "cpu")
    try:
        return film(engine, segment)
    finally:
        engine.close()


def theirs(pipeline_class: type[DiffusionPipeline], folder: Path, **changes: Any) -> Frames:
    pipeline = pipeline_class.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "height": HEIGHT,
        "width": WIDTH,
        "num_frames": FRAMES,
        "num_inference_steps": STEPS,
        "guidance_scale": 3.0,
        "generator": torch.Generator("cpu").manual_seed(SEED),
        "max_sequence_length": TEXT_LENGTH,
        "output_type": "pil",
    }
    arguments.update(changes)
    return np.stack([np.asarray(frame) for frame in pipeline(**arguments).frames[0]])


@pytest.mark.parametrize("unipc", [True, False], ids=["unipc", "euler"])
@pytest.mark.parametrize("family", ["t2v", "ti2v", "t2v-a14b"])
def test_text_to_video(tiny_wan: TinyWan, family: str, unipc: bool) -> None:
    folder = tiny_wan(family, unipc=unipc)
    second = {"guidance_scale_2": 2.0} if family == "t2v-a14b" else {}
    np.testing.assert_array_equal(ours(family, folder, request()), theirs(WanPipeline, folder, **second))


@pytest.mark.parametrize("switches", ["", "cfg_batch = true"], ids=["default", "cfg_batch"])
@pytest.mark.parametrize("family", ["t2v", "ti2v", "t2v-a14b"])
def test_faster_arithmetic_changes_at_most_the_rounding(tiny_wan: TinyWan, family: str, switches: str) -> None:
    folder = tiny_wan(family)
    second = {"guidance_scale_2": 2.0} if family == "t2v-a14b" else {}
    fast = ours(family, folder, request(), switches).astype(int)
    difference = np.abs(fast - theirs(WanPipeline, folder, **second).astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_without_guidance(tiny_wan: TinyWan) -> None:
    folder = tiny_wan("t2v")
    np.testing.assert_array_equal(
        ours("t2v", folder, request(guidance=1.0)), theirs(WanPipeline, folder, guidance_scale=1.0)
    )


@pytest.mark.parametrize("family", ["i2v", "ti2v", "i2v-a14b"])
def test_first_frame_to_video(tiny_wan: TinyWan, family: str) -> None:
    folder, first = tiny_wan(family), pictures(1)[0]
    np.testing.assert_array_equal(
        ours(family, folder, request(mode="i2v", first_frame=first)),
        theirs(WanImageToVideoPipeline, folder, image=Image.fromarray(first)),
    )


@pytest.mark.parametrize("family", ["flf2v", "i2v-a14b"])
def test_first_and_last_frame_to_video(tiny_wan: TinyWan, family: str) -> None:
    folder, (first, last) = tiny_wan(family), pictures(2)
    np.testing.assert_array_equal(
        ours(family, folder, request(mode="i2v", first_frame=first, last_frame=last)),
        theirs(WanImageToVideoPipeline, folder, image=Image.fromarray(first), last_image=Image.fromarray(last)),
    )


@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("unipc", [True, False], ids=["unipc", "euler"])
def test_video_to_video(tiny_wan: TinyWan, strength: float, unipc: bool) -> None:
    folder, video = tiny_wan("t2v", unipc=unipc), pictures(FRAMES)
    segment = request(mode="v2v", video=video, strength=strength)
    pipeline = WanVideoToVideoPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    result = pipeline(
        video=[Image.fromarray(frame) for frame in video],
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        height=HEIGHT,
        width=WIDTH,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        strength=strength,
        generator=torch.Generator("cpu").manual_seed(SEED),
        max_sequence_length=TEXT_LENGTH,
        output_type="pil",
    )
    np.testing.assert_array_equal(
        ours("t2v", folder, segment), np.stack([np.asarray(frame) for frame in result.frames[0]])
    )
