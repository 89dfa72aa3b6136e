"""The smaller parts: previews, meter, durable files, memory admission, switches, lazy torch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.engine.conftest import TinyWan
from tests.workers.engine.segment_requests import Watcher, film, request
from tests.workers.engine.tiny_wan import tiny_model
from workers.engine import Meter, host_info
from workers.engine.atomic_write import write_durably
from workers.engine.host_info import machine_facts
from workers.engine.load import clone_scheduler, device_bytes, find_weights, load_parts, set_cpu_threads
from workers.engine.meter import peak_host_bytes, resident_bytes
from workers.engine.preview import LatentPreview
from workers.engine.wan import WanEngine

REPOSITORY = Path(__file__).resolve().parents[3]


def test_progress_is_told_per_step_with_small_previews(tiny_wan: TinyWan) -> None:
    engine = WanEngine(tiny_model("ti2v", tiny_wan("ti2v"), switches="preview_steps = 2"), "cpu")
    watcher = Watcher()
    film(engine, request(), watcher)
    assert watcher.steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [each is not None for each in watcher.previews] == [False, True, False, True]
    assert watcher.previews[1] is not None
    assert watcher.previews[1].shape == (4, 8, 3)
    assert watcher.previews[1].dtype == np.uint8


class LinearCodec:
    """A fake VAE whose latents are exactly linear in the mean colour of a cell."""

    class config:
        scale_factor_spatial = 8
        z_dim = 4
        latents_mean = (0.1, 0.2, 0.3, 0.4)
        latents_std = (1.0, 2.0, 0.5, 1.0)

    device = torch.device("cpu")
    dtype = torch.float32

    def encode(self, video: torch.Tensor) -> "LinearCodec":
        cells = torch.nn.functional.avg_pool3d(video, (1, 8, 8))  # [1, 3, 1, h, w]
        mix = torch.tensor([[1.0, 0.2, 0.0], [0.0, 1.0, 0.5], [0.3, 0.0, 1.0], [0.5, 0.5, 0.5]])
        self.latents = torch.einsum("dc,bcfhw->bdfhw", mix, cells)
        return self

    @property
    def latent_dist(self) -> "LinearCodec":
        return self

    def mode(self) -> torch.Tensor:
        return self.latents

    def clear_cache(self) -> None:
        pass


def test_a_preview_shows_the_colours_of_a_linear_codec() -> None:
    from workers.engine.decode import encode_video

    codec = LinearCodec()
    preview = LatentPreview.fit(codec)
    picture = torch.zeros(1, 3, 1, 16, 16)
    picture[:, 0, :, :, 8:] = 1.0
    context = preview(encode_video(codec, picture))
    assert np.abs(context[0, 0].astype(int) - 128).max() <= 1
    assert np.abs(context[0, 1].astype(int) - [255, 128, 128]).max() <= 1


def test_the_meter_adds_up_and_counts_the_busy_stages() -> None:
    meter = Meter()
    meter.add("denoise", 2.0)
    meter.add("upload", 3.0)
    with pytest.raises(ZeroDivisionError), meter.stage("decode"):
        _ = 1 / 0
    words = meter.as_dict()
    assert words["seconds"]["upload"] == 3.0
    assert words["seconds"]["decode"] > 0
    assert 2.0 < words["gpu_seconds"] < 3.0
    with pytest.raises(KeyError):
        meter.add("lunch", 1.0)


def test_a_real_render_is_metered(tiny_wan: TinyWan) -> None:
    engine = WanEngine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    film(engine, request())
    seconds = engine.meter.seconds
    assert min(seconds["text"], seconds["denoise"], seconds["decode"]) > 0
    assert engine.meter.gpu_seconds == pytest.approx(seconds["text"] + seconds["denoise"] + seconds["decode"])
    assert engine.meter.peak_memory_bytes >= resident_bytes() // 2 > 0
    assert peak_host_bytes() >= resident_bytes() // 2


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_durably(path, lambda temporary: temporary.write_text("one") and None)
    assert path.read_text() == "one"

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_durably(path, fail)
    assert path.read_text() == "one"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_weights_are_a_folder_of_the_repository_or_a_hub_id(tiny_wan: TinyWan, tmp_path: Path) -> None:
    folder = tiny_wan("t2v")
    assert find_weights(tiny_model("t2v", folder)) == str(folder)
    assert find_weights(tiny_model("t2v", Path(folder.name)), folder.parent) == str(folder)
    assert find_weights(tiny_model("t2v", Path("Wan-AI/Some-Model"))) == "Wan-AI/Some-Model"


@pytest.mark.parametrize("unipc", [True, False])
def test_each_render_has_a_scheduler_of_its_own(tiny_wan: TinyWan, unipc: bool) -> None:
    parts = load_parts(tiny_model("t2v", tiny_wan("t2v", unipc=unipc)), torch.device("cpu"))
    one, two = clone_scheduler(parts, None), clone_scheduler(parts, 7.0)
    assert one is not two
    assert one is not parts.scheduler
    one.set_timesteps(5)
    two.set_timesteps(5)
    assert two.sigmas[2] > one.sigmas[2]


def test_threads_leave_a_core_to_the_service() -> None:
    before = torch.get_num_threads()
    try:
        assert 1 <= set_cpu_threads(torch.device("cpu")) <= max(1, min(4, (os.cpu_count() or 1) - 1))
    finally:
        torch.set_num_threads(before)


def test_the_machine_reports_the_memory_that_admission_uses() -> None:
    facts = machine_facts("cpu")
    assert facts["memory_bytes"] == device_bytes(torch.device("cpu")) > 2**28
    assert facts["torch"] == torch.__version__
    assert facts["name"]


def test_a_container_has_the_memory_that_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(host_info, "_LIMITS", (limit, tmp_path / "absent"))
    limit.write_text("max\n")
    host = host_info.host_bytes()
    limit.write_text(f"{host // 2}\n")
    assert host_info.host_bytes() == host // 2
    limit.write_text(f"{2**63 - 4096}\n")
    assert host_info.host_bytes() == host


def test_a_worker_without_a_gpu_is_recognised_without_torch() -> None:
    program = (
        "import sys; from workers.engine.host_info import machine_facts; "
        "assert machine_facts('cpu')['memory_bytes']; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, timeout=60)


def test_the_synthetic_engine_needs_no_torch() -> None:
    program = (
        "import sys; from workers.engine import make_engine; from app.catalog.models import require_model; "
        "make_engine(require_model('synthetic')).load(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, timeout=60)
