"""Training of the demo's networks: the same seed gives the same weights, on the same machine with the same number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from fxq.demo.digits import Digits, Split
from fxq.demo.evaluate import accuracy

_SHIFT = 1  # pixels

# parameters, learning rate, weight decay → what trains them
OptimizerOf = Callable[[Iterable[nn.Parameter], float, float], Optimizer]


def adamw(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
    """AdamW with torch's defaults."""
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)


def rmsprop(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
    """RMSprop with the decay and momentum that MobileNetV2 was trained with (Sandler et al. 2018, section 6.1)."""
    return torch.optim.RMSprop(parameters, lr=lr, alpha=0.9, eps=1e-3, momentum=0.9, weight_decay=weight_decay)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: the learning rate rises to `peak_lr` and falls to 0 again (OneCycle).

    Attributes:
        optimizer: made from parameters, `peak_lr` and `weight_decay`.
        label_smoothing: share of the target probability that is spread over all classes.
        seed: of the first weights, the order of the images, their shifts, and dropout.
    """

    epochs: int = 26
    batch_size: int = 64
    peak_lr: float = 6e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    seed: int = 0
    optimizer: OptimizerOf = adamw


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network in eval mode.

    Attributes:
        losses: mean training loss of each epoch, in nats.
        accuracy: on the test images, in percent.
    """

    model: nn.Module
    losses: tuple[float, ...]
    accuracy: float


@dataclass(frozen=True, eq=False)
class _Optimization:
    optimizer: Optimizer
    schedule: LRScheduler
    label_smoothing: float


def train(build: Callable[[], nn.Module], digits: Digits, recipe: Recipe | None = None, console: Console | None = None) -> Trained:
    """Builds a network and trains it on digits.train.

    torch's global random state is the same afterwards as before.

    Args:
        build: makes the untrained network, such as `ResNetDigits`.
        recipe: None for `Recipe()`.
        console: where a progress bar is shown; None for none.
    """
    recipe = recipe or Recipe()
    with torch.random.fork_rng(devices=[]), _progress(console) as progress:
        torch.manual_seed(recipe.seed)
        model = build().train()
        task = progress.add_task(type(model).__name__, total=recipe.epochs, loss=float("nan"))
        losses = []
        for loss in _epochs(model, digits.train, recipe):
            losses.append(loss)
            progress.update(task, advance=1, loss=loss)
    model.eval()
    return Trained(model, tuple(losses), accuracy(model, digits.test))


def fine_tune(model: nn.Module, data: Split, recipe: Recipe, before_epoch: Callable[[nn.Module, int], None]) -> None:
    """Trains a trained model on, in place, and leaves it in eval mode.

    torch's global random state is the same afterwards as before.

    Args:
        before_epoch: called with the model and the number of each epoch, such as QATSchedule.apply.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        epochs = _epochs(model.train(), data, recipe)
        for number in range(recipe.epochs):
            before_epoch(model, number)
            next(epochs)
    model.eval()


def _progress(console: Console | None) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("loss {task.fields[loss]:.3f}"), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=console is None)


def _epochs(model: nn.Module, data: Split, recipe: Recipe) -> Iterator[float]:
    """Trains for one epoch at each step; yields its mean loss."""
    steps = len(data.batches(recipe.batch_size))
    optimizer = recipe.optimizer(model.parameters(), recipe.peak_lr, recipe.weight_decay)
    schedule = OneCycleLR(optimizer, recipe.peak_lr, epochs=recipe.epochs, steps_per_epoch=steps)
    optimization = _Optimization(optimizer, schedule, recipe.label_smoothing)
    for _ in range(recipe.epochs):
        shuffled = data.take(torch.randperm(len(data)))
        yield sum(_step(model, batch, optimization) for batch in shuffled.batches(recipe.batch_size)) / steps


def _step(model: nn.Module, batch: Split, optimization: _Optimization) -> float:
    loss = F.cross_entropy(model(shifted(batch.images)), batch.labels, label_smoothing=optimization.label_smoothing)
    optimization.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimization.optimizer.step()
    optimization.schedule.step()
    return loss.item()


def shifted(images: Tensor) -> Tensor:
    """Moves each image by −1, 0 or 1 pixel in both directions, at random.

    Args:
        images: f32 [N, 1, H, W]; what comes in at a border repeats the border's pixels.
    """
    count, _, height, width = images.shape
    padded = F.pad(images, (_SHIFT,) * 4, mode="replicate")
    rows = torch.randint(2 * _SHIFT + 1, (count, 1)) + torch.arange(height)
    columns = torch.randint(2 * _SHIFT + 1, (count, 1)) + torch.arange(width)
    return padded[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)
