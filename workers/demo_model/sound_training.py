"""Train the sound head: `python -m workers.demo_model.sound_training`. It logs, saves checkpoints, and resumes.

Stages, each of which skips what is done: `painted` (clips of the world, encoded), `sampled` (clips of the picture
model, which is half of what the head hears in practice), `train`, `export` (write the weights). Minutes are processor
minutes.
"""

import argparse
import json
from pathlib import Path
from time import process_time

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from workers.demo_model.codec_training import averaged
from workers.demo_model.components import WEIGHTS, load
from workers.demo_model.sound_data import Shard, read_shards, write_shards
from workers.demo_model.sound_head import Answer, SoundHead
from workers.demo_model.sound_law import control_count
from workers.demo_model.training_loop import TrainingLoop

STAGES = ("painted", "sampled", "train", "export")
LEARNING_RATE = 2e-3
BATCH = 20
LENGTHS = {11: 0.55, 10: 0.06, 9: 0.09, 8: 0.06, 7: 0.08, 5: 0.08, 3: 0.08}
SHORT_LENGTHS = {11: 0.1, 7: 0.2, 5: 0.4, 3: 0.3}
SHORT_SHARE = 0.35
"""Latent frames of a batch: encoding is causal, so that a clip's beginning is a clip. The first third of the course
takes mostly short ones, which teach where objects are for a third of the work."""

NOISE = 0.08
"""Latents are made a little noisy, so that the head does not live on details that sampled ones lack."""

WEIGHT = {"level": 3.0, "pitch": 6.0, "pan": 10.0, "click": 3.0, "shape": 0.3, "presence": 0.3}
CLICK_WEIGHT = 6.0
"""Additional weight of control points at a contact, which are few."""

CHECKED = 1
"""Shards of each kind that are kept from training, for the figures in the log."""


def draw_batch(shards: list[Shard], rng: np.random.Generator, done: float) -> tuple[Tensor, Tensor, Tensor]:
    """Clips of one size and length for a point of the course: latents, knobs [B, 2, 4, n] and shapes [B, 2]."""
    shard = shards[int(rng.integers(len(shards)))]
    lengths = SHORT_LENGTHS if done < SHORT_SHARE else LENGTHS
    length = int(rng.choice(list(lengths), p=list(lengths.values())))
    rows = torch.from_numpy(rng.permutation(len(shard.latents))[:BATCH])
    latents = shard.latents[rows, :, :length].float()
    noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)) * NOISE * float(rng.random())
    return latents + noise, shard.knobs[rows, ..., : control_count(4 * length - 3)].float(), shard.shapes[rows]


def losses(answer: Answer, knobs: Tensor, shapes: Tensor) -> dict[str, Tensor]:
    """What the head got wrong, by kind; silent voices are judged by their presence alone."""
    there = (shapes >= 0).float()  # [B, 2]
    share = there[:, :, None].expand(-1, -1, knobs.shape[-1])
    share = share / share.sum().clamp_min(1.0)
    wrong = {
        name: (
            functional.smooth_l1_loss(answer.knobs[:, :, row], knobs[:, :, row], reduction="none", beta=0.05) * share
        ).sum()
        for row, name in enumerate(("level", "pitch", "pan"))
    }
    bells = knobs[:, :, 3]
    click = functional.binary_cross_entropy_with_logits(answer.knobs[:, :, 3], bells, reduction="none")
    wrong["click"] = (click * (1 + CLICK_WEIGHT * bells) * share).sum()
    wrong["shape"] = functional.cross_entropy(answer.shapes.flatten(0, 1), shapes.flatten(), ignore_index=-1)
    wrong["presence"] = functional.binary_cross_entropy_with_logits(answer.presence, there)
    return wrong


