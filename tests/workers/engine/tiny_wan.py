"""Tiny Wan folders with random weights, one per family: the true classes and layouts, a few kilobytes, no download."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from app.catalog.models import VideoModel, parse_model

WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "circle", "square", "moves", "left", "right", "on", "grey"]
FAMILIES = ("t2v", "i2v", "flf2v", "ti2v", "t2v-a14b", "i2v-a14b")
TEXT_LENGTH = 12

CATALOGUE = """
id = "tiny-{family}{suffix}"
name = "Tiny {family}"
family = "wan"
weights = "{folder}"
pool = "demo"
enabled = true
licence = "Apache-2.0"
fps = 8
frames_max = 17
shot_seconds_max = {seconds}
film_seconds_max = 60
steps = 3
guidance = 3.0
text_length = 12
{facts}
[native."480P"]
"16:9" = [64, 32]
[architecture]
dim = 24
ffn_dim = 32
layers = 2
transformer_params = 20000
text_params = 10000
text_dim = 32
vae_params = 100000
vae_base_dim = 8
latent_channels = 16
spatial_scale = 8
weight_bytes = 4
[switches]
transformer_dtype = "float32"
checkpoint_seconds = 0.0
{switches}
"""

FACTS = {
    "t2v": ('modes = ["t2v", "v2v", "edit"]', 2),
    "i2v": ('modes = ["i2v", "extend"]\nhandover = "frames"', 20),
    "flf2v": ('modes = ["i2v"]\nlast_frame = "required"', 2),
    "ti2v": (
        'modes = ["t2v", "i2v", "v2v", "edit", "extend"]\nlast_frame = "optional"\n'
        'handover = "frames"\nhandover_frames = 5',
        20,
    ),
    "t2v-a14b": ('modes = ["t2v"]\nguidance_2 = 2.0', 2),
    "i2v-a14b": ('modes = ["i2v", "extend"]\nhandover = "frames"\nlast_frame = "optional"', 20),
}


def tiny_model(family: str, folder: Path, facts: str = "", switches: str = "") -> VideoModel:
    """Return the catalogue entry of a tiny folder; `facts` and `switches` are further TOML lines."""
    own, seconds = FACTS[family]
    words = {"family": family, "folder": folder, "seconds": seconds, "facts": f"{own}\n{facts}", "switches": switches}
    text = CATALOGUE.format(**words, suffix="-turbo" if {"first_block_cache", "lora"} & set(switches.split()) else "")
    return parse_model(text, f"tiny-{family}")


def build_tiny_wan(family: str, folder: Path, *, unipc: bool = True) -> Path:
    """Save a pipeline of a family with seeded random weights into `folder` and return it."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "tokenizer": _tokenizer(),
        "text_encoder": _text_encoder(),
        "vae": _vae(family),
        "transformer": _transformer(family),
        "scheduler": _scheduler(unipc),
    }
    if family == "ti2v":
        WanPipeline(**parts, expand_timesteps=True).save_pretrained(folder)
    elif family == "t2v":
        WanPipeline(**parts).save_pretrained(folder)
    elif family == "t2v-a14b":
        WanPipeline(**parts, transformer_2=_transformer(family), boundary_ratio=0.875).save_pretrained(folder)
    elif family == "i2v-a14b":
        WanImageToVideoPipeline(**parts, transformer_2=_transformer(family), boundary_ratio=0.9).save_pretrained(folder)
    else:
        WanImageToVideoPipeline(**parts, **_image_encoder()).save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def _text_encoder() -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=len(WORDS), d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=1
    )
    return UMT5EncoderModel(config).eval()


def _vae(family: str) -> AutoencoderKLWan:
    if family == "ti2v":
        return AutoencoderKLWan(
            base_dim=8,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            z_dim=16,
            temperal_downsample=[True, True],
            is_residual=True,
            patch_size=2,
            in_channels=12,
            out_channels=12,
            scale_factor_spatial=8,
            scale_factor_temporal=4,
        ).eval()
    return AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    ).eval()


def _transformer(family: str) -> WanTransformer3DModel:
    clip = {"image_dim": 4, "added_kv_proj_dim": 24} if family in ("i2v", "flf2v") else {}
    if family == "flf2v":
        clip["pos_embed_seq_len"] = 17 * 2
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=36 if family in ("i2v", "flf2v", "i2v-a14b") else 16,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        **clip,
    ).eval()


def _scheduler(unipc: bool) -> Any:
    if unipc:
        return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def _image_encoder() -> dict[str, Any]:
    config = CLIPVisionConfig(
        hidden_size=4, projection_dim=4, num_hidden_layers=2, num_attention_heads=2, image_size=32,
        intermediate_size=16, patch_size=8,
    )  # fmt: skip
    processor = CLIPImageProcessor(crop_size={"height": 32, "width": 32}, size={"shortest_edge": 32})
    return {"image_encoder": CLIPVisionModel(config).eval(), "image_processor": processor}
