"""Kandinsky 6 makes the pipeline's own picture and sound for the same seed (float32, CPU).

Bit for bit with the two switches off that sum in another order (oneDNN convolutions, text without its padding); with
them on, which is the default, the picture is at most one level of 255 apart and the sound 1e-5.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Kandinsky6TI2VAPipeline
from PIL import Image

from tests.workers.engine.conftest import TinyKandinsky6
from tests.workers.engine.segment_requests import FRAMES, HEIGHT, SEED, STEPS, WIDTH, film, pictures, request
from tests.workers.engine.tiny_kandinsky6 import RATE, TEXT_LENGTH, tiny_kandinsky6
from workers.engine import BadSound, ModelRefused, SegmentRequest
from workers.engine.kandinsky6 import Kandinsky6Engine
from workers.engine.kandinsky6.codec import decode_picture
from workers.engine.kandinsky6.text import load_processor
from workers.engine.load import load_parts
from workers.engine.request import Frames
from workers.engine.sound import Samples, sample_count

BIT_FOR_BIT = "quick_vae = false\ntrim_text = false"
KINDS = ("base", "distilled")


def segment(kind: str, **changes: Any) -> SegmentRequest:
    """Return a request with sound; a distilled model has no guidance."""
    return request(**{"sound": True, "guidance": 3.0 if kind == "base" else 1.0, **changes})


def ours(kind: str, folder: Path, options: SegmentRequest, switches: str = BIT_FOR_BIT) -> tuple[Frames, Samples]:
    engine = Kandinsky6Engine(tiny_kandinsky6(kind, folder, switches=switches), "cpu")
    try:
        frames = film(engine, options)
        assert engine.sound is not None
        assert engine.sound.rate == RATE
        return frames, engine.sound.samples
    finally:
        engine.close()


def theirs(kind: str, folder: Path, dtype: torch.dtype = torch.float32, **changes: Any) -> tuple[Frames, Samples]:
    """Return the pipeline's frames, and its one channel of sound on both sides, cut to the frames."""
    dtypes: Any = {"default": dtype, "vae": torch.float32, "audio_vae": torch.float32, "vocoder": torch.float32}
    pipeline = Kandinsky6TI2VAPipeline.from_pretrained(folder, dtype=dtypes, tokenizer=load_processor(str(folder)))
    pipeline.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = {
        "prompt": "a red circle moves left",
        "negative_prompt": "grey  square",
        "height": HEIGHT,
        "width": WIDTH,
        "num_frames": FRAMES,
        "frame_rate": 8,
        "num_inference_steps": STEPS,
        "guidance_scale": 3.0 if kind == "base" else 1.0,
        "generator": torch.Generator("cpu").manual_seed(SEED),
        "max_sequence_length": TEXT_LENGTH,
    }
    output = pipeline(**{**arguments, **changes})
    wave = output.audio[0][: sample_count(len(output.frames[0]), 8, RATE)].numpy()
    return np.stack([np.asarray(frame) for frame in output.frames[0]]), np.stack([wave, wave], axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_text_to_picture_and_sound(tiny_k6: TinyKandinsky6, kind: str) -> None:
    folder = tiny_k6(kind)
    frames, samples = ours(kind, folder, segment(kind))
    expected_frames, expected_samples = theirs(kind, folder)
    np.testing.assert_array_equal(frames, expected_frames)
    np.testing.assert_array_equal(samples, expected_samples)
    assert len(samples) == sample_count(FRAMES, 8, RATE)
    assert samples.std() > 1e-3, "noise through random weights is no silence"


@pytest.mark.parametrize("kind", KINDS)
def test_first_frame_to_picture_and_sound(tiny_k6: TinyKandinsky6, kind: str) -> None:
    folder, first = tiny_k6(kind), pictures(1)[0]
    frames, samples = ours(kind, folder, segment(kind, mode="i2v", first_frame=first))
    expected_frames, expected_samples = theirs(kind, folder, image=Image.fromarray(first))
    np.testing.assert_array_equal(frames, expected_frames)
    np.testing.assert_array_equal(samples, expected_samples)


def test_a_clip_longer_than_a_tile_of_the_codec(tiny_k6: TinyKandinsky6) -> None:
    folder = tiny_k6("distilled")
    frames, samples = ours("distilled", folder, segment("distilled", frames=33))
    expected_frames, expected_samples = theirs("distilled", folder, num_frames=33)
    np.testing.assert_array_equal(frames, expected_frames)
    np.testing.assert_array_equal(samples, expected_samples)


def test_half_precision(tiny_k6: TinyKandinsky6) -> None:
    """Latents and noise have the transformer's dtype, as in diffusers: a seed gives its film in bfloat16 too."""
    folder = tiny_k6("distilled")
    model = tiny_kandinsky6("distilled", folder, switches=BIT_FOR_BIT)
    switches = model.switches.model_copy(update={"transformer_dtype": "bfloat16"})
    engine = Kandinsky6Engine(model.model_copy(update={"switches": switches}), "cpu")
    frames = film(engine, segment("distilled"))
    expected_frames, expected_samples = theirs("distilled", folder, torch.bfloat16)
    np.testing.assert_array_equal(frames, expected_frames)
    assert engine.sound is not None
    np.testing.assert_array_equal(engine.sound.samples, expected_samples)


@pytest.mark.parametrize("kind", KINDS)
def test_faster_arithmetic_changes_at_most_the_rounding(tiny_k6: TinyKandinsky6, kind: str) -> None:
    folder = tiny_k6(kind)
    frames, samples = ours(kind, folder, segment(kind), "")
    expected_frames, expected_samples = theirs(kind, folder)
    difference = np.abs(frames.astype(int) - expected_frames.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    np.testing.assert_allclose(samples, expected_samples, atol=1e-5, rtol=0)


@pytest.mark.parametrize("latent_frames", [1, 4, 5, 7, 8, 10])
def test_the_pieces_are_the_whole(tiny_k6: TinyKandinsky6, latent_frames: int) -> None:
    folder = tiny_k6("base")
    model = tiny_kandinsky6("base", folder)
    vae = load_parts(model, torch.device("cpu"), {"tokenizer": load_processor(str(folder))}).vae
    latents = torch.randn(1, 4, latent_frames, 4, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        whole = vae.decode(latents / vae.config.scaling_factor).sample
    pieces = list(decode_picture(vae, latents))
    assert torch.equal(torch.cat(pieces, dim=2), whole)
    assert max(piece.shape[2] for piece in pieces) <= 13


@pytest.mark.parametrize("frames", [1, 2, 8, 9, 17])
def test_frames_and_samples_are_exactly_the_asked_ones(tiny_k6: TinyKandinsky6, frames: int) -> None:
    folder = tiny_k6("distilled")
    picture, samples = ours("distilled", folder, segment("distilled", frames=frames, steps=1))
    assert picture.shape == (frames, HEIGHT, WIDTH, 3)
    assert samples.shape == (sample_count(frames, 8, RATE), 2)


def test_a_chain_repeats_neither_frames_nor_sound(tiny_k6: TinyKandinsky6) -> None:
    folder = tiny_k6("distilled")
    engine = Kandinsky6Engine(tiny_kandinsky6("distilled", folder, switches=BIT_FOR_BIT), "cpu")
    film(engine, segment("distilled", frames=9, steps=2))
    handover = engine.handover
    assert handover is not None
    assert handover.frames.shape == (1, HEIGHT, WIDTH, 3)
    frames = film(engine, segment("distilled", frames=8, steps=2, seed=3, handover=handover))
    own = engine.sound
    assert len(frames) == 8
    assert own is not None
    assert len(own.samples) == sample_count(8, 8, RATE)
    # The same render as one that is shown the last frame, without its first frame and the sound of that.
    last = np.round(handover.frames[0] * 255).astype(np.uint8)
    whole = Kandinsky6Engine(tiny_kandinsky6("distilled", folder, switches=BIT_FOR_BIT), "cpu")
    film(whole, segment("distilled", frames=9, steps=2, seed=3, mode="i2v", first_frame=last))
    assert whole.sound is not None
    lead = sample_count(1, 8, RATE)
    np.testing.assert_allclose(own.samples, whole.sound.samples[lead : lead + len(own.samples)], atol=1e-3)


def test_the_picture_does_not_depend_on_whether_sound_is_requested(tiny_k6: TinyKandinsky6) -> None:
    engine = Kandinsky6Engine(tiny_kandinsky6("base", tiny_k6("base")), "cpu")
    loud = film(engine, segment("base"))
    assert engine.sound is not None
    np.testing.assert_array_equal(film(engine, segment("base", sound=False)), loud)
    assert engine.sound is None, "the sound of the render before is none of this one's"


def test_broken_sound_fails_the_render(tiny_k6: TinyKandinsky6) -> None:
    engine = Kandinsky6Engine(tiny_kandinsky6("distilled", tiny_k6("distilled")), "cpu")
    engine.load()
    with torch.no_grad():
        engine.parts.vocoder.conv_post.weight.fill_(float("nan"))
    with pytest.raises(BadSound, match="finite"):
        film(engine, segment("distilled"))
    assert engine.sound is None


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("distilled", {"guidance": 5.0}, "has no guidance"),
        ("base", {"mode": "i2v"}, "needs a first frame"),
        ("base", {"mode": "i2v", "first_frame": pictures(1)[0], "last_frame": pictures(1)[0]}, "cannot use a last"),
        ("base", {"mode": "v2v", "video": pictures(9)}, "cannot do v2v"),
        ("base", {"width": 60}, "multiples of 16"),
        ("base", {"frames": 38}, "1 to 37 frames"),
    ],
)
def test_what_the_model_cannot_do_is_refused(
    tiny_k6: TinyKandinsky6, kind: str, changes: dict[str, Any], message: str
) -> None:
    engine = Kandinsky6Engine(tiny_kandinsky6(kind, tiny_k6(kind)), "cpu")
    with pytest.raises(ModelRefused, match=message):
        film(engine, segment(kind, **changes))


def test_a_prompt_may_spell_the_encoders_own_tokens(tiny_k6: TinyKandinsky6) -> None:
    engine = Kandinsky6Engine(tiny_kandinsky6("distilled", tiny_k6("distilled")), "cpu")
    assert len(film(engine, segment("distilled", prompt="<|image_pad|> {0} {} <|im_end|>", steps=1))) == FRAMES
