"""Train the codec on drawn clips: L1 + 2 MSE + a difference loss for edges + a little KL, Muon, cosine, EMA."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from torch.nn import functional

from workers.demo_model.codec import decode_unclamped, encode_moments, make_codec
from workers.demo_model.config import NATIVE_SIZES
from workers.demo_model.paint import paint
from workers.demo_model.scenes import draw_scene
from workers.demo_model.training_loop import Report, TrainingLoop, WorkerGroup

LEARNING_RATE = 1.5e-3
KL_WEIGHT = 1e-4
WARM_CLIPS = ((24, 1, 32), (12, 5, 32))
"""Batch, frames and side in pixels of the first 6 % and until 35 % of the course: small clips teach colours cheaply."""

CLIPS = ((10, 1, 64), (8, 5, 64), (4, 9, 64), (3, 17, 64))


def crops(batch: int, frames: int, side: int, rng: np.random.Generator) -> Tensor:
    """Square windows cut from native clips near an edge of something, [B, 3, F, side, side] in -1..1."""
    out = np.empty((batch, frames, side, side, 3), np.float32)
    sizes = list(NATIVE_SIZES.values())
    for row in range(batch):
        width, height = sizes[int(rng.integers(len(sizes)))]
        scene = draw_scene(rng, held_out=None, two=0.3)
        pixels, mask = paint(scene, width, height, frames, rng, start=float(rng.uniform(0, 4)), anywhere=True)
        if rng.random() < 0.85:  # Most windows look at an object: backgrounds are easy.
            ys, xs = np.nonzero(mask[frames // 2] > 0.5)
            pick = int(rng.integers(len(ys))) if len(ys) else 0
            y, x = (int(ys[pick]), int(xs[pick])) if len(ys) else (height // 2, width // 2)
        else:
            y, x = int(rng.integers(height)), int(rng.integers(width))
        top = min(max(y - int(rng.integers(side)), 0), height - side)
        left = min(max(x - int(rng.integers(side)), 0), width - side)
        out[row] = pixels[:, top : top + side, left : left + side]
    return torch.from_numpy(out).permute(0, 4, 1, 2, 3).contiguous() / 127.5 - 1.0


def reconstruction_loss(decoded: Tensor, video: Tensor, edges: float) -> Tensor:
    """L1 + 2 MSE + `edges` times the L1 of neighbouring pixels' differences."""
    loss = functional.l1_loss(decoded, video) + 2 * functional.mse_loss(decoded, video)
    if edges > 0:
        for dim in (3, 4):
            loss = loss + edges * functional.l1_loss(decoded.diff(dim=dim), video.diff(dim=dim))
    return loss


def psnr(decoded: Tensor, video: Tensor) -> float:
    """Peak signal-to-noise ratio of tensors in -1..1, in dB."""
    return float(-10 * torch.log10(functional.mse_loss(decoded.clamp(-1, 1), video) / 4))


@torch.no_grad()
def measure(codec: AutoencoderKLWan, seed: int = 7) -> dict[str, float]:
    """PSNR of whole 16:9 clips, of their first frames, and the worst first frame, in dB."""
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(6):
        pixels, _ = paint(draw_scene(rng, held_out=True), 112, 64, 17, rng)
        clips.append(torch.from_numpy(pixels.round()).permute(3, 0, 1, 2) / 127.5 - 1)
    video = torch.stack(clips).to(codec.device)
    decoded = decode_unclamped(codec, encode_moments(codec, video)[0])
    firsts = [psnr(decoded[row, :, 0], video[row, :, 0]) for row in range(len(video))]
    return {"psnr": psnr(decoded, video), "first": sum(firsts) / len(firsts), "worst_first": min(firsts)}


