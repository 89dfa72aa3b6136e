"""The streamed decode equals the whole one to the bit, and its memory does not grow with the clip."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.engine.conftest import TinyWan
from tests.workers.engine.segment_requests import pictures
from tests.workers.engine.tiny_wan import tiny_model
from workers.engine.decode import (
    SEAM_FRAMES,
    FrameSelection,
    decode_floats,
    encode_video,
    latent_statistics,
    smooth_seam,
    to_bytes,
    to_host,
    to_unit,
)
from workers.engine.load import Parts, load_parts
from workers.engine.quick_vae import speed_up_vae, use_channels_last, use_onednn


def parts_of(tiny_wan: TinyWan, family: str) -> Parts:
    return load_parts(tiny_model(family, tiny_wan(family)), torch.device("cpu"))


def noise(frames: int) -> torch.Tensor:
    return torch.randn(1, 16, frames, 4, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("family", ["t2v", "ti2v"])
def test_the_pieces_are_the_whole(tiny_wan: TinyWan, family: str, frames: int) -> None:
    vae, latents = parts_of(tiny_wan, family).vae, noise(frames)
    mean, inverse = latent_statistics(vae, latents)
    with torch.no_grad():
        whole = vae.decode(latents / inverse + mean).sample
    pieces = list(decode_floats(vae, latents))
    assert [piece.shape[2] for piece in pieces] == [1] + [4] * (frames - 1)
    assert torch.equal(torch.cat(pieces, dim=2), whole)


def test_bytes_are_those_of_diffusers(tiny_wan: TinyWan) -> None:
    from diffusers.video_processor import VideoProcessor

    piece = torch.cat(list(decode_floats(parts_of(tiny_wan, "ti2v").vae, noise(3))), dim=2)
    theirs = VideoProcessor(vae_scale_factor=8).postprocess_video(piece, output_type="pil")[0]
    np.testing.assert_array_equal(to_bytes(to_unit(piece)).numpy(), np.stack([np.asarray(each) for each in theirs]))


@pytest.mark.parametrize("lead", [1, 3, 5, 9])
def test_the_step_over_a_joint_is_a_step_of_the_new_clip(lead: int) -> None:
    decoded = torch.rand(17, 4, 8, 3, generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4
    context = torch.rand(lead, 4, 8, 3, generator=torch.Generator().manual_seed(2)) * 0.2 + 0.4
    pieces = iter([decoded[:1], *decoded[1:].split(4)])
    smoothed = torch.cat(list(smooth_seam(pieces, context.numpy(), lead)))
    assert torch.equal(smoothed[:lead], decoded[:lead]), "what was delivered before is dropped anyway"
    torch.testing.assert_close(smoothed[lead] - context[-1], decoded[lead] - decoded[lead - 1])
    assert torch.equal(smoothed[lead + SEAM_FRAMES :], decoded[lead + SEAM_FRAMES :])


def test_a_clip_of_its_own_has_no_seam_to_mend() -> None:
    decoded = torch.rand(5, 4, 8, 3)
    context = torch.rand(1, 4, 8, 3).numpy()
    assert torch.equal(torch.cat(list(smooth_seam(iter([decoded]), context, 0))), decoded)


def test_a_decode_that_is_left_clears_the_feature_maps(tiny_wan: TinyWan) -> None:
    vae = parts_of(tiny_wan, "ti2v").vae
    pieces = decode_floats(vae, noise(3))
    next(pieces)
    assert any(each is not None for each in vae._feat_map)
    pieces.close()  # type: ignore[attr-defined]
    assert all(each is None for each in vae._feat_map)


def test_no_decoded_piece_outlives_its_turn(tiny_wan: TinyWan) -> None:
    """What is alive at once is bounded, whatever the length: a piece is gone when the next but one is made."""
    vae = parts_of(tiny_wan, "ti2v").vae
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def watched() -> Iterator[torch.Tensor]:
        for piece in decode_floats(vae, noise(12)):
            unit = to_unit(piece)
            alive.append(weakref.ref(unit))
            yield unit

    selection = FrameSelection(rendered=45, lead=0, frames=45, context=1, keep_last=False)
    for _ in to_host(selection.select(watched(), lambda: None), torch.device("cpu")):
        most = max(most, sum(each() is not None for each in alive))
    assert len(alive) == 12
    assert most <= 2


@pytest.mark.parametrize(
    ("lead", "frames", "keep_last", "expected"),
    [
        (0, 9, False, range(9)),
        (0, 7, False, range(7)),
        (1, 8, False, range(1, 9)),
        (5, 2, False, range(5, 7)),
        (0, 8, True, [0, 1, 2, 3, 5, 6, 7, 8]),
        (0, 9, True, range(9)),
    ],
)
def test_the_selection(lead: int, frames: int, keep_last: bool, expected: list[int]) -> None:
    numbered = torch.arange(9, dtype=torch.float32).view(9, 1, 1, 1).expand(9, 1, 1, 3) / 255
    selection = FrameSelection(rendered=9, lead=lead, frames=frames, context=1, keep_last=keep_last)
    pieces = iter([numbered[:1], numbered[1:5], numbered[5:9]])
    decoded = torch.cat(list(selection.select(pieces, lambda: None)))
    assert decoded[:, 0, 0, 0].tolist() == list(expected)
    assert round(float(selection.context_frames()[0, 0, 0, 0]) * 255) == list(expected)[-1]


def test_encode_then_decode_keeps_the_shape(tiny_wan: TinyWan) -> None:
    vae = parts_of(tiny_wan, "ti2v").vae
    video = torch.from_numpy(pictures(5).astype(np.float32) / 127.5 - 1).permute(3, 0, 1, 2)[None]
    latents = encode_video(vae, video)
    assert latents.shape == (1, 16, 2, 4, 8)
    assert torch.cat(list(decode_floats(vae, latents)), dim=2).shape == video.shape


def test_kernels_are_chosen_for_the_device_where_an_offloaded_vae_works(tiny_wan: TinyWan) -> None:
    """It waits in the host's memory while the kernels are chosen, and oneDNN's would fail on the GPU."""
    vae = parts_of(tiny_wan, "ti2v").vae
    assert speed_up_vae(vae, torch.device("cuda")) > 0
    convolutions = [each for each in vae.modules() if isinstance(each, torch.nn.Conv3d)]
    assert all(each.weight.is_contiguous(memory_format=torch.channels_last_3d) for each in convolutions)
    assert not any("_conv_forward" in vars(each) for each in convolutions)
    assert next(decode_floats(vae, noise(1))).shape[2] == 1


@pytest.mark.parametrize("quick", [use_onednn, use_channels_last])
@pytest.mark.parametrize("family", ["t2v", "ti2v"])
def test_quicker_kernels_differ_by_rounding_only(tiny_wan: TinyWan, family: str, quick: Callable[[Any], int]) -> None:
    vae, latents = parts_of(tiny_wan, family).vae, noise(3)
    video = torch.from_numpy(pictures(9).astype(np.float32) / 127.5 - 1).permute(3, 0, 1, 2)[None]
    slow = torch.cat(list(decode_floats(vae, latents)), dim=2), encode_video(vae, video)
    assert quick(vae) > 10
    fast = torch.cat(list(decode_floats(vae, latents)), dim=2), encode_video(vae, video)
    torch.testing.assert_close(fast, slow, atol=2e-5, rtol=0)
