"""Load a catalogue entry as the parts of a diffusers pipeline, on a device, in their dtypes."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from app.catalog.memory_estimate import why_too_large
from app.catalog.models import VideoModel
from workers.engine.errors import DoesNotFit
from workers.engine.host_info import host_bytes
from workers.engine.upscaler import FILE as UPSCALER_FILE
from workers.engine.upscaler import Upscaler, load_upscaler

# Messages of PyTorch about a lack of memory that it raises as a plain RuntimeError: its host allocator, and cuBLAS.
OUT_OF_MEMORY_MESSAGES = ("DefaultCPUAllocator: ", "CUBLAS_STATUS_ALLOC_FAILED")

REPOSITORY = Path(__file__).resolve().parents[2]
CPU_THREADS_MAX = 4
OFFLOADED = ("text_encoder", "image_encoder", "transformer", "transformer_2", "vae")
RESIDENT = ("text_encoder_2", "audio_vae", "vocoder")
"""Parts that are too small to be worth moving: they stay on the device."""

IN_FLOAT32 = {"wan": ("image_encoder",), "kandinsky6": ("audio_vae", "vocoder")}
"""Parts of each family that stay in float32: half precision would cost quality, and they are small."""


@dataclass
class Parts:
    """The loaded parts of one pipeline, and their device. `scheduler` is a template: each render clones it."""

    pipeline: Any  # the diffusers pipeline; it only holds the parts, its __call__ is never used
    device: torch.device
    boundary_ratio: float | None
    expand_timesteps: bool
    offload: bool
    upscaler: Upscaler | None = None  # draws what the VAE decodes; never offloaded, for it is small

    @property
    def tokenizer(self) -> Any:
        return self.pipeline.tokenizer

    @property
    def text_encoder(self) -> Any:
        return self.pipeline.text_encoder

    @property
    def image_encoder(self) -> Any:
        """The CLIP picture encoder of Wan 2.1 I2V, else None."""
        return getattr(self.pipeline, "image_encoder", None)

    @property
    def image_processor(self) -> Any:
        return getattr(self.pipeline, "image_processor", None)

    @property
    def transformer(self) -> Any:
        return self.pipeline.transformer

    @property
    def transformer_2(self) -> Any:
        """The low-noise expert of Wan 2.2 A14B, else None."""
        return getattr(self.pipeline, "transformer_2", None)

    @property
    def vae(self) -> Any:
        return self.pipeline.vae

    @property
    def scheduler(self) -> Any:
        return self.pipeline.scheduler

    @property
    def transformers(self) -> list[Any]:
        """Both experts, or the one transformer."""
        return [each for each in (self.transformer, self.transformer_2) if each is not None]

    @property
    def audio_vae(self) -> Any:
        """The codec of the sound's latents, or None for a silent model."""
        return getattr(self.pipeline, "audio_vae", None)

    @property
    def vocoder(self) -> Any:
        """What makes samples of the decoded spectrogram, or None for a silent model."""
        return getattr(self.pipeline, "vocoder", None)

    @property
    def spatial_scale(self) -> int:
        """Pixels per latent cell, along one side. Wan's codec and HunyuanVideo's name it differently."""
        config = self.vae.config
        return int(config["scale_factor_spatial" if "scale_factor_spatial" in config else "spatial_compression_ratio"])

    @property
    def temporal_scale(self) -> int:
        """Frames per latent frame, after the first."""
        config = self.vae.config
        name = "scale_factor_temporal" if "scale_factor_temporal" in config else "temporal_compression_ratio"
        return int(config[name])

    @property
    def latent_channels(self) -> int:
        """Channels of the picture's latents."""
        config = self.vae.config
        return int(config["z_dim" if "z_dim" in config else "latent_channels"])

    @property
    def patch(self) -> tuple[int, int, int]:
        time, high, wide = self.transformer.config.patch_size
        return time, high, wide

    @contextmanager
    def on_device(self, name: str) -> Iterator[Any]:
        """Yield a part on its device. With offload it is moved there now, and the other large parts are moved back."""
        part = getattr(self.pipeline, name)
        if self.offload and part is not None:
            for other in OFFLOADED:
                if other != name and getattr(self.pipeline, other, None) is not None:
                    getattr(self.pipeline, other).to("cpu")
            part.to(self.device)
        yield part


