"""Long shots: segments continue one another without loss, and each one yields exactly its new frames."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.engine.conftest import TinyWan
from tests.workers.engine.segment_requests import HEIGHT, WIDTH, film, pictures, request
from tests.workers.engine.tiny_wan import tiny_model
from workers.engine import Continuation, ModelRefused, make_engine, segment_seed
from workers.engine.conditioning import context_frames, correct_drift, frame_statistics, shape_of
from workers.engine.wan import WanEngine


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 9, 16, 17])
def test_a_segment_has_exactly_the_asked_frames(tiny_wan: TinyWan, frames: int) -> None:
    engine = make_engine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    output = film(engine, request(frames=frames, steps=1))
    assert output.shape == (frames, HEIGHT, WIDTH, 3)
    assert output.dtype == np.uint8
    assert engine.meter.frames == frames


def test_fewer_frames_are_the_beginning_of_more(tiny_wan: TinyWan) -> None:
    engine = make_engine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    np.testing.assert_array_equal(film(engine, request(frames=7)), film(engine, request(frames=9))[:7])


def test_the_handover_holds_the_last_delivered_frames_unrounded(tiny_wan: TinyWan) -> None:
    engine = make_engine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    output = film(engine, request(frames=8))
    handover = engine.handover
    assert handover is not None
    assert handover.frames.shape == (5, HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(np.round(handover.frames * 255).astype(np.uint8), output[-5:])
    assert not np.array_equal(handover.frames, output[-5:].astype(np.float32) / 255)


@pytest.mark.parametrize(("family", "mode"), [("ti2v", "t2v"), ("ti2v", "i2v"), ("i2v", "i2v"), ("i2v-a14b", "i2v")])
def test_a_chain_goes_on_from_segment_to_segment(tiny_wan: TinyWan, tmp_path: Path, family: str, mode: str) -> None:
    engine = make_engine(tiny_model(family, tiny_wan(family)), "cpu")
    first = pictures(1)[0] if mode == "i2v" else None
    seen, handover = [], None
    for segment, frames in enumerate((9, 8, 2, 8)):
        segment_request = request(
            mode=mode, frames=frames, seed=segment_seed(7, 0, segment), first_frame=first, steps=2
        )
        seen.append(film(engine, replace(segment_request, handover=handover)))
        assert seen[-1].shape[0] == frames
        assert engine.handover is not None
        assert engine.handover.segment == segment
        path = tmp_path / f"{segment}.handover"
        engine.handover.save(path)
        handover = Continuation.load(path)
        np.testing.assert_array_equal(handover.frames, engine.handover.frames)
        assert handover.frames.shape[0] == engine.model.handover_frames  # type: ignore[attr-defined]
    assert not any(np.array_equal(seen[0][-1], frame) for frame in seen[1])


def test_the_frames_that_a_segment_is_shown_bind_its_first_latents(tiny_wan: TinyWan) -> None:
    engine = WanEngine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    film(engine, request(frames=9))
    handover = engine.handover
    assert handover is not None
    segment_request = request(frames=8, handover=handover)
    shape = shape_of(engine.model, engine.parts, segment_request, 5)
    bound = engine.conditions.build(segment_request, shape, context_frames(engine.model, segment_request))
    assert bound.mask is not None
    assert bound.mask[0, 0, :, 0, 0].tolist() == [0, 0, 1, 1]
    assert shape.rendered == 13


@pytest.mark.parametrize("with_first", [True, False])
def test_a_last_frame_binds_the_last_latent_of_per_token_models(tiny_wan: TinyWan, with_first: bool) -> None:
    engine = WanEngine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    engine.load()
    first, last = pictures(2)
    segment_request = request(mode="i2v", first_frame=first if with_first else None, last_frame=last)
    context = context_frames(engine.model, segment_request)
    bound = engine.conditions.build(segment_request, shape_of(engine.model, engine.parts, segment_request, 0), context)
    assert bound.mask is not None
    assert bound.mask[0, 0, :, 0, 0].tolist() == [0 if with_first else 1, 1, 0]
    assert film(engine, segment_request).shape[0] == segment_request.frames


def test_extend_continues_a_given_video(tiny_wan: TinyWan) -> None:
    engine = make_engine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    output = film(engine, request(mode="extend", video=pictures(7), frames=8))
    assert output.shape[0] == 8
    whole = film(engine, request(mode="extend", video=pictures(7)[-5:], frames=8))
    np.testing.assert_array_equal(output, whole)


def test_edit_of_a_chained_segment_keeps_the_joint(tiny_wan: TinyWan) -> None:
    engine = make_engine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    film(engine, request(mode="edit", video=pictures(9), frames=9))
    output = film(engine, request(mode="edit", video=pictures(8), frames=8, handover=engine.handover))
    assert output.shape[0] == 8


def test_a_short_video_holds_its_last_frame(tiny_wan: TinyWan) -> None:
    engine = make_engine(tiny_model("t2v", tiny_wan("t2v")), "cpu")
    padded = np.concatenate([pictures(5), np.repeat(pictures(5)[-1:], 4, axis=0)])
    np.testing.assert_array_equal(
        film(engine, request(mode="v2v", video=pictures(5))), film(engine, request(mode="v2v", video=padded))
    )


def test_the_last_frame_stays_the_last_when_the_length_is_uneven(tiny_wan: TinyWan) -> None:
    engine = make_engine(tiny_model("flf2v", tiny_wan("flf2v")), "cpu")
    first, last = pictures(2)
    whole = film(engine, request(mode="i2v", first_frame=first, last_frame=last, frames=9))
    uneven = film(engine, request(mode="i2v", first_frame=first, last_frame=last, frames=8))
    np.testing.assert_array_equal(uneven[0], whole[0])
    np.testing.assert_array_equal(uneven[-1], whole[-1])
    assert len(uneven) == 8


def test_drift_correction_moves_the_look_to_the_first_segments() -> None:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 4, 3, 8, 8, generator=generator) * 3 + 2
    anchor = np.stack([np.zeros(4, np.float32), np.ones(4, np.float32)])
    handover = Continuation("m", 0, np.zeros((1, 8, 8, 3), np.float32), anchor)
    torch.testing.assert_close(
        frame_statistics(correct_drift(latents, None, handover, 1.0)), torch.from_numpy(anchor), atol=1e-4, rtol=0
    )
    assert correct_drift(latents, None, handover, 0.0) is latents
    assert correct_drift(latents, None, None, 1.0) is latents
    mask = torch.ones(1, 1, 3, 8, 8)
    mask[:, :, 0] = 0
    corrected = correct_drift(latents, mask, handover, 0.5)
    torch.testing.assert_close(corrected[:, :, 0], latents[:, :, 0])
    assert not torch.equal(corrected[:, :, 1:], latents[:, :, 1:])


def test_drift_correction_is_used_in_a_chain(tiny_wan: TinyWan) -> None:
    folder = tiny_wan("ti2v")
    frames = []
    for share in (0.0, 0.5):
        engine = make_engine(tiny_model("ti2v", folder, f"drift_correction = {share}"), "cpu")
        film(engine, request(frames=9))
        frames.append(film(engine, request(frames=8, handover=engine.handover)))
    assert not np.array_equal(*frames)


def test_a_foreign_file_is_no_handover(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no safetensors")
    with pytest.raises(ModelRefused, match="not a hand-over"):
        Continuation.load(tmp_path / "x")


def test_a_handover_of_another_size_is_refused(tiny_wan: TinyWan) -> None:
    engine = make_engine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    handover = Continuation("tiny-ti2v", 0, np.zeros((5, HEIGHT, WIDTH // 2, 3), np.float32))
    with pytest.raises(ModelRefused, match="shape"):
        film(engine, request(handover=handover))


def test_segment_seeds_differ_and_repeat() -> None:
    seeds = {segment_seed(job, shot, segment) for job in range(5) for shot in range(5) for segment in range(5)}
    assert len(seeds) == 125
    assert all(0 <= seed < 2**63 for seed in seeds)
    # A changed hash would give every stored job other frames on a retake, so the value is written down.
    assert segment_seed(1, 2, 3) == 4462221054467233818
