"""The demo model's parts as real classes: tokenizer, UMT5 encoder, Wan transformer, scheduler; and their weights."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from app.catalog.demo_words import vocabulary
from workers.demo_model.codec import LATENT_CHANNELS
from workers.demo_model.config import MAX_SEQUENCE_LENGTH, SHIFT

WEIGHTS = Path(__file__).parent / "weights"
"""The committed weights: a folder in the layout of a diffusers WanPipeline."""

TEXT_WIDTH = 64
SPECIAL_WORDS = ("<pad>", "</s>", "<unk>")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words: those of the captions, a pad, an end and an unknown token, numbered like T5's."""
    table = {word: index for index, word in enumerate((*SPECIAL_WORDS, *vocabulary()))}
    words = Tokenizer(WordLevel(table, unk_token="<unk>"))
    words.normalizer = Lowercase()
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", table["</s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_SEQUENCE_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def make_text_encoder(words: int) -> UMT5EncoderModel:
    """An untrained UMT5 encoder: width 64, two layers."""
    config = UMT5Config(
        vocab_size=words,
        d_model=TEXT_WIDTH,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        is_encoder_decoder=False,
    )
    return UMT5EncoderModel(config)


def make_transformer() -> WanTransformer3DModel:
    """An untrained Wan transformer of 1.23 M parameters: 4 layers, 4 heads of 32; it starts by predicting zero."""
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=64,
        ffn_dim=512,
        num_layers=4,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )
    torch.nn.init.zeros_(transformer.proj_out.weight)
    torch.nn.init.zeros_(transformer.proj_out.bias)
    return transformer


def make_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Euler steps of flow matching with a fixed shift."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT)


def token_ids(tokenizer: PreTrainedTokenizerFast, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Token numbers and their mask, each [B, 24]."""
    batch = tokenizer(
        captions, padding="max_length", max_length=MAX_SEQUENCE_LENGTH, truncation=True, return_tensors="pt"
    )
    return batch.input_ids, batch.attention_mask


def embed(encoder: UMT5EncoderModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Text embeddings as WanPipeline makes them, padded with zeros, [B, 24, 64]."""
    return encoder(ids, mask).last_hidden_state * mask[..., None]


def _facts(config: Mapping[str, object]) -> dict[str, object]:
    """A model's config without the folder it was read from, which is nobody's business."""
    return {name: value for name, value in config.items() if name != "_name_or_path"}


def save(
    folder: Path,
    codec: AutoencoderKLWan,
    encoder: UMT5EncoderModel,
    transformer: WanTransformer3DModel,
    recipe: dict[str, object],
) -> None:
    """Write the parts in half precision as a folder for `WanPipeline.from_pretrained`, with the recipe beside them."""
    pipeline = WanPipeline(
        tokenizer=make_tokenizer(),
        text_encoder=UMT5EncoderModel(encoder.config),
        vae=AutoencoderKLWan.from_config(_facts(codec.config)),
        transformer=WanTransformer3DModel.from_config(_facts(transformer.config)),
        scheduler=make_scheduler(),
        expand_timesteps=True,
    )
    pipeline.text_encoder.load_state_dict(encoder.state_dict())
    pipeline.vae.load_state_dict(codec.state_dict())
    pipeline.transformer.load_state_dict(transformer.state_dict())
    for part in (pipeline.text_encoder, pipeline.vae, pipeline.transformer):
        part.to(torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=2, sort_keys=True) + "\n")


def load(folder: Path = WEIGHTS, device: str = "cpu") -> WanPipeline:
    """Load the pipeline in float32, which is as fast as half precision on a CPU and exact enough for every check."""
    return WanPipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True).to(device)
