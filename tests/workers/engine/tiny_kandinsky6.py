"""Tiny Kandinsky 6 folders with random weights: the true classes and layouts, a few hundred kilobytes, no download."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    Kandinsky6TI2VAPipeline,
    Kandinsky6Transformer3DModel,
    MMAudioVAE,
    MMAudioVocoder,
    PiflowScheduler,
)
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
)

from app.catalog.models import VideoModel, parse_model
from workers.engine.kandinsky6.text import PromptProcessor

# The template before the prompt is cut after 129 tokens; here each byte is one, so that 528 of it stay.
TEXT_LENGTH = 600
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
GRID = 4
LATENTS, SOUND_LATENTS, RATE = 4, 3, 800

CATALOGUE = """
id = "tiny-kandinsky6-{kind}"
name = "Tiny Kandinsky 6 {kind}"
family = "kandinsky6"
weights = "{folder}"
pool = "demo"
enabled = true
licence = "MIT"
modes = ["t2v", "i2v", "extend"]
fps = 8
frames_max = 37
handover = "frames"
shot_seconds_max = 20
film_seconds_max = 60
steps = 3
guidance = {guidance}
text_length = 600
{facts}
[native."480P"]
"16:9" = [64, 32]
[architecture]
dim = 24
ffn_dim = 32
layers = 2
transformer_params = 20000
text_params = 10000
text_dim = 16
vae_params = 100000
vae_base_dim = 8
latent_channels = 4
spatial_scale = 8
weight_bytes = 4
[switches]
transformer_dtype = "float32"
checkpoint_seconds = 0.0
{switches}
"""


def tiny_kandinsky6(kind: str, folder: Path, facts: str = "", switches: str = "") -> VideoModel:
    """Return the catalogue entry of a tiny folder, `base` or `distilled`; the rest are further TOML lines."""
    guidance = 3.0 if kind == "base" else 1.0
    words = {"kind": kind, "folder": folder, "guidance": guidance, "facts": facts, "switches": switches}
    return parse_model(CATALOGUE.format(**words), f"tiny-kandinsky6-{kind}")


def build_tiny_kandinsky6(kind: str, folder: Path) -> Path:
    """Save a pipeline with seeded random weights into `folder` and return it."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "transformer": _transformer(GRID if kind == "distilled" else 1),
        "vae": _vae(),
        "text_encoder": _text_encoder(),
        "tokenizer": _processor(),
        "text_encoder_2": _clip(),
        "tokenizer_2": _clip_tokenizer(),
        "scheduler": PiflowScheduler(n_grid=GRID)
        if kind == "distilled"
        else FlowMatchEulerDiscreteScheduler(shift=5.0),
        "audio_vae": MMAudioVAE(
            mel_bins=8, latent_channels=SOUND_LATENTS, hidden_channels=8, channel_multipliers=(1, 2),
            layers_per_block=1, sample_rate=RATE, n_fft=32, hop_length=8,
        ).eval(),
        "vocoder": MMAudioVocoder(
            num_mels=8, upsample_initial_channel=8, upsample_rates=(4, 2), upsample_kernel_sizes=(8, 4),
            resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1, 3),),
        ).eval(),
    }  # fmt: skip
    Kandinsky6TI2VAPipeline(**parts).save_pretrained(folder)
    index = folder / "model_index.json"
    # As published folders have it; the whole processor needs torchvision.
    words = json.loads(index.read_text(encoding="utf-8")) | {"tokenizer": ["transformers", "Qwen2_5_VLProcessor"]}
    index.write_text(json.dumps(words), encoding="utf-8")
    return folder


def _transformer(grid: int) -> Kandinsky6Transformer3DModel:
    return Kandinsky6Transformer3DModel(
        in_visual_dim=LATENTS, out_visual_dim=LATENTS * grid, in_text_dim=16, in_text_dim2=12, time_dim=16,
        model_dim=24, ff_dim=32, num_text_blocks=1, num_visual_blocks=2, axes_dims=(4, 4, 4), visual_cond=True,
        in_audio_dim=SOUND_LATENTS, out_audio_dim=SOUND_LATENTS * grid, model_dim_a=12, time_dim_a=16, ff_dim_a=16,
        axes_dims_a=(4, 4, 4), text_token_padding=True, ca_rope=True, cross_gates=True, fix_modulation=True,
        visual_token_type_num_embeddings=2,
    ).eval()  # fmt: skip


def _vae() -> AutoencoderKLHunyuanVideo:
    return AutoencoderKLHunyuanVideo(
        latent_channels=LATENTS, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    ).eval()


def _text_encoder() -> Qwen2_5_VLForConditionalGeneration:
    text = {
        "vocab_size": 300, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "bos_token_id": 0, "eos_token_id": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [2, 1, 1]},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
        "patch_size": 14, "fullatt_block_indexes": [0],
    }  # fmt: skip
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def _processor() -> PromptProcessor:
    vocabulary = {character: index for index, character in enumerate(BYTES)}
    vocabulary["<|endoftext|>"] = len(vocabulary)
    return PromptProcessor(Qwen2Tokenizer(vocab=vocabulary, merges=[]))


def _clip() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=600, hidden_size=12, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=77, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return CLIPTextModel(config).eval()


def _clip_tokenizer() -> CLIPTokenizer:
    words = ["<|startoftext|>", "<|endoftext|>", *BYTES, *(f"{each}</w>" for each in BYTES)]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=77)
