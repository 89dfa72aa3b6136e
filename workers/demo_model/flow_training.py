"""Train transformer and text encoder by flow matching, in all modes at once.

A mode's inputs are clean latents in their place, and their tokens have timestep 0 (Wan 2.2's `expand_timesteps`).
Three auxiliary heads, thrown away afterwards, say where a token is, which shape it belongs to, and what its patch shows
of the objects: Wan knows positions only by rotary embedding, so that in pure noise a motion word has nothing to act on
without them, and a shape is a matter of few cells, so that its word is learnt last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline, WanTransformer3DModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import UMT5EncoderModel

from app.catalog.demo_words import SHAPES
from workers.demo_model.attention import use_plain_attention
from workers.demo_model.components import embed, make_text_encoder, make_tokenizer, make_transformer, token_ids
from workers.demo_model.latents import RATIOS, Library
from workers.demo_model.training_loop import Report, TrainingLoop, WorkerGroup

LEARNING_RATE = 2e-3
MODES = {"text": 0.60, "picture": 0.12, "follow": 0.18, "goal": 0.10}
"""Shares of batches: no input; the first latent frame; the first two or three; the first and the last."""

LENGTHS = {11: 0.5, 10: 0.06, 9: 0.14, 8: 0.06, 7: 0.1, 5: 0.09, 3: 0.05}
SHORT_LENGTHS = {11: 0.15, 9: 0.1, 7: 0.25, 5: 0.4, 3: 0.1}
SHORT_SHARE = 0.4
"""Latent frames of a batch: encoding is causal, so that a clip's beginning is a clip. The first 40 % of the course take
mostly short ones, which teach words and outlines for a third of the work."""

TOKENS = 1600
"""Tokens of one process's batch, about: five clips of full length. Small steps learn faster than few large ones."""

TEXT_DROPOUT = 0.1
OBJECT_WEIGHT, EDGE_WEIGHT = 2.0, 3.0
"""Additional weight of latent cells that an object touches, and of those that its outline crosses: shapes differ only
there."""

HEADS_FADE_FROM = 0.7
"""Share of the course after which the auxiliary heads' weight falls to zero."""

GIVEN_NOISE = 0.06
"""Inputs are decoded and encoded again in practice, so they are a little noisy in training, too."""


@dataclass(frozen=True)
class Batch:
    """Clips of one shape with their inputs.

    latents [B, 16, f, h, w], known [f] (True: this latent frame is clean input), conditions as latents where known,
    masks [B, f, 2, H/2, W/2], outlines [B, 2] (numbers in SHAPES of the first and the last object).
    """

    captions: list[str]
    outlines: Tensor
    latents: Tensor
    known: Tensor
    conditions: Tensor
    masks: Tensor

    def to(self, device: str) -> "Batch":
        """The batch on a device."""
        parts = (self.outlines, self.latents, self.known, self.conditions, self.masks)
        return Batch(self.captions, *(part.to(device) for part in parts))


