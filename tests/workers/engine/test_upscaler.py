"""The upscaler: exact counts whatever the pieces are, edges along outlines, photographs left alone, and the engine."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.workers.engine.conftest import TinyWan
from tests.workers.engine.segment_requests import HEIGHT, WIDTH, film, request
from tests.workers.engine.tiny_wan import tiny_model
from workers.engine import ModelRefused, make_engine
from workers.engine.request import EngineControl, Frames
from workers.engine.shape_drawing import REACH, compose
from workers.engine.upscaler import (
    FILE,
    Upscaler,
    draw_frames,
    load_upscaler,
    save_upscaler,
)

FACTS = "upscaler = {scale = 4, pace = 2}"


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    """Random weights, which draw something of every frame they see."""
    torch.manual_seed(3)
    net = Upscaler(4, 2)
    net.eval()
    return net


def clip(frames: int) -> Tensor:
    """Random pictures [F, 16, 24, 3] in 0..1."""
    return torch.rand(frames, 16, 24, 3, generator=torch.Generator().manual_seed(1))


def pieces(frames: int, *lengths: int) -> Iterator[Tensor]:
    """The clip in pieces of these lengths, the last one again and again."""
    begin, rest = 0, list(lengths)
    while begin < frames:
        length = rest.pop(0) if len(rest) > 1 else rest[0]
        yield clip(frames)[begin : min(begin + length, frames)]
        begin += length


def drawn(upscaler: Upscaler, source: Iterator[Tensor], **changes: int) -> Frames:
    return np.concatenate(
        [chunk.numpy() for chunk in draw_frames(upscaler, source, **{"first": 0, "pace": 2, **changes})]
    )


@pytest.mark.parametrize(("native", "first"), [(1, 0), (2, 0), (3, 0), (5, 0), (5, 4), (13, 9), (13, 0)])
@pytest.mark.parametrize("lengths", [(1, 4), (1,), (20,)])
def test_every_clip_has_exactly_the_asked_frames(
    upscaler: Upscaler, native: int, first: int, lengths: tuple[int, ...]
) -> None:
    """Pieces of one, of four or of all frames give the same pictures, also where a clip is shorter than a window."""
    whole = drawn(upscaler, pieces(native, 20), first=first, frames=2 * (native - first))
    assert whole.shape == (2 * (native - first), 64, 96, 3)
    again = drawn(upscaler, pieces(native, *lengths), first=first, frames=2 * (native - first))
    assert np.abs(again.astype(int) - whole).max() <= 1
    fewer = drawn(upscaler, pieces(native, *lengths), first=first, frames=2 * (native - first) - 1)
    assert np.abs(fewer.astype(int) - whole[:-1]).max() <= 1
    native_pace = drawn(upscaler, pieces(native, *lengths), first=first, frames=native - first, pace=1)
    assert np.abs(native_pace.astype(int) - whole[::2]).max() <= 1


def test_frames_before_the_first_are_looked_at(upscaler: Upscaler) -> None:
    """A segment that continues another draws its first frames as if the clip were one."""
    whole = drawn(upscaler, pieces(13, 1, 4), frames=26)
    rest = drawn(upscaler, pieces(13, 1, 4), first=9, frames=8)
    assert np.abs(rest.astype(int) - whole[18:]).max() <= 1


def test_a_clip_that_ends_too_early_is_an_error(upscaler: Upscaler) -> None:
    with pytest.raises(ValueError, match="2 frames too early"):
        drawn(upscaler, pieces(5, 1, 4), frames=12)


def test_edges_are_sharp_whatever_the_decoder_blurred() -> None:
    """A blurred disc with its outline known becomes the disc itself: one drawn pixel wide is its edge."""
    side, scale, radius = 48, 4, 13.0

    def distance(per_pixel: int) -> Tensor:
        place = (torch.arange(side * per_pixel) + 0.5) / per_pixel - side / 2
        return (place[:, None] ** 2 + place[None] ** 2).sqrt() - radius

    red, blue = torch.tensor([0.8, -0.8, -0.7]), torch.tensor([-0.7, -0.5, 0.8])
    soft = torch.sigmoid(-distance(1) / 0.8)[None]  # the decoder's edge is four pixels wide
    frame = blue[:, None, None] + soft * (red - blue)[:, None, None]
    frame = frame + 0.03 * torch.randn(frame.shape, generator=torch.Generator().manual_seed(2))
    outlines = distance(2).clamp(-REACH, REACH).expand(1, 3, -1, -1)
    output = compose(frame.expand(1, 4, -1, -1, -1), outlines, scale)[0, 0]
    crisp = (distance(scale) < 0).float()
    wanted = blue[:, None, None] + crisp * (red - blue)[:, None, None]
    away = (distance(scale).abs() > 0.5).expand_as(output)
    assert (output - wanted).abs()[away].max() < 0.05
    assert output[0].flatten().sub(0.05).abs().lt(0.6).float().mean() < 0.02, "few points lie between the two colours"


def test_where_no_outline_is_seen_a_photograph_stays() -> None:
    """Nothing is drawn flat that has no outline: a picture full of detail comes out enlarged, and else as it was."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(4)) * 2 - 1
    photo = torch.nn.functional.interpolate(coarse, size=(48, 48), mode="bicubic").clamp(-1, 1)
    output = compose(photo.expand(4, -1, -1, -1)[None], torch.full((1, 3, 96, 96), REACH), 4)[0]
    for picture in output:
        small = torch.nn.functional.avg_pool2d(picture[None], 4)
        assert (small - photo).abs().mean() < 0.06
        assert float(torch.corrcoef(torch.stack([small.flatten(), photo.flatten()]))[0, 1]) > 0.98


