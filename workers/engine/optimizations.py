"""The catalogue's switches, applied at load: the fastest exact attention, regional compilation, caches."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.hooks import FirstBlockCacheConfig

from app.catalog.models import VideoModel
from workers.engine.load import Parts
from workers.engine.quick_vae import speed_up_vae

# Exact backends of diffusers' attention dispatcher, fastest first on Hopper. Lossy ones (sage) are not tried, nor
# those that download and run code from a hub (`_flash_3_hub`): an operator may name them in the catalogue. The first
# one is there where FlashAttention-3 is installed, from source or by `pip install 'cinemeter[hopper]'`.
EXACT_BACKENDS = ("_flash_3", "_native_cudnn", "flash", "native")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kernels:
    """Which kernels a loaded model runs on: its attention backend, and the shapes that have compiled blocks."""

    attention: str
    compiled: frozenset[tuple[int, int, int]]  # width and height in pixels, rendered frames

    @contextmanager
    def for_shape(self, width: int, height: int, frames: int) -> Iterator[None]:
        """Run compiled blocks inside the block for a declared shape, and eager ones for every other.

        An undeclared shape would cost each such request a compilation of its own.
        """
        if not self.compiled or (width, height, frames) in self.compiled:
            yield
            return
        with self.eager():
            yield

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Run no compiled block inside the block."""
        if not self.compiled:
            yield
            return
        with torch.compiler.set_stance("force_eager"):
            yield


def apply_optimizations(
    model: VideoModel, parts: Parts, prove: Callable[[], object] | None = None, *, masked: bool = False
) -> Kernels:
    """Set a model's switches on its loaded parts; return the chosen kernels.

    `prove` runs the transformer on a tiny input, to see whether compiled blocks work; the default is Wan's. With
    `masked` the model attends with masks, which of the exact backends only the native one can.
    """
    switches = model.switches
    backend = switches.attention
    if backend == "auto":
        backend = "native" if masked else probe_attention(parts)
    for transformer in parts.transformers:
        if backend != "native":
            transformer.set_attention_backend(backend)
        if switches.first_block_cache > 0:
            transformer.enable_cache(FirstBlockCacheConfig(threshold=switches.first_block_cache))
    if switches.quick_vae:
        speed_up_vae(parts.vae, parts.device)
    compiled = declared_shapes(model) if switches.compile and parts.device.type == "cuda" else frozenset()
    if compiled and not compile_blocks(parts, len(compiled), prove or partial(run_one_block, parts)):
        compiled = frozenset()
    return Kernels(backend, compiled)


def declared_shapes(model: VideoModel) -> frozenset[tuple[int, int, int]]:
    """Return the shapes worth compiling for: every native size at the model's full length."""
    sizes = {size for ratios in model.native.values() for size in ratios.values()}
    return frozenset((width, height, model.frames_max) for width, height in sizes)


def compile_blocks(parts: Parts, shapes: int, prove: Callable[[], object]) -> bool:
    """Compile the transformers' repeated blocks, one static kernel set per shape; return whether that works here.

    Regional compilation (diffusers' `compile_repeated_blocks`) compiles one block and uses it for all. `prove` tries
    the toolchain now, so that a missing compiler costs a log line and not the first customer's render.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * shapes + 4)
    try:
        for transformer in parts.transformers:
            transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
        prove()
    except Exception as reason:  # noqa: BLE001 (compilers fail in many types; each means: run eagerly)
        logger.warning("blocks cannot be compiled here and run eagerly: %s", reason)
        for transformer in parts.transformers:
            for block in transformer.modules():
                if type(block).__name__ in transformer._repeated_blocks:
                    block._compiled_call_impl = None
        return False
    return True


@torch.no_grad()
def run_one_block(parts: Parts) -> None:
    """Run the first block of the transformer on four tokens, on its device."""
    with parts.on_device("transformer") as transformer:
        config, device, dtype = transformer.config, parts.device, transformer.dtype
        dim = config.num_attention_heads * config.attention_head_dim
        hidden = torch.zeros(1, 4, dim, device=device, dtype=dtype)
        latents = torch.zeros(1, config.in_channels, 1, 2 * parts.patch[1], 2 * parts.patch[2], device=device)
        modulation = torch.zeros(1, 6, dim, device=device, dtype=dtype)
        transformer.blocks[0](hidden, hidden, modulation, transformer.rope(latents))


def reset_caches(parts: Parts) -> None:
    """Empty the step caches, so that no render uses residuals of another one."""
    for transformer in parts.transformers:
        if transformer.is_cache_enabled:
            transformer._reset_stateful_cache()


def probe_attention(parts: Parts) -> str:
    """Return the first exact attention backend that works here on the transformer's own head size and dtype.

    Availability is not enough: a backend may be importable and yet lack a kernel for this GPU, so each candidate
    attends once and is compared with the native one. On a CPU only the native one is exact and fast.
    """
    if parts.device.type != "cuda":
        return "native"
    enable_flash_3()
    for backend in EXACT_BACKENDS[:-1]:
        if _works(backend, head_dim(parts.transformer.config), parts):
            return backend
    return "native"


def head_dim(config: Any) -> int:
    """Return the width of one attention head. Kandinsky states the widths that its axes have in one."""
    return int(config["attention_head_dim"]) if "attention_head_dim" in config else sum(config["axes_dims"])


def enable_flash_3() -> bool:
    """Let diffusers' `_flash_3` use the wheel `fa3-fwd`, FlashAttention-3 without its backward pass, if it is here.

    diffusers looks for a build from source (`flash_attn_interface`) alone. The wheel has the same functions.
    """
    from diffusers.models import attention_dispatch

    if not attention_dispatch._CAN_USE_FLASH_ATTN_3:
        try:
            from fa3_fwd_interface import flash_attn_func
        except (ImportError, OSError, RuntimeError) as reason:  # not installed, or built for another CUDA
            logger.debug("FlashAttention-3 is not usable here: %s", reason)
            return False
        attention_dispatch.flash_attn_3_func = flash_attn_func
        attention_dispatch._CAN_USE_FLASH_ATTN_3 = True
    return True


def _works(backend: str, head_dim: int, parts: Parts) -> bool:
    """Whether a backend attends like the native one, up to the rounding of the dtype."""
    from diffusers.models.attention_dispatch import (
        AttentionBackendName,
        _check_attention_backend_requirements,
        _maybe_download_kernel_for_backend,
        dispatch_attention_fn,
    )

    generator = torch.Generator("cpu").manual_seed(0)
    sample = torch.randn(3, 1, 128, 2, head_dim, generator=generator)  # q, k, v of [batch, tokens, heads, head_dim]
    query, key, value = sample.to(parts.device, parts.transformer.dtype)
    try:
        name = AttentionBackendName(backend)
        _check_attention_backend_requirements(name)
        _maybe_download_kernel_for_backend(name)
        attended: Any = dispatch_attention_fn(query, key, value, backend=name)
        native: Any = dispatch_attention_fn(query, key, value, backend=AttentionBackendName.NATIVE)
        return bool(torch.allclose(attended.float(), native.float(), atol=2e-2, rtol=2e-2))
    except Exception as reason:  # noqa: BLE001 (each backend is missing in its own way, and none is an error)
        logger.info("attention backend %s is not usable here: %s", backend, reason)
        return False