def set_cpu_threads(device: torch.device) -> int:
    """Set torch's number of threads and return it: on a CPU one core is left to ffmpeg and the service.

    Threads that share a core wait for one another at every operation: on a busy two-core machine a small decoder was
    measured five times slower with two threads than with one. Small models gain nothing beyond four.
    """
    if device.type == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, min(CPU_THREADS_MAX, cores - 1)))
    return torch.get_num_threads()


def find_weights(model: VideoModel, repository: Path = REPOSITORY) -> str:
    """Return the folder of a model's weights where there is one (as given, or in the repository), else the hub id."""
    for folder in (Path(model.weights), repository / model.weights):
        if (folder / "model_index.json").is_file():
            return str(folder)
    return model.weights


def load_parts(model: VideoModel, device: torch.device, loaded: Mapping[str, Any] | None = None) -> Parts:
    """Load every part through diffusers' `from_pretrained`, in the catalogue's dtypes, onto the device.

    `loaded` holds parts, by name, that the family has loaded itself. `boundary_ratio` and `expand_timesteps` are the
    weights' own unless the catalogue states them.
    Raises OSError where the folder or hub id has no such model.
    """
    switches = model.switches
    working = getattr(torch, switches.transformer_dtype)
    dtypes = {"default": working, "vae": getattr(torch, switches.vae_dtype)}
    dtypes |= dict.fromkeys(IN_FLOAT32[model.family], torch.float32)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    pipeline = DiffusionPipeline.from_pretrained(
        find_weights(model), dtype=dtypes, revision=model.revision or None, use_safetensors=True, **(loaded or {})
    )
    if switches.lora:
        pipeline.load_lora_weights(switches.lora, weight_name=switches.lora_file or None)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    offload = switches.offload == "model" and device.type == "cuda"
    for name in OFFLOADED:
        part = getattr(pipeline, name, None)
        if part is not None:
            part.eval().requires_grad_(False)
            part.to("cpu" if offload else device)
    for name in RESIDENT:
        part = getattr(pipeline, name, None)
        if part is not None:
            part.eval().requires_grad_(False).to(device)
    config = pipeline.config
    upscaler = None
    if model.upscaler is not None:
        path = Path(find_weights(model)) / UPSCALER_FILE
        upscaler = load_upscaler(path, device, scale=model.upscaler.scale, pace=model.upscaler.pace)
    return Parts(
        pipeline=pipeline,
        device=device,
        boundary_ratio=model.boundary_ratio or config.get("boundary_ratio"),
        expand_timesteps=model.expand_timesteps or bool(config.get("expand_timesteps")),
        offload=offload,
        upscaler=upscaler,
    )


def clone_scheduler(parts: Parts, flow_shift: float | None) -> Any:
    """Return a scheduler of its own for one render: schedulers keep state, and two renders must never share one."""
    template = parts.scheduler
    changes: dict[str, float] = {}
    if flow_shift is not None:
        changes["flow_shift" if "flow_shift" in template.config else "shift"] = flow_shift
    return type(template).from_config(template.config, **changes)


def first_device() -> str:
    """Return the first CUDA device, or the CPU where there is none."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def device_bytes(device: torch.device) -> int:
    """Return the memory of a device in bytes: the whole GPU's, or for a CPU all that this process may use."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return host_bytes()


def check_memory(model: VideoModel, device: torch.device, width: int, height: int, frames: int) -> None:
    """Raise DoesNotFit if the predicted peak of a render is above the device's memory."""
    problem = why_too_large(model, width, height, frames, device_bytes(device))
    if problem is not None:
        raise DoesNotFit(problem)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out, on CUDA or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in OUT_OF_MEMORY_MESSAGES)