@torch.no_grad()
def store_statistics(codec: AutoencoderKLWan, seed: int = 11) -> None:
    """Measure mean and deviation of the latents and keep them in the codec's config, where pipelines look.

    One deviation serves all channels: whitening each would blow the codec's least useful channels up to full size.
    """
    rng = np.random.default_rng(seed)
    means = [encode_moments(codec, crops(4, 17, 64, rng).to(codec.device))[0] for _ in range(12)]
    latents = torch.cat(means).movedim(1, 0).flatten(1)
    means_of = latents.mean(1)
    deviation = float((latents - means_of[:, None]).std())
    codec.register_to_config(latents_mean=means_of.tolist(), latents_std=[deviation] * len(means_of))


def train_codec(
    folder: Path, minutes: float, seed: int, report: Report, team: WorkerGroup, *, decoder_only: bool = False
) -> AutoencoderKLWan:
    """Train the codec for `minutes` of each process's work, and return the averaged weights.

    It resumes from the checkpoint in `folder`; `minutes` is the length of the whole schedule, earlier runs included.
    `seed` decides weights and clips. `decoder_only` keeps the encoder (and so every cached latent) as it is, and learns
    to decode slightly wrong latents.
    """
    torch.manual_seed(seed)
    codec = make_codec().to(team.device)
    if decoder_only:
        codec.load_state_dict(averaged(folder / "codec.pt", "codec"))
        codec.encoder.requires_grad_(False)
        codec.quant_conv.requires_grad_(False)
    course = TrainingLoop(
        modules={"codec": codec},
        checkpoint=folder / ("decoder.pt" if decoder_only else "codec.pt"),
        minutes=minutes,
        learning_rate=LEARNING_RATE * (0.4 if decoder_only else 1.0),
        ema_decay=0.998,
        outer=[codec.encoder.conv_in.weight, codec.decoder.conv_out.weight],
        team=team,
    )

    def loss_of(done: float, step: int) -> Tensor:
        # All processes take clips of one shape, so that none waits for another, but each draws its own.
        shape = _shape(done, np.random.default_rng([seed, step]), decoder_only)
        rng = np.random.default_rng([seed, step, team.rank + 1, int(decoder_only)])
        return codec_loss(codec, crops(*shape, rng).to(team.device), done, decoder_only)

    course.run(loss_of, lambda: measure(codec), report)
    codec.eval()
    store_statistics(codec)
    if team.rank == 0:
        report(1.0, {"step": course.step, **measure(codec)})
    return codec


def averaged(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """The averaged weights of one module in a course's checkpoint."""
    shadow = torch.load(checkpoint, map_location="cpu", weights_only=True)["shadow"]
    return {key.removeprefix(f"{name}."): value for key, value in shadow.items() if key.startswith(f"{name}.")}


def _shape(done: float, rng: np.random.Generator, decoder_only: bool) -> tuple[int, int, int]:
    """Batch, frames and side of the next step's clips."""
    if done < 0.06 and not decoder_only:
        return WARM_CLIPS[0]
    if done < 0.35 and not decoder_only:
        return WARM_CLIPS[1]
    return CLIPS[int(rng.choice(len(CLIPS), p=(0.2, 0.35, 0.25, 0.2)))]


def codec_loss(codec: AutoencoderKLWan, video: Tensor, done: float, decoder_only: bool) -> Tensor:
    """The loss of one batch [B, 3, F, H, W]; bfloat16 where processors multiply it faster, weights stay float32."""
    with torch.autocast(video.device.type, torch.bfloat16):
        with torch.set_grad_enabled(not decoder_only):
            mean, log_variance = encode_moments(codec, video)
        mean, log_variance = mean.float(), log_variance.float()
        noise = torch.randn_like(mean)
        if decoder_only:  # What a transformer paints is a little wrong: the decoder shall not mind.
            spread = mean.std(dim=(0, 2, 3, 4), keepdim=True)
            latents = mean + noise * spread * 0.08 * torch.rand(mean.shape[0], 1, 1, 1, 1, device=mean.device)
        else:
            latents = mean + noise * (0.5 * log_variance).exp()
        decoded = decode_unclamped(codec, latents).float()
    loss = reconstruction_loss(decoded, video, 0.5 if done > 0.5 or decoder_only else 0.0)
    if not decoder_only:
        loss = loss + KL_WEIGHT * 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return loss
