"""The training loop of codec and transformer, with schedule, averaged weights, checkpoints and worker processes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import cos, pi
from pathlib import Path
from time import process_time

import torch
from torch import Tensor, distributed, nn

from workers.demo_model.muon import Ema, optimisers

Report = Callable[[float, dict[str, float]], None]
"""Called from time to time with the share done, 0..1, and the measured figures."""


@dataclass(frozen=True)
class WorkerGroup:
    """Processes that train one model together; each has one thread, because small matrices are slow on several."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    def average(self, values: list[Tensor]) -> None:
        """Replace tensors by their mean over the group, in place."""
        if self.size == 1:
            return
        flat = torch.cat([value.flatten() for value in values])
        distributed.all_reduce(flat)
        flat /= self.size
        for value, part in zip(values, flat.split([value.numel() for value in values]), strict=True):
            value.copy_(part.view_as(value))


@dataclass
class TrainingLoop:
    """The modules to train, for how long, and the path of the checkpoint.

    `minutes` are minutes of processor time of each process, so that a busy machine takes longer but trains as much.
    """

    modules: dict[str, nn.Module]
    checkpoint: Path
    minutes: float
    learning_rate: float
    ema_decay: float
    outer: Iterable[nn.Parameter]
    team: WorkerGroup = field(default_factory=WorkerGroup)
    flat_share: float = 0.3
    throw_away: dict[str, nn.Module] = field(default_factory=dict)
    save_seconds: float = 60.0

    def __post_init__(self) -> None:
        self.everything = {**self.modules, **self.throw_away}
        self.params = [
            param for module in self.everything.values() for param in module.parameters() if param.requires_grad
        ]
        self.optims = optimisers(self.params, self.learning_rate, self.outer)
        self.ema = Ema(self.modules, self.ema_decay)
        self.step, self.spent = 0, 0.0
        if self.checkpoint.exists():
            self._resume()

    def run(
        self, loss_of: Callable[[float, int], Tensor], measure: Callable[[], dict[str, float]], report: Report
    ) -> None:
        """Train until the minutes are spent, then leave the averaged weights in the modules.

        `loss_of` returns the loss of a fresh batch from the share done and the step's number. `measure` returns figures
        of the modules; the first process calls it once a minute with averaged weights. `report` receives progress.
        """
        begun = saved_at = reported_at = process_time()
        earlier, clock = self.spent, torch.tensor([self.spent * 60], device=self.team.device)
        while True:
            done = min(float(clock) / 60 / self.minutes, 1.0)
            self.spent = float(clock) / 60
            now = process_time()
            if self.team.rank == 0 and (done >= 1.0 or now - saved_at > self.save_seconds):
                saved_at = now
                self._save()
            if done >= 1.0:
                break
            loss = self._update(loss_of, done, clock, earlier * 60 - begun)
            if self.team.rank == 0 and process_time() - reported_at > 60:
                reported_at = process_time()
                with_average = self.measured(measure)
                report(done, {"step": self.step, "loss": loss, **with_average})
        for name, module in self.modules.items():
            module.load_state_dict(self.ema.weights_of(name))

    def measured(self, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Measure with the averaged weights, then put the present ones back."""
        present = {
            name: {key: value.clone() for key, value in module.state_dict().items()}
            for name, module in self.modules.items()
        }
        for name, module in self.modules.items():
            module.load_state_dict(self.ema.weights_of(name))
        try:
            return measure()
        finally:
            for name, module in self.modules.items():
                module.load_state_dict(present[name])

    def _update(self, loss_of: Callable[[float, int], Tensor], done: float, clock: Tensor, offset: float) -> float:
        """One step of every process on the mean of their gradients."""
        falling = max(0.0, (done - self.flat_share) / (1 - self.flat_share))
        rate = self.learning_rate * min(1.0, (self.step + 1) / 40) * (0.5 * (1 + cos(pi * falling)) + 1e-3)
        for optim in self.optims:
            for group in optim.param_groups:
                group["lr"] = rate
            optim.zero_grad(set_to_none=True)
        loss = loss_of(done, self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        for param in self.params:
            if param.grad is None:
                param.grad = torch.zeros_like(param)
        clock.fill_(offset + process_time())
        self.team.average([*(param.grad for param in self.params if param.grad is not None), clock])
        nn.utils.clip_grad_norm_(self.params, 1.0)
        for optim in self.optims:
            optim.step()
        self.ema.update(self.modules)
        self.step += 1
        return float(loss.detach())

    def _resume(self) -> None:
        """Continue where the checkpoint left off."""
        saved = torch.load(self.checkpoint, map_location=self.team.device, weights_only=True)
        for name, module in self.everything.items():
            module.load_state_dict(saved["modules"][name])
        for optim, state in zip(self.optims, saved["optims"], strict=True):
            optim.load_state_dict(state)
        self.ema.shadow = saved["shadow"]
        self.ema.updates, self.step, self.spent = saved["updates"], saved["step"], saved["spent"]

    def _save(self) -> None:
        """Write the checkpoint whole or not at all."""
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        state = {
            "modules": {name: module.state_dict() for name, module in self.everything.items()},
            "optims": [optim.state_dict() for optim in self.optims],
            "shadow": self.ema.shadow,
            "updates": self.ema.updates,
            "step": self.step,
            "spent": self.spent,
            "processes": self.team.size,
        }
        torch.save(state, partial)
        partial.replace(self.checkpoint)
