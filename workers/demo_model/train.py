"""Train the demo model: `python -m workers.demo_model.train`. It shows progress, saves checkpoints, and resumes.

Stages, each of which skips what is done: `codec` (the VAE), `latents` (paint and encode clips), `flow` (transformer
and text encoder), `decoder` (the VAE's decoder alone, so that it forgives small errors of the transformer), `export`
(write the weights). Minutes are processor minutes of each process.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import distributed, multiprocessing

from workers.demo_model.codec import channels_last, make_codec
from workers.demo_model.codec_training import averaged, store_statistics, train_codec
from workers.demo_model.components import WEIGHTS, load, make_text_encoder, make_tokenizer, make_transformer, save
from workers.demo_model.flow_training import train_flow
from workers.demo_model.latents import SHARD, write_shards
from workers.demo_model.training_loop import Report, WorkerGroup

STAGES = ("codec", "latents", "flow", "decoder", "export")


def stage_codec(folder: Path, options: argparse.Namespace, team: WorkerGroup, report: Report) -> None:
    """Train the VAE."""
    train_codec(folder, options.codec_minutes, options.seed, report, team)


def stage_decoder(folder: Path, options: argparse.Namespace, team: WorkerGroup, report: Report) -> None:
    """Train the VAE's decoder further; the latents stay what they are."""
    train_codec(folder, options.decoder_minutes, options.seed, report, team, decoder_only=True)


def stage_latents(folder: Path, options: argparse.Namespace, team: WorkerGroup, report: Report) -> None:
    """Paint and encode clips, every process its own share of the shards."""
    codec = load_codec(folder, options.start_from).to(team.device)
    count = options.clips // SHARD
    first, last = count * team.rank // team.size, count * (team.rank + 1) // team.size
    for number in write_shards(codec, folder / "latents", first, last, options.seed):
        report((number + 1 - first) / (last - first), {"shard": number})


def stage_flow(folder: Path, options: argparse.Namespace, team: WorkerGroup, report: Report) -> None:
    """Train transformer and text encoder."""
    start = load(options.start_from) if options.start_from else None
    train_flow(folder, options.flow_minutes, options.seed, report, team, start)


def stage_export(folder: Path, options: argparse.Namespace, team: WorkerGroup, report: Report) -> None:
    """Write the averaged weights of the checkpoints, whatever their age, as a pipeline's folder."""
    if team.rank:
        return
    codec = load_codec(folder, options.start_from, decoder=True)
    transformer = make_transformer()
    transformer.load_state_dict(averaged(folder / "flow.pt", "transformer"))
    encoder = make_text_encoder(len(make_tokenizer()))
    encoder.load_state_dict(averaged(folder / "flow.pt", "encoder"))
    recipe: dict[str, object] = {
        "seed": options.seed,
        "clips": len(list((folder / "latents").glob("*.safetensors"))) * SHARD,
    }
    for name in ("codec", "flow", "decoder"):
        if (folder / f"{name}.pt").exists():
            saved = torch.load(folder / f"{name}.pt", map_location="cpu", weights_only=True)
            recipe[name] = {
                "steps": saved["step"],
                "processor_minutes_per_process": round(saved["spent"], 1),
                "processes": saved["processes"],
            }
    save(options.weights, codec, encoder, transformer, recipe)
    report(1.0, {"bytes": sum(path.stat().st_size for path in options.weights.rglob("*") if path.is_file())})


def load_codec(folder: Path, start_from: Path | None = None, *, decoder: bool = False) -> AutoencoderKLWan:
    """The trained codec of a folder's checkpoints, or else of the weights to start from.

    Its latents' statistics follow from the encoder.
    """
    if start_from and not (folder / "codec.pt").exists():
        codec = load(start_from).vae
    else:
        codec = make_codec()
        codec.load_state_dict(averaged(folder / "codec.pt", "codec"))
        store_statistics(codec.eval())
    codec.eval()
    if decoder and (folder / "decoder.pt").exists():
        codec.load_state_dict(averaged(folder / "decoder.pt", "codec"))
    return channels_last(codec)


RUN: dict[str, Callable[[Path, argparse.Namespace, WorkerGroup, Report], None]] = {
    "codec": stage_codec,
    "latents": stage_latents,
    "flow": stage_flow,
    "decoder": stage_decoder,
    "export": stage_export,
}


def work(rank: int, options: argparse.Namespace, meeting: str) -> None:
    """One process of the team: run the stages in order."""
    torch.set_num_threads(options.threads)
    if options.processes > 1:
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=options.processes)
    team = WorkerGroup(rank, options.processes, options.device)
    options.folder.mkdir(parents=True, exist_ok=True)
    columns = (
        TextColumn("{task.description:8}"),
        BarColumn(),
        TextColumn("{task.percentage:5.1f} %"),
        TimeElapsedColumn(),
    )
    with (
        Progress(*columns, console=Console(stderr=True), disable=rank > 0) as progress,
        (options.folder / f"log.{rank}.jsonl").open("a") as log,
    ):
        for stage in options.stages:
            task = progress.add_task(stage, total=1.0)

            def report(done: float, figures: dict[str, float], stage: str = stage, task: int = task) -> None:
                line = {
                    "stage": stage,
                    "done": round(done, 4),
                    **{key: round(value, 4) for key, value in figures.items()},
                }
                log.write(json.dumps(line) + "\n")
                log.flush()
                progress.update(task, completed=done)  # type: ignore[arg-type]
                progress.console.print(json.dumps(line), soft_wrap=True, highlight=False)

            RUN[stage](options.folder, options, team, report if rank == 0 else lambda done, figures: None)
            if options.processes > 1:
                distributed.barrier()
            progress.update(task, completed=1.0)
    if options.processes > 1:
        distributed.destroy_process_group()


def main() -> None:
    """Read the options and start the team."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/demo_model"), help="checkpoints, latents and log")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where export writes")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--start-from", type=Path, help="finished weights to train further, in place of untrained ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--codec-minutes", type=float, default=8.0)
    parser.add_argument("--flow-minutes", type=float, default=45.0)
    parser.add_argument("--decoder-minutes", type=float, default=6.0)
    parser.add_argument("--clips", type=int, default=6400)
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument(
        "--processes",
        type=int,
        default=1 if cuda else min(os.cpu_count() or 1, 4),
        help="processes that train together",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        if options.processes == 1:
            work(0, options, meeting)
        else:
            multiprocessing.spawn(work, (options, meeting), nprocs=options.processes)


if __name__ == "__main__":
    main()
