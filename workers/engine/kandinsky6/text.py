"""The text of Kandinsky 6: tokens of Qwen2.5-VL, and one vector of CLIP."""

from typing import Any, NamedTuple

import torch
from diffusers import Kandinsky6TI2VAPipeline
from transformers import AutoTokenizer, ProcessorMixin, Qwen2_5_VLProcessor

from workers.engine.load import Parts
from workers.engine.text import CachedEncoder, EmbeddingCache


class PromptEmbeds(NamedTuple):
    """A prompt as the transformer reads it: `tokens` [1, n, d], `pooled` [1, e], `mask` bool [1, n] or None."""

    tokens: torch.Tensor
    pooled: torch.Tensor
    mask: torch.Tensor | None


class PromptProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
    """Qwen2.5-VL's processor for text alone.

    The whole one needs torchvision for pictures, which no prompt has, and refuses texts that spell its picture tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        ProcessorMixin.__init__(self, tokenizer)

    def __call__(self, images: None = None, text: list[str] | None = None, videos: None = None, **options: Any) -> Any:
        """Tokenize texts; the options are the tokenizer's."""
        return self.tokenizer(text, **options)


def load_processor(weights: str, revision: str = "") -> PromptProcessor:
    """Return the text processor of a folder or hub id. Raises OSError where there is none."""
    tokenizer = AutoTokenizer.from_pretrained(weights, subfolder="tokenizer", revision=revision or "main")
    return PromptProcessor(tokenizer)


class Kandinsky6Text(CachedEncoder[PromptEmbeds]):
    """Both text encoders of one loaded model.

    diffusers pads a prompt to `length` tokens and masks the padding. With `trim` the padding is cut instead: no token
    ever attends to it, so that only the order of the sums differs, the transformer has a tenth of the text to read,
    and the attention backends that know no mask can be used.
    """

    def __init__(
        self, parts: Parts, model_key: str, length: int, cache: EmbeddingCache | None = None, *, trim: bool = True
    ) -> None:
        super().__init__(parts, f"{model_key} {'trimmed' if trim else 'padded'}", length, cache)
        self._trim = trim

    @torch.no_grad()
    def _compute(self, cleaned: str) -> PromptEmbeds:
        """Encode with the pipeline's own arithmetic; the prompt is not cleaned, as there."""
        pipeline = self.parts.pipeline
        with self.parts.on_device("text_encoder") as encoder:
            tokens, pooled, mask = Kandinsky6TI2VAPipeline._get_prompt_embeds(
                [cleaned],
                pipeline.tokenizer,
                encoder,
                pipeline.tokenizer_2,
                pipeline.text_encoder_2,
                self.length,
                self.parts.device,
            )
        if self._trim and mask is not None:
            count = int(mask.sum())
            if bool(mask[0, :count].all()):
                tokens, mask = tokens[:, :count], None
        dtype = self.parts.transformer.dtype
        embeds = PromptEmbeds(tokens.to(dtype, copy=True), pooled.to(dtype), mask)
        if tokens.device.type == "cuda":
            torch.cuda.current_stream(tokens.device).synchronize()
        return embeds
