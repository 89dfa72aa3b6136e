"""The engine on a CUDA device: the properties that are tested on a CPU hold there too. Skipped without a device."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from app.catalog.models import VideoModel, load_catalog
from tests.workers.engine.segment_requests import Watcher, film, request
from tests.workers.engine.tiny_wan import build_tiny_wan, tiny_model
from workers.engine import OutOfMemory, SegmentRequest, Stopped
from workers.engine.decode import decode_floats, to_bytes, to_unit
from workers.engine.wan import WanEngine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model with one timestep per token. Made here, so that this file runs without a database."""
    return build_tiny_wan("ti2v", tmp_path_factory.mktemp("tiny") / "ti2v")


@pytest.fixture
def engine(folder: Path) -> Iterator[WanEngine]:
    output = WanEngine(tiny_model("ti2v", folder), "cuda:0")
    output.load()
    yield output
    output.close()


def test_the_same_request_gives_the_same_frames(engine: WanEngine) -> None:
    np.testing.assert_array_equal(film(engine, request()), film(engine, request()))


@pytest.mark.parametrize("fault", ["stop", "error", "memory"])
def test_after_a_fault_the_next_frames_are_those_of_a_fresh_process(engine: WanEngine, fault: str) -> None:
    fresh = film(engine, request())
    watcher = Watcher(lambda step: watcher.stop() if fault == "stop" and step == 2 else None)
    raised = {"stop": Stopped, "error": RuntimeError, "memory": OutOfMemory}[fault]

    def sabotage(*_: object) -> None:
        hook.remove()
        if fault == "memory":
            torch.empty(2**50, dtype=torch.uint8, device="cuda")
        if fault == "error":
            raise RuntimeError("broken")

    hook = engine.parts.vae.decoder.register_forward_pre_hook(sabotage)
    with pytest.raises(raised):
        film(engine, request(prompt="a blue square", seed=9), watcher)
    hook.remove()
    np.testing.assert_array_equal(film(engine, request()), fresh)


def test_a_resumed_render_makes_the_same_frames(engine: WanEngine, folder: Path, tmp_path: Path) -> None:
    undisturbed = film(engine, request())
    segment = request(checkpoint_dir=tmp_path, key="job/0/0")
    watcher = Watcher(lambda step: watcher.stop() if step == 2 else None)
    with pytest.raises(Stopped):
        film(engine, segment, watcher)
    another = WanEngine(tiny_model("ti2v", folder), "cuda:0")
    np.testing.assert_array_equal(film(another, segment), undisturbed)
    assert another.meter.resumed_from_step > 0
    another.close()


@torch.no_grad()
def test_the_ring_and_the_chunks_give_what_the_whole_decode_gives(engine: WanEngine) -> None:
    latents = torch.randn(1, 16, 3, 4, 8, generator=torch.Generator().manual_seed(3)).to("cuda")
    chunked = torch.cat([to_bytes(to_unit(piece)) for piece in decode_floats(engine.parts.vae, latents)])
    vae = engine.parts.vae
    whole = vae.decode(latents * torch.tensor(vae.config.latents_std, device="cuda").view(1, -1, 1, 1, 1)
                       + torch.tensor(vae.config.latents_mean, device="cuda").view(1, -1, 1, 1, 1)).sample  # fmt: skip
    assert (chunked.int() - to_bytes(to_unit(whole)).int()).abs().max() <= 1


def test_compiled_blocks_make_the_eager_ones_frames(engine: WanEngine, folder: Path) -> None:
    compiled = WanEngine(tiny_model("ti2v", folder, switches="compile = true"), "cuda:0")
    segment = request(frames=17)
    output = film(compiled, segment)
    assert compiled.kernels.compiled
    assert _mean_difference(output, film(engine, segment)) < 1
    compiled.close()


def test_the_demo_model_makes_the_film_that_a_cpu_makes() -> None:
    demo = load_catalog()["demo"]
    width, height = demo.native["480P"]["16:9"]
    segment = SegmentRequest(
        prompt="a large red circle moves right on a blue background",
        negative_prompt=demo.negative_prompt,
        width=width,
        height=height,
        frames=demo.frames_max,
        fps=demo.fps,
        seed=7,
        steps=demo.steps,
        guidance=demo.guidance,
    )
    films = [_rendered(demo, device, segment) for device in ("cuda:0", "cpu")]
    assert _mean_difference(*films) < 2


def _rendered(model: VideoModel, device: str, segment: SegmentRequest) -> np.ndarray:
    engine = WanEngine(model, device)
    try:
        return film(engine, segment)
    finally:
        engine.close()


def _mean_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean distance of two films in levels of 255."""
    mean = float(np.abs(one.astype(int) - other.astype(int)).mean())
    print(f"mean difference {mean:.3f} levels")
    return mean
