"""Decode latents to pictures one latent frame at a time: memory does not grow with the length of the clip."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

from workers.engine.continuation import Floats
from workers.engine.errors import BadFrames
from workers.engine.request import Frames

RING_SLOTS = 2

SEAM_FRAMES = 8
"""Frames after a seam over which its correction fades: half a second to one second of film."""


def latent_statistics(vae: Any, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the inverse standard deviation of the VAE's latent channels, [1, C, 1, 1, 1] each."""
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(like.device, like.dtype)
    inverse = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(like.device, like.dtype)
    return mean, inverse


@torch.no_grad()
def encode_video(vae: Any, video: torch.Tensor) -> torch.Tensor:
    """Return the normalised latents of a video, float32 [1, C, f, h, w]; video [1, 3, F, H, W] in -1..1.

    The mode of the posterior is taken (no sampling), as diffusers' Wan pipelines do.
    """
    try:
        posterior = vae.encode(video.to(vae.device, vae.dtype)).latent_dist
        latents = posterior.mode().to(torch.float32)
    finally:
        vae.clear_cache()
    mean, inverse = latent_statistics(vae, latents)
    return (latents - mean) * inverse


@torch.no_grad()
def decode_floats(vae: Any, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the decoded video piece by piece: [1, 3, f, H, W] in -1..1, f = 1 for the first latent frame, then 4.

    The same operations in the same order as `vae.decode` on the whole clip (which concatenates these pieces), so the
    result is equal to the bit; only the VAE's causal feature caches are carried from piece to piece.
    `latents` are normalised, [1, C, f, h, w].
    """
    latents = latents.to(vae.device, vae.dtype)
    mean, inverse = latent_statistics(vae, latents)
    vae.clear_cache()
    try:
        hidden = vae.post_quant_conv(latents / inverse + mean)
        for index in range(hidden.shape[2]):
            vae._conv_idx = [0]
            piece = vae.decoder(
                hidden[:, :, index : index + 1],
                feat_cache=vae._feat_map,
                feat_idx=vae._conv_idx,
                first_chunk=index == 0,
            )
            if vae.config.patch_size is not None:
                piece = unpatchify(piece, patch_size=vae.config.patch_size)
            yield torch.clamp(piece, min=-1.0, max=1.0)
    finally:
        vae.clear_cache()


def to_unit(piece: torch.Tensor) -> torch.Tensor:
    """Return a decoded piece as pictures in 0..1, float32 [f, H, W, 3], with diffusers' own arithmetic."""
    return (piece[0] * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).float()


def smooth_seam(pictures: Iterator[torch.Tensor], context: Floats, lead: int) -> Iterator[torch.Tensor]:
    """Yield pieces of pictures [f, H, W, 3] in 0..1 whose seam with the frames before it shows no jump.

    The codec decodes the `lead` context frames again, and not quite equal. The difference of the last one to the
    delivered frame, `context[-1]`, is added to the frames after it, less with each, so that the step over the seam is
    one of the new clip's own steps. Without a lead nothing is changed.
    """
    position, missing = 0, None
    for piece in pictures:
        count = piece.shape[0]
        if position < lead <= position + count:
            missing = torch.from_numpy(context[-1]).to(piece) - piece[lead - 1 - position]
        if missing is not None:
            ages = torch.arange(position, position + count, device=piece.device) - (lead - 1)  # 1: the first new frame
            share = (1 - (ages - 1) / SEAM_FRAMES).clamp(0, 1) * (ages > 0)
            if share.any():
                piece = (piece + share.view(-1, 1, 1, 1) * missing).clamp(0, 1)
        position += count
        yield piece


def refuse_nan(pictures: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yield all pictures as they are. Raises BadFrames after the last where any of them holds NaN.

    The flags stay on the device until the end, so that the decoder waits for none of them.
    """
    is_broken: torch.Tensor | None = None
    for piece in pictures:
        flag = piece.isnan().any()
        is_broken = flag if is_broken is None else is_broken | flag
        yield piece
    if is_broken is not None and bool(is_broken):
        raise BadFrames("the model made pictures that hold NaN")


def to_bytes(pictures: torch.Tensor) -> torch.Tensor:
    """Round pictures in 0..1 to uint8, on their device, half to even as diffusers' PIL output does."""
    return (pictures * 255).round().to(torch.uint8)


def to_host(chunks: Iterator[torch.Tensor], device: torch.device) -> Iterator[Frames]:
    """Yield uint8 chunks as numpy arrays of the host's memory.

    On CUDA each chunk is copied by a side stream into a ring of pinned buffers while the next one is being decoded,
    so the decoder waits neither for the bus nor for the encoder.
    """
    if device.type != "cuda":
        for chunk in chunks:
            yield np.ascontiguousarray(chunk.numpy())
        return
    ring = _PinnedRing(device)
    for chunk in chunks:
        done = ring.push(chunk)
        if done is not None:
            yield done
    while (done := ring.pop()) is not None:
        yield done


class _PinnedRing:
    """Pinned host buffers through which chunks are copied, in order, on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._device = device
        self._in_flight: list[tuple[torch.Tensor, torch.Tensor, torch.cuda.Event]] = []
        self._free: list[torch.Tensor] = []

    def push(self, chunk: torch.Tensor) -> Frames | None:
        """Start to copy a device chunk; return the oldest copied one when the ring is full."""
        arrived = self.pop() if len(self._in_flight) >= RING_SLOTS else None
        buffer = next((each for each in self._free if each.numel() >= chunk.numel()), None)
        if buffer is None:
            buffer = torch.empty(chunk.numel(), dtype=torch.uint8, pin_memory=True)
        else:
            self._free = [each for each in self._free if each is not buffer]
        target = buffer[: chunk.numel()].view(chunk.shape)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            target.copy_(chunk, non_blocking=True)
            chunk.record_stream(self._stream)
            event = torch.cuda.Event()
            event.record(self._stream)
        self._in_flight.append((buffer, target, event))
        return arrived

    def pop(self) -> Frames | None:
        """Return the oldest chunk as an array of its own when it is copied, or None when no copy is under way."""
        if not self._in_flight:
            return None
        buffer, target, event = self._in_flight.pop(0)
        event.synchronize()
        frames = target.numpy().copy()
        self._free.append(buffer)
        return frames


class FrameSelection:
    """Which of the rendered frames are delivered, and which of those the next segment continues from.

    A model renders 4k + 1 frames and, in a chained segment, repeats its context frames. `lead` counts those; frames
    beyond `frames` are surplus. They are cut at the end, except where the last frame is prescribed: then single frames
    are left out in the middle, so that the first and the last stay. `context` counts the frames for the next segment.
    """

    def __init__(self, *, rendered: int, lead: int, frames: int, context: int, keep_last: bool) -> None:
        if keep_last:
            indices = np.linspace(lead, rendered - 1, frames).round().astype(int)
        else:
            indices = np.arange(lead, lead + frames)
        self.delivered = frozenset(int(index) for index in indices)
        self.context = frozenset(int(index) for index in indices[len(indices) - min(context, len(indices)) :])
        self._context_frames: list[torch.Tensor] = []

    def keep_context(self, pictures: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield all pictures in 0..1 as they come, keeping the floats of the context frames."""
        position = 0
        for piece in pictures:
            count = piece.shape[0]
            self._context_frames += [piece[index].clone() for index in range(count) if position + index in self.context]
            position += count
            yield piece

    def select(self, pictures: Iterator[torch.Tensor], check: Callable[[], None]) -> Iterator[torch.Tensor]:
        """Yield the delivered frames as uint8 chunks [f, H, W, 3] from pictures in 0..1, keeping the context floats."""
        position = 0
        for piece in self.keep_context(pictures):
            check()
            count = piece.shape[0]
            delivered = [index for index in range(count) if position + index in self.delivered]
            position += count
            if delivered:
                yield to_bytes(piece if len(delivered) == count else piece[delivered])

    def context_frames(self) -> np.ndarray[tuple[int, int, int, int], np.dtype[np.float32]]:
        """Return the frames that the next segment continues from, float32 [n, H, W, 3] in 0..1."""
        return torch.stack(self._context_frames).cpu().numpy()
