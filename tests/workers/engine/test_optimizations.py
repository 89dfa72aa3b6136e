"""Switches: a few-step LoRA is merged at load, attention is probed, blocks are compiled for declared shapes only."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from diffusers.models import attention_dispatch
from safetensors.torch import save_file

from tests.workers.engine.conftest import TinyWan
from tests.workers.engine.segment_requests import film, request
from tests.workers.engine.tiny_wan import tiny_model
from workers.engine.load import load_parts
from workers.engine.optimizations import (
    Kernels,
    compile_blocks,
    declared_shapes,
    enable_flash_3,
    probe_attention,
    run_one_block,
)
from workers.engine.wan import WanEngine

CPU = torch.device("cpu")


def test_a_lora_is_merged_into_the_weights(tiny_wan: TinyWan, tmp_path: Path) -> None:
    folder = tiny_wan("t2v")
    plain = WanPipeline.from_pretrained(folder).transformer.blocks[0].attn1.to_q.weight
    generator = torch.Generator().manual_seed(0)
    down = torch.randn(4, plain.shape[1], generator=generator)
    up = torch.randn(plain.shape[0], 4, generator=generator)
    name = "transformer.blocks.0.attn1.to_q.lora_{}.weight"
    save_file({name.format("A"): down, name.format("B"): up}, tmp_path / "few.safetensors")
    switches = f'lora = "{tmp_path}"\nlora_file = "few.safetensors"'
    parts = load_parts(tiny_model("t2v", folder, switches=switches), CPU)
    merged = parts.transformer.blocks[0].attn1.to_q
    assert type(merged) is torch.nn.Linear
    torch.testing.assert_close(merged.weight, plain + up @ down)


def test_a_cpu_attends_natively(tiny_wan: TinyWan) -> None:
    assert probe_attention(load_parts(tiny_model("t2v", tiny_wan("t2v")), CPU)) == "native"


def test_flash_attention_3_of_the_wheel_is_offered_to_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = attention_dispatch._check_attention_backend_requirements
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_FLASH_ATTN_3", False)
    monkeypatch.setattr(attention_dispatch, "flash_attn_3_func", None)
    monkeypatch.setitem(sys.modules, "fa3_fwd_interface", None)
    assert not enable_flash_3()
    with pytest.raises(RuntimeError, match="not usable"):
        requirements(attention_dispatch.AttentionBackendName._FLASH_3)
    wheel = ModuleType("fa3_fwd_interface")
    wheel.flash_attn_func = lambda **_: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fa3_fwd_interface", wheel)
    assert enable_flash_3()
    requirements(attention_dispatch.AttentionBackendName._FLASH_3)
    assert attention_dispatch.flash_attn_3_func is wheel.flash_attn_func


def test_declared_shapes_are_the_native_sizes_at_full_length(tiny_wan: TinyWan) -> None:
    assert declared_shapes(tiny_model("t2v", tiny_wan("t2v"))) == {(64, 32, 17)}


def test_the_attention_can_be_named(tiny_wan: TinyWan) -> None:
    engine = WanEngine(tiny_model("t2v", tiny_wan("t2v"), switches='attention = "_native_math"'), "cpu")
    plain = WanEngine(tiny_model("t2v", tiny_wan("t2v")), "cpu")
    difference = np.abs(film(engine, request()).astype(int) - film(plain, request()).astype(int))
    assert engine.kernels.attention == "_native_math"
    assert difference.max() <= 1


def test_the_trial_of_a_block_is_made_where_the_offloaded_weights_work(tiny_wan: TinyWan) -> None:
    """The device `meta` computes nothing, and like a GPU it refuses what lies in the host's memory."""
    parts = load_parts(tiny_model("ti2v", tiny_wan("ti2v")), CPU)
    away = replace(parts, device=torch.device("meta"), offload=True)
    run_one_block(away)
    assert parts.transformer.device.type == "meta"


@pytest.mark.deep
@pytest.mark.parametrize("backend", ["native", "_native_math"])
def test_compiled_blocks_compute_the_same_and_odd_shapes_run_eagerly(tiny_wan: TinyWan, backend: str) -> None:
    parts = load_parts(tiny_model("ti2v", tiny_wan("ti2v")), CPU)
    parts.transformer.set_attention_backend(backend)
    inputs = {"timestep": torch.tensor([500.0]), "encoder_hidden_states": torch.randn(1, 12, 32), "return_dict": False}
    hidden = torch.randn(1, 16, 3, 4, 8)
    with torch.no_grad():
        eager = parts.transformer(hidden, **inputs)[0]
        assert compile_blocks(parts, 3, lambda: run_one_block(parts))
        kernels = Kernels("native", frozenset({(64, 32, 9)}))
        with kernels.for_shape(64, 32, 9):
            torch.testing.assert_close(parts.transformer(hidden, **inputs)[0], eager, atol=1e-5, rtol=1e-5)
        with kernels.for_shape(64, 32, 5):
            assert torch.equal(parts.transformer(hidden, **inputs)[0], eager)