class Heads(nn.Module):
    """The auxiliary heads: place and shape on the output of the second block, mask on that of the third."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.position = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 12 + 8 + 8))
        self.outline = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(SHAPES)))
        self.mask = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * 8 * 8))


def draw_batch(library: Library, shape_rng: np.random.Generator, rng: np.random.Generator, done: float) -> Batch:
    """Draw a batch at some point of the course; the first generator, which the team shares, chooses shape and mode."""
    mode = str(shape_rng.choice(list(MODES), p=list(MODES.values())))
    while True:
        ratio = str(shape_rng.choice(list(RATIOS), p=list(RATIOS.values())))
        kinds = {"text": ("fresh",), "picture": ("fresh", "window"), "follow": ("window", "fresh"), "goal": ("held",)}[
            mode
        ]
        names = library.names(kinds, ratio)
        if names:
            break
    lengths = SHORT_LENGTHS if done < SHORT_SHARE else LENGTHS
    length = int(shape_rng.choice(list(lengths), p=list(lengths.values())))
    if mode == "goal":
        length = library.shards[names[int(shape_rng.integers(len(names)))]].latents.shape[2]
        names = library.names(kinds, ratio, length)
    lead = {"text": 0, "picture": 1, "follow": int(shape_rng.choice((2, 3), p=(0.3, 0.7))), "goal": 1}[mode]
    length = max(length, lead + 2)
    tokens = library.shards[names[0]].latents[0, 0, 0].numel() // 4 * length
    rows = []
    for _ in range(max(4, min(24, TOKENS // tokens))):
        shard = library.shards[names[int(rng.integers(len(names)))]]
        rows.append((shard, int(rng.integers(len(shard.captions)))))
    latents = torch.stack([shard.latents[row, :, :length] for shard, row in rows]).float()
    known = torch.zeros(length, dtype=torch.bool)
    known[:lead] = True
    conditions = latents.clone()
    if mode == "goal":
        known[-1] = True
        conditions[:, :, -1] = torch.stack([shard.goal[row] for shard, row in rows if shard.goal is not None]).float()
    captions = ["" if rng.random() < TEXT_DROPOUT else shard.captions[row] for shard, row in rows]
    masks = torch.stack([shard.masks[row, :length] for shard, row in rows]).float() / 255
    outlines = torch.tensor([outline_numbers(shard.captions[row]) for shard, row in rows])
    return Batch(captions, outlines, latents, known, conditions, masks)


def outline_numbers(caption: str) -> tuple[int, int]:
    """Numbers in SHAPES of the first and of the last shape that a caption names."""
    named = [SHAPES.index(word) for word in caption.split() if word in SHAPES]
    return named[0], named[-1]


def patches(values: Tensor) -> Tensor:
    """Masks [B, f, 2, H/2, W/2] cut into the transformer's tokens, [B, L, 128]."""
    batch, frames, pair, height, width = values.shape
    cut = values.reshape(batch, frames, pair, height // 8, 8, width // 8, 8)
    return cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, -1, pair * 64)


