"""Text embeddings: an encoder behind a least-recently-used cache that is bounded by bytes."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Generic, TypeVar

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean

from workers.engine.load import Parts

Key = tuple[str, str, int]
Embedding = TypeVar("Embedding")
CACHE_BYTES = 256 * 1024 * 1024


class EmbeddingCache:
    """Text embeddings by (model, text, length), evicting the least recently used when `bytes_max` is reached."""

    def __init__(self, bytes_max: int = CACHE_BYTES) -> None:
        self.bytes_max = bytes_max
        self.bytes_held = 0
        self._entries: OrderedDict[Key, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> Any:
        """Return the embedding and make it the most recently used, or None."""
        with self._lock:
            embedding = self._entries.get(key)
            if embedding is not None:
                self._entries.move_to_end(key)
            return embedding

    def put(self, key: Key, embedding: Any) -> None:
        """Store an embedding (a tensor, or a tuple of tensors and Nones), unless it is larger than the whole cache."""
        size = _bytes_of(embedding)
        with self._lock:
            if size > self.bytes_max or key in self._entries:
                return
            self._entries[key] = embedding
            self.bytes_held += size
            while self.bytes_held > self.bytes_max:
                _, oldest = self._entries.popitem(last=False)
                self.bytes_held -= _bytes_of(oldest)

    def __len__(self) -> int:
        return len(self._entries)


def _bytes_of(embedding: Any) -> int:
    """Return the bytes of an embedding's tensors."""
    tensors = embedding if isinstance(embedding, tuple) else (embedding,)
    return sum(each.numel() * each.element_size() for each in tensors if each is not None)


class CachedEncoder(ABC, Generic[Embedding]):
    """The text encoders of one loaded model, with their cache and a prefetch thread; see `_compute`."""

    def __init__(self, parts: Parts, model_key: str, length: int, cache: EmbeddingCache | None = None) -> None:
        self.parts = parts
        self.model_key = model_key
        self.length = length
        self.cache = EmbeddingCache() if cache is None else cache
        # A fast tokenizer must not be used by two threads at once, and one encoding at a time is quickest anyway.
        self._lock = Lock()
        self._prefetch_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="text-prefetch")

    def encode(self, text: str) -> tuple[Embedding, bool]:
        """Return the embedding of a text, on the device in the transformer's dtype, and whether it was in the cache."""
        cleaned = self._clean(text)
        key = (self.model_key, cleaned, self.length)
        embedding: Embedding | None = self.cache.get(key)
        if embedding is not None:
            return embedding, True
        with self._lock:
            embedding = self.cache.get(key)
            if embedding is not None:
                return embedding, True
            embedding = self._compute(cleaned)
            self.cache.put(key, embedding)
            return embedding, False

    def prefetch(self, texts: list[str]) -> None:
        """Start to encode texts into the cache on another thread; returns at once.

        With offload the encoder would push the working transformer off the device, so nothing is done then.
        """
        if not self.parts.offload:
            self._prefetch_thread.submit(self._prefetch, texts)

    def close(self) -> None:
        """Wait for the running encoding and end the thread."""
        self._prefetch_thread.shutdown(wait=True, cancel_futures=True)

    def _prefetch(self, texts: list[str]) -> None:
        """Encode on this thread; on CUDA on a low-priority stream, so that the running denoise step goes first."""
        if self.parts.device.type != "cuda":
            for text in texts:
                self.encode(text)
            return
        stream = torch.cuda.Stream(self.parts.device, priority=0)
        with torch.cuda.stream(stream):
            for text in texts:
                self.encode(text)
        stream.synchronize()

    def _clean(self, text: str) -> str:
        """Return a text as the encoders get it."""
        return text

    @abstractmethod
    def _compute(self, cleaned: str) -> Embedding:
        """Encode a cleaned text."""


class TextStage(CachedEncoder[torch.Tensor]):
    """The text encoder of a Wan model; embeddings are [1, length, text_dim]."""

    def _clean(self, text: str) -> str:
        return str(prompt_clean(text))

    @torch.no_grad()
    def _compute(self, cleaned: str) -> torch.Tensor:
        """Run tokenizer and encoder exactly as diffusers' WanPipeline does: padded, masked, then zeros after the end.

        The tokens beyond the text are zeros, not the encoder's output for padding: Wan was trained that way.
        """
        inputs = self.parts.tokenizer(
            [cleaned],
            padding="max_length",
            max_length=self.length,
            truncation=True,
            add_special_tokens=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask = inputs.attention_mask
        count = int(mask.gt(0).sum())
        with self.parts.on_device("text_encoder") as encoder:
            device = encoder.device
            hidden = encoder(inputs.input_ids.to(device), mask.to(device)).last_hidden_state  # [1, length, text_dim]
            hidden = hidden.to(encoder.dtype)[:, :count]
        padded = torch.cat([hidden, hidden.new_zeros(1, self.length - count, hidden.shape[-1])], dim=1)
        embedding = padded.to(self.parts.device, self.parts.transformer.dtype)
        if embedding.device.type == "cuda":
            torch.cuda.current_stream(embedding.device).synchronize()
        return embedding