@torch.no_grad()
def figures_of(head: SoundHead, shards: dict[str, Shard]) -> dict[str, float]:
    """Mistakes on shards that training does not see: mean errors, and the shares of wrong shapes and presences."""
    head.eval()
    figures: dict[str, float] = {}
    for kind in ("painted", "sampled"):
        some = [shard for name, shard in shards.items() if name.startswith(kind)]
        rows = []
        for shard in some:
            answer = head(shard.latents.float())
            there = shard.shapes >= 0
            miss = (answer.knobs[:, :, :3] - shard.knobs[:, :, :3].float()).abs().mean(-1)[there].mean(0)
            click = losses(answer, shard.knobs.float(), shard.shapes)["click"]
            shape = (answer.shapes.argmax(-1) != shard.shapes)[there].float().mean()
            presence = ((answer.presence > 0) != there).float().mean()
            rows.append(torch.stack([*miss, click, shape, presence]))
        if rows:
            names = ("level", "semitones", "pan", "click", "shape", "presence")
            means = torch.stack(rows).mean(0) * torch.tensor([1.0, 12.0, 1.0, 1.0, 1.0, 1.0])
            figures |= {f"{kind}_{name}": float(value) for name, value in zip(names, means, strict=True)}
    head.train()
    return figures


def train(folder: Path, minutes: float, seed: int) -> None:
    """Train until the minutes are spent; resumes where a checkpoint lies."""
    shards = read_shards(folder / "shards")
    checked = {name: shard for name, shard in shards.items() if int(name.split("-")[1]) < CHECKED}
    pool = [shard for name, shard in shards.items() if name not in checked]
    torch.manual_seed(seed)
    head = SoundHead()
    outer = [*head.stem.parameters(), *head.knobs.parameters(), *head.words.parameters(), head.time]
    loop = TrainingLoop({"head": head}, folder / "head.pt", minutes, LEARNING_RATE, 0.998, outer, flat_share=0.4)

    def loss_of(done: float, step: int) -> Tensor:
        latents, knobs, shapes = draw_batch(pool, np.random.default_rng([seed, step]), done)
        wrong = losses(head(latents), knobs, shapes)
        return torch.stack([WEIGHT[name] * value for name, value in wrong.items()]).sum()

    loop.run(loss_of, lambda: figures_of(head, checked), lambda done, figures: _log(folder, "train", done, figures))


def export(folder: Path, weights: Path) -> None:
    """Write the averaged weights of the checkpoint, whatever its age, in half precision, with its figures."""
    saved = torch.load(folder / "head.pt", map_location="cpu", weights_only=True)
    target = weights / "sound_head"
    target.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.half().contiguous() for name, value in averaged(folder / "head.pt", "head").items()}
    save_file(tensors, target / "model.safetensors")
    (target / "model.safetensors").chmod(0o644)
    names = [path.stem.split("-")[0] for path in (folder / "shards").glob("*.safetensors")]
    recipe = {
        "clips": {kind: names.count(kind) * 32 for kind in ("painted", "sampled")},
        "processor_minutes": round(saved["spent"], 1),
        "steps": saved["step"],
    }
    (target / "recipe.json").write_text(json.dumps(recipe, indent=2, sort_keys=True) + "\n")


def _log(folder: Path, stage: str, done: float, figures: dict[str, float]) -> None:
    """Append a line to the log, and print it."""
    line = json.dumps({"stage": stage, "done": round(done, 4), **{key: round(v, 4) for key, v in figures.items()}})
    with (folder / "log.jsonl").open("a") as log:
        log.write(line + "\n")
    print(line, flush=True)


def main() -> None:
    """Read the options and run the stages in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/sound_head"), help="shards, checkpoint and log")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the picture model, and where export writes")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--painted", type=int, default=60, help="shards of 32 painted clips")
    parser.add_argument("--sampled", type=int, default=30, help="shards of 32 sampled clips")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    for stage in options.stages:
        if stage in ("painted", "sampled"):
            pipeline, count = load(options.weights), getattr(options, stage)
            for number in write_shards(pipeline, options.folder / "shards", stage, count, options.seed):
                _log(options.folder, stage, (number + 1) / count, {"processor_seconds": process_time()})
        elif stage == "train":
            train(options.folder, options.minutes, options.seed)
        else:
            export(options.folder, options.weights)


if __name__ == "__main__":
    main()
