# SPDX-License-Identifier: Apache-2.0
"""Few labels: what unsupervised pre-training with restricted Boltzmann machines buys.

Sigmoid networks of three hidden layers see a few labelled examples, from plain starts and from one
that torch_init.rbm_pretrain made of the examples without their labels: same labelled examples in
the same order, same optimiser, same number of updates.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from torch.nn import functional

import torch_init

from . import measurement
from .claims import Claim
from .data import Digits
from .figure import STYLE
from .models import ACTIVATIONS, MLP, STARTS, from_weights
from .training import Settings, one_thread

_DEPTH = 3
_DRAWS = 3
_MOST_UNLABELLED = 10_000
_PRETRAINING_UPDATES = 2000  # of each layer
_UPDATES = 300
_BATCH = 20
_MARGIN = 0.01  # the mean of three draws of labels moves by a point or two with the draws
PRETRAINED = "RBM pre-training"
# Glorot & Bengio's scale is for units of slope 1; a sigmoid's is 1/4.
_SCALED = "Xavier gain 4"

_NOTE = (
    "Per cent of the test examples right: mean and each draw of labels. The last row's start has "
    "also seen the training examples without their labels."
)


@dataclass(frozen=True)
class FewLabels:
    """Test accuracies by start, one for each draw of labels; first-layer weights by start."""

    labels: int
    unlabelled: int
    updates: int
    epochs: int
    accuracies: dict[str, list[float]]
    weights: dict[str, torch.Tensor]

    def mean(self, start: str) -> float:
        """The mean test accuracy from a start."""
        return statistics.mean(self.accuracies[start])

    def as_json(self) -> dict[str, Any]:
        """The numbers."""
        return {
            "labels": self.labels,
            "unlabelled": self.unlabelled,
            "updates": self.updates,
            "pretraining_epochs": self.epochs,
            "test_accuracy": self.accuracies,
        }

    def claims(self) -> list[Claim]:
        """Whether pre-training is worth it here: against the starts of the table, and scaled."""
        textbook = [start for start in self.accuracies if start not in (PRETRAINED, _SCALED)]
        known = f"With {self.labels} labels, a start learned from {self.unlabelled} unlabelled "
        known += "examples beats "
        return [
            self._claim("pretraining-beats-textbook", known + " and ".join(textbook), textbook),
            self._claim("pretraining-beats-scaled", known + _SCALED, [_SCALED]),
        ]

    def _claim(self, name: str, statement: str, others: list[str]) -> Claim:
        evidence = [f"{start} {self.mean(start):.1%}" for start in (PRETRAINED, *others)]
        best = max(self.mean(start) for start in others)
        holds = self.mean(PRETRAINED) >= best + _MARGIN
        return Claim(name, f"{statement} by a point or more", holds, ", ".join(evidence))


def total_updates(settings: Settings, labels: int) -> int:
    """The number of updates that compare makes known to its ``advance``."""
    return (len(_plain_starts()) + 1) * _DRAWS * _updates(settings, labels)


def _updates(settings: Settings, labels: int) -> int:
    return settings.epochs * -(-labels // _BATCH) if settings.epochs else _UPDATES


def _plain_starts() -> dict[str, Callable[[MLP, int], None]]:
    starts = {STARTS[key].label: STARTS[key].initialise for key in ("lecun", "xavier", "he")}
    starts[_SCALED] = from_weights(
        lambda w, seed, name: torch_init.xavier_(w, gain=4.0, seed=seed, name=name)
    )
    return starts


@one_thread()
def compare(
    digits: Digits, settings: Settings, labels: int, advance: Callable[[int], object]
) -> FewLabels:
    """Train from every start on ``labels`` examples, drawn ``_DRAWS`` times.

    Pixels are scaled to [0, 1], where they are Bernoulli units' means. ``advance(n)`` is called
    after every ``n`` updates. torch's random state is neither read nor changed.
    """
    low, high = digits.x_train.min(), digits.x_train.max()
    x, x_test = ((pixels - low) / (high - low) for pixels in (digits.x_train, digits.x_test))
    unlabelled = x[:_MOST_UNLABELLED]
    batch = max(1, min(50, len(unlabelled) // 10))
    epochs = settings.epochs or max(1, round(_PRETRAINING_UPDATES * batch / len(unlabelled)))

    def pretrain(model: MLP, seed: int) -> None:
        STARTS["xavier"].initialise(model, seed)
        torch_init.rbm_pretrain(
            model, unlabelled, epochs=epochs, batch_size=batch, seed=seed, progress=False
        )

    updates = _updates(settings, labels)
    accuracies: dict[str, list[float]] = {}
    weights: dict[str, torch.Tensor] = {}
    for start, initialise in (_plain_starts() | {PRETRAINED: pretrain}).items():
        accuracies[start] = []
        for seed in range(settings.seed, settings.seed + _DRAWS):
            generator = torch.Generator().manual_seed(seed)
            rows = torch.randperm(len(x), generator=generator)[:labels].to(x.device)
            sizes = (x.shape[1], settings.width, _DEPTH, digits.classes)
            model = MLP(*sizes, ACTIVATIONS["sigmoid"], x.device)
            initialise(model, seed)
            weights.setdefault(start, model.linears()[0].weight.detach().clone())
            _fine_tune(model, x[rows], digits.y_train[rows], updates, generator)
            accuracies[start].append(measurement.accuracy(model, x_test, digits.y_test))
            advance(updates)
    return FewLabels(labels, len(unlabelled), updates, epochs, accuracies, weights)


def _fine_tune(
    model: MLP, x: torch.Tensor, y: torch.Tensor, updates: int, generator: torch.Generator
) -> None:
    """Adam, as plain gradient descent leaves deep sigmoid networks where they start."""
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, foreach=True)
    done = 0
    while done < updates:
        for batch in torch.randperm(len(x), generator=generator).split(_BATCH):
            rows = batch.to(x.device)
            optimiser.zero_grad()
            functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
            done += 1
            if done == updates:
                break


def build_table(few: FewLabels) -> Table:
    """One row per start."""
    title = f"Few labels: {few.labels} of them, {few.unlabelled} examples without, {_DEPTH} hidden "
    title += f"sigmoid layers, {few.updates} updates of Adam"
    table = Table(title=title, caption=_NOTE, box=box.SIMPLE_HEAD, padding=0)
    table.title_justify = table.caption_justify = "left"
    table.add_column("start", no_wrap=True)
    table.add_column(" mean", justify="right")
    for draw in range(_DRAWS):
        table.add_column(f" draw {draw + 1}", justify="right")
    for start, accuracies in few.accuracies.items():
        bold = "bold" if start == PRETRAINED else ""
        cells = [f"{accuracy:.1%}" for accuracy in (few.mean(start), *accuracies)]
        table.add_row(start, *cells, style=bold)
    return table


def draw(few: FewLabels) -> Figure:
    """Draw the accuracies, and the first layer's weights before a label was seen."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.9), dpi=110, layout="constrained")
        accuracy, plain, learned = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
        starts = list(few.accuracies)
        for place, start in enumerate(reversed(starts)):
            colour = "#D55E00" if start == PRETRAINED else "#0072B2"
            values = [100 * value for value in few.accuracies[start]]
            accuracy.plot(values, [place] * len(values), "o", color=colour, alpha=0.45)
            accuracy.plot(100 * few.mean(start), place, "|", color=colour, ms=22, mew=3)
        accuracy.set_yticks(range(len(starts)), list(reversed(starts)))
        accuracy.set_ylim(-0.6, len(starts) - 0.4)
        accuracy.set_xlabel("test accuracy (%): draws of labels, and their mean")
        accuracy.set_title(f"{few.labels} labels, {few.updates} updates")
        for axes, start in ((plain, STARTS["xavier"].label), (learned, PRETRAINED)):
            _draw_weights(axes, few.weights[start])
            axes.set_title(f"first layer: {start}")
    return figure


def _draw_weights(axes: Any, weight: torch.Tensor) -> None:
    """Tiles where the pixels make a square image, as those of digits do, else the matrix."""
    side = round(weight.shape[1] ** 0.5)
    picture = weight[:64].cpu()
    if side * side == weight.shape[1]:
        picture = torch_init.rbm.mosaic(picture, columns=8)
    axes.imshow(picture.numpy(), cmap="gray", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
