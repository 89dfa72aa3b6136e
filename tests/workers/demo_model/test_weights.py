"""The committed weights: real classes that load as a pipeline, follow prompts, keep a frame, and continue a clip."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from transformers import AutoTokenizer, UMT5EncoderModel

from app.catalog.demo_words import Scene, Thing, vocabulary
from workers.demo_model.components import WEIGHTS, load
from workers.demo_model.config import CONTINUATION_FRAMES, MAX_SEQUENCE_LENGTH, WEIGHTS_BYTES_MAX
from workers.demo_model.evaluate import psnr
from workers.demo_model.paint import paint
from workers.demo_model.sample import ConditionFrames, generate
from workers.demo_model.scene_detector import score_prompt

FIRST = Scene("white", (Thing("red", "circle", "left"),))
SECOND = Scene("blue", (Thing("yellow", "square", "grow"),))


@pytest.fixture(scope="module")
def pipeline() -> WanPipeline:
    """The shipped pipeline, loaded once."""
    return load()


def test_the_weights_are_a_small_wan_pipeline_of_real_classes(pipeline: WanPipeline) -> None:
    """Any diffusers program can load the folder, it is below the limit, and it is in half precision."""
    assert isinstance(pipeline.vae, AutoencoderKLWan)
    assert isinstance(pipeline.transformer, WanTransformer3DModel)
    assert isinstance(pipeline.text_encoder, UMT5EncoderModel)
    assert isinstance(pipeline.scheduler, FlowMatchEulerDiscreteScheduler)
    assert pipeline.config.expand_timesteps is True
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= WEIGHTS_BYTES_MAX
    for path in WEIGHTS.rglob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F16"}, path


def test_the_tokenizer_knows_its_words_and_marks_others() -> None:
    """The folder's tokenizer loads by AutoTokenizer and gives every known word a number of its own."""
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "tokenizer")
    numbers = {word: tokenizer(word).input_ids[0] for word in vocabulary()}
    assert len(set(numbers.values())) == len(numbers)
    assert tokenizer("Zebra").input_ids == [tokenizer.unk_token_id, tokenizer.eos_token_id]


def test_the_scene_detector_distinguishes_the_films_of_two_prompts(pipeline: WanPipeline) -> None:
    """Each clip shows all four things its own prompt asks for, and none of the other's."""
    clips = generate(pipeline, [FIRST.caption(), SECOND.caption()], 112, 64, 41, [1, 2])
    for clip, wanted, other in zip(clips, (FIRST, SECOND), (SECOND, FIRST), strict=True):
        assert all(score_prompt(clip, wanted).values())
        assert not any(score_prompt(clip, other).values())


def test_our_sampler_makes_what_diffusers_own_pipeline_makes(pipeline: WanPipeline) -> None:
    """`generate` and `WanPipeline.__call__` agree, so that what is measured is what the pipeline renders."""
    output = generate(pipeline, [FIRST.caption()], 112, 64, 17, [5], steps=3)[0].astype(int)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        FIRST.caption(),
        width=112,
        height=64,
        num_frames=17,
        num_inference_steps=3,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(5),
        max_sequence_length=MAX_SEQUENCE_LENGTH,
        output_type="np",
    ).frames[0]
    assert np.abs(output - np.round(theirs * 255).astype(int)).max() <= 1


def test_the_first_frame_is_the_given_picture(pipeline: WanPipeline) -> None:
    """Frame 0 is the given picture to 30 dB, on average over several pictures."""
    rng = np.random.default_rng(3)
    painted = np.stack([paint(scene, 112, 64, 1, rng)[0].round().astype(np.uint8) for scene in (FIRST, SECOND)])
    output = generate(
        pipeline, [FIRST.caption(), SECOND.caption()], 112, 64, 9, [1, 2], ConditionFrames(lead=painted), steps=4
    )
    assert np.mean([psnr(clip[0], wanted[0]) for clip, wanted in zip(output, painted, strict=True)]) >= 30


def test_a_continuation_does_not_jump(pipeline: WanPipeline) -> None:
    """The step over the joint is no larger than what the film's own frames move by."""
    first = generate(pipeline, [FIRST.caption()], 112, 64, 17, [4])
    more = generate(
        pipeline, [FIRST.caption()], 112, 64, 25, [5], ConditionFrames(lead=first[:, -CONTINUATION_FRAMES:])
    )
    film = np.concatenate([first[0], more[0, CONTINUATION_FRAMES:]]).astype(np.float32)
    steps = np.abs(np.diff(film, axis=0)).mean((1, 2, 3))
    assert steps[16] <= steps.max() + 1e-6
    assert steps[16] <= 2 * np.median(steps)


def test_the_card_names_what_the_weights_are() -> None:
    """The card says the sizes, that larger films are scaled up, and the figures reached."""
    card = (Path(__file__).parents[3] / "workers/demo_model/CARD.md").read_text()
    for word in ("112 × 64", "scaled up", "seed", "95 %"):
        assert word in card
