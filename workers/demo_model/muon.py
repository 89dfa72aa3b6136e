"""Muon, the optimiser that orthogonalises its steps, with AdamW for everything that is no hidden matrix."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalised(update: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrices to a stack [..., R, C], by Newton-Schulz iterations (Keller Jordan's quintic)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update / (update.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if x.device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        x = x.bfloat16()  # A coarse step is as good, and faster where the processor multiplies such numbers itself.
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(update.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; steps are scaled to AdamW's size, 0.2, so that one rate fits both (Moonlight)."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix once; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(param)
                momentum = state["momentum"]
                momentum.lerp_(param.grad, 1 - group["momentum"])
                update = param.grad.lerp(momentum, group["momentum"]).reshape(param.shape[0], -1)
                shapes.setdefault((update.shape[0], update.shape[1]), []).append((param, update))
            for (rows, columns), members in shapes.items():
                updates = orthogonalised(torch.stack([update for _, update in members]))
                scale = 0.2 * max(rows, columns) ** 0.5 * group["lr"]
                for (param, _), update in zip(members, updates, strict=True):
                    param.mul_(1 - group["lr"] * group["weight_decay"])
                    param.add_(update.reshape(param.shape), alpha=-scale)


class Ema:
    """A running average of a module's weights; early steps average over a shorter past."""

    def __init__(self, modules: dict[str, nn.Module], decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.shadow = {
            f"{name}.{key}": value.detach().clone()
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }

    @torch.no_grad()
    def update(self, modules: dict[str, nn.Module]) -> None:
        """Take the modules' present weights in."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, module in modules.items():
            for key, value in module.state_dict().items():
                shadow = self.shadow[f"{name}.{key}"]
                if value.dtype.is_floating_point:
                    shadow.lerp_(value, weight)
                else:
                    shadow.copy_(value)

    def weights_of(self, name: str) -> dict[str, Tensor]:
        """The averaged weights of one module, as a state dict."""
        return {key.removeprefix(f"{name}."): value for key, value in self.shadow.items() if key.startswith(f"{name}.")}


def optimisers(params: Iterable[nn.Parameter], lr: float, outer: Iterable[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices, AdamW for vectors and for the outer parameters (embeddings, first and last layers)."""
    outside = {id(param) for param in outer}
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for param in params:
        flat = param.ndim < 2 or param.numel() == max(param.shape) or id(param) in outside
        (rest if flat else hidden).append(param)
    return [Muon(hidden, lr), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)]
