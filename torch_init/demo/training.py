# SPDX-License-Identifier: Apache-2.0
"""Train one network from one starting point and record what happens.

Every run of the comparison has the same examples in the same order, the same optimiser (plain SGD
with momentum) and the same learning rate; nothing is tuned for an activation or a start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional

from . import measurement
from .data import Digits
from .errors import DemoError
from .models import ACTIVATIONS, MLP, STARTS

MOMENTUM = 0.9
_DEFAULT_UPDATES = 400
_CHECKPOINTS = 20
_PROBE_EXAMPLES = 512


@dataclass(frozen=True)
class Settings:
    """How every run is trained; ``epochs=None`` means about 400 updates on any set."""

    epochs: int | None = None
    depth: int = 10
    width: int = 128
    batch_size: int = 64
    lr: float = 0.01
    seed: int = 0
    device: str = "cpu"

    def check(self) -> None:
        """Raise DemoError if a number is out of range."""
        for option, value, least in (
            ("--epochs", self.epochs, 1),
            ("--depth", self.depth, 2),
            ("--width", self.width, 1),
            ("--batch-size", self.batch_size, 1),
        ):
            if value is not None and value < least:
                raise DemoError(f"{option}: got {value}; expected at least {least}")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise DemoError(f"--lr: got {self.lr}; expected a positive number")
        if not 0 <= self.seed < 2**63:
            raise DemoError(f"--seed: got {self.seed}; expected 0 <= seed < 2**63")

    def epochs_for(self, digits: Digits) -> int:
        """The number of passes over the training examples."""
        return self.epochs or max(1, round(_DEFAULT_UPDATES / self._updates_per_epoch(digits)))

    def updates_for(self, digits: Digits) -> int:
        """The number of optimiser steps of one run."""
        return self.epochs_for(digits) * self._updates_per_epoch(digits)

    def _updates_per_epoch(self, digits: Digits) -> int:
        return math.ceil(len(digits.x_train) / self.batch_size)


@dataclass(frozen=True)
class Point:
    """State of a run after ``update`` optimiser steps; loss and gradients on the probe examples."""

    update: int
    train_loss: float
    gradient_rms: list[float]


@dataclass(frozen=True)
class Run:
    """One activation, one start.

    ``points`` runs from before training to the end, or to the last finite point. ``shut_share`` and
    ``expected_ratio`` belong to the start; ``test_accuracy`` and ``unit_spread`` to the end, None
    for a run that diverged. ``unchanged`` names the parameters that training left bit for bit as
    they were.
    """

    activation: str
    start: str
    points: list[Point]
    diverged_at: int | None
    shut_share: float
    expected_ratio: float
    test_accuracy: float | None
    unit_spread: float | None
    unchanged: list[str]

    @property
    def first(self) -> Point | None:
        """The state before training; None where even that has no finite loss and gradients."""
        return self.points[0] if self.points else None

    @property
    def last(self) -> Point | None:
        """The state at the end of training; None for a run that diverged."""
        return None if self.diverged_at is not None else self.points[-1]


def probe(digits: Digits) -> tuple[torch.Tensor, torch.Tensor]:
    """The first 512 of the shuffled training examples: loss and gradients are measured there."""
    return digits.x_train[:_PROBE_EXAMPLES], digits.y_train[:_PROBE_EXAMPLES]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread within, and the caller's number after.

    Layers of a hundred units gain little from a second thread, and lose tens of times over where
    threads wait for each other on a busy machine. One thread also makes the results independent of
    the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def train(
    activation: str,
    start: str,
    digits: Digits,
    settings: Settings,
    advance: Callable[[int], object],
    inspect: Callable[[MLP], object] = lambda model: None,
) -> Run:
    """Train one network of ``activation`` from ``start`` (keys of ACTIVATIONS and STARTS).

    ``advance(n)`` is called after every few updates with their number ``n``, ``inspect(model)``
    once before training. The result is a function of the other arguments (on one kind of
    processor: its matrix products decide the last bits). torch's random state is neither read nor
    changed; one thread is used.
    """
    model = MLP(
        digits.x_train.shape[1],
        settings.width,
        settings.depth,
        digits.classes,
        ACTIVATIONS[activation],
        digits.x_train.device,
    )
    STARTS[start].initialise(model, settings.seed)
    inspect(model)
    x, _ = probe(digits)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    shut_share = measurement.shut_share(model, x)
    expected_ratio = measurement.expected_total_ratio(model, x)

    points, diverged_at = _optimise(model, digits, settings, advance)
    finished = diverged_at is None
    return Run(
        activation,
        start,
        points,
        diverged_at,
        shut_share,
        expected_ratio,
        measurement.accuracy(model, digits.x_test, digits.y_test) if finished else None,
        measurement.unit_spread(model, x) if finished else None,
        [name for name, value in model.named_parameters() if torch.equal(value, before[name])],
    )


def _optimise(
    model: MLP, digits: Digits, settings: Settings, advance: Callable[[int], object]
) -> tuple[list[Point], int | None]:
    """Run SGD; return the points on the way, and the update at which a reading was not finite."""
    optimiser = torch.optim.SGD(model.parameters(), lr=settings.lr, momentum=MOMENTUM, foreach=True)
    batches = _batches(digits, settings)
    total = settings.updates_for(digits)
    stops = sorted({round(i * total / _CHECKPOINTS) for i in range(_CHECKPOINTS + 1)})
    points: list[Point] = []
    done = 0
    for stop in stops:
        for _ in range(stop - done):
            batch = next(batches)
            optimiser.zero_grad()
            functional.cross_entropy(model(digits.x_train[batch]), digits.y_train[batch]).backward()
            optimiser.step()
        advance(stop - done)
        done = stop
        reading = measurement.read(model, *probe(digits))
        if not reading.is_finite():
            advance(total - done)
            return points, done
        points.append(Point(done, reading.loss, reading.gradient_rms))
    return points, None


def _batches(digits: Digits, settings: Settings) -> Iterator[torch.Tensor]:
    """Batches of indices without end, in a new order each epoch; the same for every run."""
    generator = torch.Generator().manual_seed(settings.seed)
    while True:
        order = torch.randperm(len(digits.x_train), generator=generator)
        for batch in order.split(settings.batch_size):
            yield batch.to(digits.x_train.device)
