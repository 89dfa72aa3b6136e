"""A training loop stops, resumes and averages, and Muon's steps are orthogonal."""

from pathlib import Path

import torch
from torch import Tensor, nn

from workers.demo_model.muon import Ema, optimisers, orthogonalised
from workers.demo_model.training_loop import TrainingLoop, WorkerGroup


def _course(folder: Path, minutes: float, model: nn.Linear) -> TrainingLoop:
    """A tiny course on one matrix."""
    return TrainingLoop({"model": model}, folder / "course.pt", minutes, 1e-2, 0.9, [], WorkerGroup())


def test_a_course_resumes_where_it_stopped(tmp_path: Path) -> None:
    """Two halves of a course continue one another: weights, steps and spent time go on; a finished one does nothing."""

    def loss_with(model: nn.Linear) -> Tensor:
        return model(torch.randn(4, 8)).square().mean()

    first = nn.Linear(8, 8)
    course = _course(tmp_path, 0.002, first)
    course.run(lambda done, step: loss_with(first), dict, lambda done, figures: None)
    saved = torch.load(tmp_path / "course.pt", weights_only=True)
    assert course.step == saved["step"] > 0

    second = nn.Linear(8, 8)
    longer = _course(tmp_path, 0.004, second)
    assert (longer.step, longer.spent) == (saved["step"], saved["spent"])
    assert torch.equal(second.weight, saved["modules"]["model"]["weight"])
    longer.run(lambda done, step: loss_with(second), dict, lambda done, figures: None)
    assert longer.step > course.step

    finished = _course(tmp_path, 0.004, nn.Linear(8, 8))
    finished.run(lambda done, step: loss_with(second), dict, lambda done, figures: None)
    assert finished.step == longer.step


def test_muon_learns_a_matrix() -> None:
    """A hundred steps bring a matrix most of the way to its target."""
    torch.manual_seed(1)
    target = torch.randn(16, 16)
    model = nn.Linear(16, 16)
    optims = optimisers(model.parameters(), 0.1, [])
    losses = []
    for _ in range(100):
        loss = (model.weight - target).square().mean() + model.bias.square().mean()
        for optim in optims:
            optim.zero_grad()
        loss.backward()
        for optim in optims:
            optim.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 5


def test_measuring_uses_the_averaged_weights_and_restores_the_current_ones(tmp_path: Path) -> None:
    """Figures on the way are those of the averaged weights, which training does not see."""
    model = nn.Linear(2, 2)
    course = _course(tmp_path, 1.0, model)
    for shadow in course.ema.shadow.values():
        shadow.fill_(3.0)
    present = model.weight.detach().clone()
    assert course.measured(lambda: {"weight": float(model.weight.detach().mean())}) == {"weight": 3.0}
    assert torch.equal(model.weight, present)


def test_orthogonalised_steps_have_singular_values_near_one() -> None:
    """Newton-Schulz brings every singular value near 1, for wide and for tall matrices."""
    for shape in ((3, 16, 64), (2, 64, 16)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert values.min() > 0.4
        assert values.max() < 1.6


def test_an_average_follows_the_weights() -> None:
    """The average starts at the weights and moves towards them."""
    model = nn.Linear(2, 2)
    average = Ema({"model": model}, 0.5)
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update({"model": model})
    average.update({"model": model})
    assert (average.weights_of("model")["weight"] < model.weight + 1e-6).all()
    assert (average.weights_of("model")["weight"] > model.weight - 1.0).all()