def folder_with(upscaler: Upscaler, tiny: Path, folder: Path) -> Path:
    """A copy of a tiny model's folder with an upscaler."""
    for path in tiny.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(tiny)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(tiny)).symlink_to(path)
    save_upscaler(upscaler, folder / FILE)
    return folder


def test_an_engine_with_an_upscaler_draws_larger_and_more_often(
    upscaler: Upscaler, tiny_wan: TinyWan, tmp_path: Path
) -> None:
    """Twice the frames for a film of twice the rate, the native ones for one of theirs; all hand-overs are native."""
    folder = folder_with(upscaler, tiny_wan("ti2v"), tmp_path / "tiny")
    plain = make_engine(tiny_model("ti2v", folder), "cpu")
    native = film(plain, request(frames=9, steps=1))
    model = tiny_model("ti2v", folder, FACTS).model_copy(update={"fps": 16})
    engine = make_engine(model, "cpu")
    handover = None
    for frames, rate in ((18, 16), (17, 16), (9, 8), (8, 8), (1, 16)):
        output = film(engine, request(frames=frames, fps=rate, steps=1))
        assert output.shape == (frames, 4 * HEIGHT, 4 * WIDTH, 3)
        assert engine.meter.frames == frames
        assert engine.handover is not None
        assert engine.handover.frames.shape[1:] == (HEIGHT, WIDTH, 3)
        if frames in (18, 17, 9):
            np.testing.assert_array_equal(np.round(engine.handover.frames * 255).astype(np.uint8), native[-5:])
            handover = engine.handover
    more = film(engine, request(frames=15, fps=16, steps=1, handover=handover))
    assert more.shape == (15, 4 * HEIGHT, 4 * WIDTH, 3)
    with pytest.raises(ModelRefused, match="8 or 16 frames per second, not of 12"):
        film(engine, request(fps=12))


def test_a_resumed_render_draws_the_same_frames(upscaler: Upscaler, tiny_wan: TinyWan, tmp_path: Path) -> None:
    folder = folder_with(upscaler, tiny_wan("ti2v"), tmp_path / "tiny")
    engine = make_engine(tiny_model("ti2v", folder, FACTS).model_copy(update={"fps": 16}), "cpu")
    segment_request = request(frames=18, fps=16, checkpoint_dir=tmp_path, key="one")
    whole = film(engine, replace(segment_request, checkpoint_dir=None))

    class Stopping(EngineControl):
        def on_step(self, step: int, steps: int, preview: Frames | None) -> None:
            if step == 2:
                self.stop()

    with pytest.raises(Exception, match="stopped"):
        film(engine, segment_request, Stopping())
    np.testing.assert_array_equal(film(engine, segment_request), whole)


def test_weights_of_another_network_or_none_say_so(upscaler: Upscaler, tmp_path: Path) -> None:
    save_upscaler(upscaler, tmp_path / FILE)
    assert load_upscaler(tmp_path / FILE).scale == 4
    with pytest.raises(ValueError, match="no weights of an upscaler"):
        load_upscaler(tmp_path / FILE, pace=3)
    with pytest.raises(OSError, match="No such file"):
        load_upscaler(tmp_path / "nothing" / FILE)