@dataclass
class Flow:
    """The loss: velocity matching, weighted towards objects, plus the auxiliary heads' losses."""

    transformer: WanTransformer3DModel
    encoder: UMT5EncoderModel
    heads: Heads

    def __post_init__(self) -> None:
        self.tokenizer = make_tokenizer()
        self.seen: dict[int, Tensor] = {}
        for index in (1, 2):
            self.transformer.blocks[index].register_forward_hook(self._keeper(index))

    def _keeper(self, index: int) -> Callable[[nn.Module, object, Tensor], None]:
        """A hook that keeps a block's output for the heads."""

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self.seen[index] = output

        return keep

    def loss(self, batch: Batch, done: float, shift: float) -> Tensor:
        """The loss of one batch, when `done` of the course (0..1) is over; timesteps are shifted towards noise."""
        size, _, frames, height, width = batch.latents.shape
        device = batch.latents.device
        quantile = (
            torch.randperm(size, device=device) + torch.rand(size, device=device)
        ) / size  # stratified over the batch
        sigma = shift * quantile / (1 + (shift - 1) * quantile)
        noise = torch.randn_like(batch.latents)
        level = sigma.view(-1, 1, 1, 1, 1)
        noisy = (1 - level) * batch.latents + level * noise
        clean = batch.conditions + GIVEN_NOISE * torch.rand(size, 1, 1, 1, 1, device=device) * torch.randn_like(noise)
        known = batch.known.view(1, 1, -1, 1, 1)
        noisy = torch.where(known, clean, noisy)
        timestep = sigma * 1000
        if batch.known.any():
            per_frame = torch.where(batch.known[None], torch.zeros(1, device=device), timestep[:, None])  # [B, f]
            timestep = per_frame.repeat_interleave(height * width // 4, dim=1)
        ids, text_mask = token_ids(self.tokenizer, batch.captions)
        with torch.autocast(noisy.device.type, torch.bfloat16):
            text = embed(self.encoder, ids.to(device), text_mask.to(device))
            velocity = self.transformer(
                hidden_states=noisy, timestep=timestep, encoder_hidden_states=text, return_dict=False
            )[0].float()
        cells = functional.max_pool2d(batch.masks.amax(2), 4)[:, None]  # [B, 1, f, h, w]
        filled = functional.avg_pool2d(batch.masks.mean(2), 4)[:, None]
        crossed = (cells > 0.05) & (filled < 0.95)
        weight = (1 + OBJECT_WEIGHT * (cells > 0.05) + EDGE_WEIGHT * crossed) * ~known
        weight = weight / weight.sum(dim=(1, 2, 3, 4), keepdim=True)
        loss = ((velocity - (noise - batch.latents)).square().mean(1, keepdim=True) * weight).sum() / size
        fading = min(1.0, (1 - done) / (1 - HEADS_FADE_FROM))
        if fading > 0:
            loss = loss + fading * self._auxiliary(batch, frames, height // 2, width // 2)
        return loss

    def _auxiliary(self, batch: Batch, frames: int, height: int, width: int) -> Tensor:
        """What the heads miss: 0.3 of the places' cross-entropy, 0.3 of the shapes', 0.5 of the masks'."""
        t, y, x = torch.meshgrid(torch.arange(frames), torch.arange(height), torch.arange(width), indexing="ij")
        device = batch.latents.device
        says = self.heads.position(self.seen[1].float()).split((12, 8, 8), dim=-1)
        size = len(batch.latents)
        where = sum(
            (
                functional.cross_entropy(logits.flatten(0, 1), place.flatten().repeat(size).to(device))
                for logits, place in zip(says, (t, y, x), strict=True)
            ),
            torch.zeros((), device=device),
        )
        cut = patches(batch.masks)  # [B, L, 128]
        what = functional.binary_cross_entropy_with_logits(self.heads.mask(self.seen[2].float()), cut)
        # Two objects lie in the halves of the longer side, the first one left or above.
        second = (x >= width / 2) if width >= height else (y >= height / 2)
        outline = batch.outlines[:, second.flatten().long().to(device)]  # [B, L]
        touched = cut.amax(-1) > 0.05
        which = functional.cross_entropy(self.heads.outline(self.seen[1].float())[touched], outline[touched])
        return 0.3 * where + 0.3 * which + 0.5 * what


def train_flow(
    folder: Path, minutes: float, seed: int, report: Report, team: WorkerGroup, start: WanPipeline | None = None
) -> tuple[WanTransformer3DModel, UMT5EncoderModel]:
    """Train on the shards in folder/latents for so many minutes of each process's work; returns the averaged parts.

    `start` is a pipeline whose transformer and text encoder are trained further; None begins with untrained ones.
    """
    torch.manual_seed(seed)
    transformer = (start.transformer if start else make_transformer()).train().to(team.device)
    encoder = (start.text_encoder if start else make_text_encoder(len(make_tokenizer()))).train().to(team.device)
    heads = Heads(128).to(team.device)
    library = Library(folder / "latents")
    library.refresh()
    if team.device == "cpu":
        use_plain_attention(transformer)
    flow = Flow(transformer, encoder, heads)
    course = TrainingLoop(
        modules={"transformer": transformer, "encoder": encoder},
        throw_away={"heads": heads},
        checkpoint=folder / "flow.pt",
        minutes=minutes,
        learning_rate=LEARNING_RATE,
        ema_decay=0.999,
        outer=[
            transformer.patch_embedding.weight,
            transformer.proj_out.weight,
            encoder.get_input_embeddings().weight,
            *(param for param in heads.parameters()),
            *(param for name, param in encoder.named_parameters() if "relative_attention_bias" in name),
            *transformer.condition_embedder.time_embedder.linear_1.parameters(),
        ],
        team=team,
        flat_share=0.4,
    )
    torch.manual_seed(seed + 1000 * (team.rank + 1) + course.step)

    def loss_of(done: float, step: int) -> Tensor:
        if step % 200 == 0:
            library.refresh()
        shared = np.random.default_rng([seed, step])
        batch = draw_batch(library, shared, np.random.default_rng([seed, step, team.rank + 1]), done)
        return flow.loss(batch.to(team.device), done, shift=5.0 if done < 0.5 else 3.5)

    course.run(loss_of, dict, report)
    return transformer.eval(), encoder.eval()
