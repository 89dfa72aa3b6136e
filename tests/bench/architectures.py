"""The true Wan architectures from their published configurations, with random weights: nothing is downloaded."""

from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

# From the config.json files of Wan-AI/Wan2.1-T2V-1.3B-Diffusers and Wan-AI/Wan2.2-TI2V-5B-Diffusers.
COMMON = {
    "patch_size": (1, 2, 2),
    "attention_head_dim": 128,
    "text_dim": 4096,
    "freq_dim": 256,
    "num_layers": 30,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 1024,
}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "wan2.1-t2v-1.3b": {"num_attention_heads": 12, "ffn_dim": 8960, "in_channels": 16, "out_channels": 16},
    "wan2.2-ti2v-5b": {"num_attention_heads": 24, "ffn_dim": 14336, "in_channels": 48, "out_channels": 48},
}
CODECS: dict[str, dict[str, Any]] = {
    "wan2.1-t2v-1.3b": {},
    "wan2.2-ti2v-5b": {
        "base_dim": 160,
        "decoder_base_dim": 256,
        "z_dim": 48,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "temperal_downsample": [False, True, True],
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
        "scale_factor_spatial": 16,
        "scale_factor_temporal": 4,
        "latents_mean": [0.0] * 48,
        "latents_std": [1.0] * 48,
    },
}
# google/umt5-xxl.
TEXT = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
# Small stand-ins with the same switches, for the dry run on a CPU.
SMALL_TRANSFORMER = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "num_layers": 2, "text_dim": 32}
SMALL_CODEC: dict[str, dict[str, Any]] = {
    "wan2.1-t2v-1.3b": {"base_dim": 3, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1},
    "wan2.2-ti2v-5b": {"base_dim": 8, "decoder_base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1},
}
SMALL_TEXT = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}
FLOW_SHIFT = {480: 3.0, 704: 5.0, 720: 5.0}


def random_pipeline(model_id: str, device: torch.device, *, height: int, small: bool = False) -> WanPipeline:
    """Return a pipeline of a model's architecture with random weights, in the dtypes that `from_pretrained` gives.

    On CUDA: bfloat16, the VAE in float32. `small` takes the stand-ins, in float32, as a CPU does.
    """
    torch.manual_seed(0)
    with torch.device(device):
        transformer = WanTransformer3DModel(
            **{**COMMON, **TRANSFORMERS[model_id], **(SMALL_TRANSFORMER if small else {})}
        )
        codec = AutoencoderKLWan(**{**CODECS[model_id], **(SMALL_CODEC[model_id] if small else {})})
        text = UMT5EncoderModel(UMT5Config(**(SMALL_TEXT if small else TEXT)))
    if device.type == "cuda":
        _halve(transformer)
        text.to(torch.bfloat16)
    pipeline = WanPipeline(
        tokenizer=_tokenizer(),
        text_encoder=text.eval(),
        vae=codec.eval(),
        transformer=transformer.eval(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT.get(height, 3.0)
        ),
        expand_timesteps=model_id == "wan2.2-ti2v-5b",
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _halve(transformer: WanTransformer3DModel) -> None:
    """Put a transformer into bfloat16, except the modules that diffusers keeps in float32."""
    kept = set(transformer._keep_in_fp32_modules)
    for name, tensor in [*transformer.named_parameters(), *transformer.named_buffers()]:
        if tensor.is_floating_point() and not kept & set(name.split(".")):
            tensor.data = tensor.data.to(torch.bfloat16)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of a few words; how a text is cut does not change what its encoding costs."""
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
