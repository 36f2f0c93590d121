# SPDX-License-Identifier: Apache-2.0
"""The options of fit(), checked before anything is changed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from torch_init.errors import (
    check_choice,
    check_finite,
    check_not_negative,
    check_positive_int,
    check_probability,
    check_type,
    describe,
)
from torch_init.keys import check_seed
from torch_init.rbm.monitors import MONITORS
from torch_init.rbm.units import Gaussian, NReLU, Spin, Units

ALGORITHMS = ("cd", "pcd", "fpcd", "pt")
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "exponential": lambda done: 0.01**done,
}
"""The learning rate's factor, given the part of the updates that is done, from 0 to 1."""

MOMENTUM_EPOCH = 5
"""The epoch from which the second momentum holds (Hinton 2010, section 9.1)."""


def check_bool(function: str, argument: str, value: object) -> None:
    """Raise unless value is True or False, which other values would stand for unasked."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(describe(function, argument, f"{value!r}", "True or False"))


@dataclass(frozen=True)
class Options:
    """What fit() was asked for; its docstring says what each means."""

    epochs: int = 10
    batch_size: int = 100
    algorithm: str = "cd"
    k: int = 1
    learning_rate: float | None = None
    schedule: str | Callable[[float], float] = "constant"
    momentum: float | tuple[float, float] | None = None
    weight_decay: float = 2e-4
    l1: float = 0.0
    sparsity_target: float | None = None
    sparsity_cost: float = 0.01
    centered: bool | None = None
    statistics: str = "means"
    reconstruction: str = "samples"
    dropout: float = 0.0
    chains: int | None = None
    temperatures: int = 10
    adapt_temperatures: bool = False
    binarize: str | None = None
    visible_bias: str | None = None
    shuffle: bool = True
    seed: int | None = None
    monitors: Sequence[str] = ("reconstruction", "gradient_norm")
    monitor_every: int = 1
    patience: int | None = None

    def check(self, visible: Units, hidden: Units, exact: bool) -> None:
        """Raise unless every option is of its kind and the options go together."""
        for name in ("epochs", "batch_size", "k", "temperatures", "monitor_every"):
            check_positive_int("fit", name, getattr(self, name))
        for name in ("adapt_temperatures", "shuffle"):
            check_bool("fit", name, getattr(self, name))
        if self.centered is not None:
            check_bool("fit", "centered", self.centered)
        for name in ("chains", "patience"):
            if getattr(self, name) is not None:
                check_positive_int("fit", name, getattr(self, name))
        for name in ("weight_decay", "l1", "sparsity_cost"):
            check_not_negative("fit", name, getattr(self, name))
        if (
            self.learning_rate is not None
            and check_finite("fit", "learning_rate", self.learning_rate) < 0
        ):
            raise ValueError(describe("fit", "learning_rate", self.learning_rate, "a number >= 0"))
        for momentum in self.momenta():
            if not 0 <= check_finite("fit", "momentum", momentum) < 1:
                raise ValueError(describe("fit", "momentum", momentum, "a number in [0, 1)"))
        if self.sparsity_target is not None:
            check_probability("fit", "sparsity_target", self.sparsity_target)
        if not 0 <= check_finite("fit", "dropout", self.dropout) < 1:
            raise ValueError(describe("fit", "dropout", self.dropout, "a number in [0, 1)"))
        check_choice("fit", "algorithm", self.algorithm, ALGORITHMS)
        check_choice("fit", "statistics", self.statistics, ("means", "samples"))
        check_choice("fit", "reconstruction", self.reconstruction, ("means", "samples"))
        if self.visible_bias is not None:
            check_choice("fit", "visible_bias", self.visible_bias, ("data", "keep"))
        if self.binarize is not None:
            check_choice("fit", "binarize", self.binarize, ("threshold", "sample"))
        if not callable(self.schedule):
            check_choice("fit", "schedule", self.schedule, tuple(SCHEDULES))
        expected = "a list of " + ", ".join(MONITORS)
        check_type("fit", "monitors", self.monitors, (list, tuple), expected)
        for name in self.monitors:
            check_choice("fit", "monitors", name, tuple(MONITORS))
        if self.patience is not None and not self.monitors:
            raise ValueError(describe("fit", "monitors", "none", "one for patience to watch"))
        if self.seed is not None:
            check_seed("fit", self.seed)
        self._check_units(visible, hidden, exact)

    def _check_units(self, visible: Units, hidden: Units, exact: bool) -> None:
        if self.statistics == "samples" and self.reconstruction == "means":
            got = "'means', of which no states are"
            raise ValueError(describe("fit", "reconstruction", got, "'samples'"))
        if self.statistics == "samples" and not exact:
            expected = "'means' unless the machine samples in exact integers"
            raise ValueError(describe("fit", "statistics", "'samples'", expected))
        if self.statistics == "samples" and self.dropout and isinstance(hidden, Spin):
            got = "'samples' with dropout of spins, whose states are -1 and 1, not 0"
            raise ValueError(describe("fit", "statistics", got, "'means'"))
        if self.binarize is not None and not visible.binary:
            got = f"{self.binarize!r} with {type(visible).__name__} units"
            raise ValueError(describe("fit", "binarize", got, "None"))
        persistent = self.algorithm != "cd"
        if persistent and self.reconstruction == "means":
            got = f"'means' with algorithm={self.algorithm!r}"
            raise ValueError(describe("fit", "reconstruction", got, "'samples'"))
        if persistent and self.dropout:
            got = f"{self.dropout} with algorithm={self.algorithm!r}"
            raise ValueError(describe("fit", "dropout", got, "0, or algorithm='cd'"))
        if self.adapt_temperatures and self.algorithm != "pt":
            got = f"True with algorithm={self.algorithm!r}"
            raise ValueError(describe("fit", "adapt_temperatures", got, "algorithm='pt'"))
        if self.algorithm == "pt" and isinstance(hidden, NReLU):
            raise ValueError(describe("fit", "algorithm", "'pt' with NReLU units", "another"))
        if self.algorithm == "pt" and (
            isinstance(visible, Gaussian) or isinstance(hidden, Gaussian)
        ):
            got = "'pt' with Gaussian units, which have no law at beta = 0"
            raise ValueError(describe("fit", "algorithm", got, "another"))

    def momenta(self) -> tuple[float, float]:
        """Momentum before and from epoch 5."""
        if self.momentum is None:
            return (0.5, 0.9) if self.algorithm == "cd" else (0.0, 0.0)
        expected = "one number or two"
        try:
            numbers = np.atleast_1d(np.asarray(self.momentum, dtype=float)).tolist()
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(describe("fit", "momentum", repr(self.momentum), expected)) from error
        if not 1 <= len(numbers) <= 2:
            raise ValueError(describe("fit", "momentum", f"{len(numbers)} numbers", expected))
        return numbers[0], numbers[-1]

    def rate(self, visible: Units, hidden: Units) -> float:
        """The learning rate at the start."""
        if self.learning_rate is not None:
            return self.learning_rate
        if isinstance(visible, Gaussian) or isinstance(hidden, (Gaussian, NReLU)):
            return 0.001
        return 0.05 if self.algorithm == "cd" else 0.01

    def factor(self, done: float) -> float:
        """The learning rate's factor, given the part of the updates that is done."""
        schedule = self.schedule if callable(self.schedule) else SCHEDULES[self.schedule]
        return schedule(done)

    def as_json(self) -> dict[str, Any]:
        """All that the bits of a run depend on, for a checkpoint."""
        facts = asdict(self)
        if callable(self.schedule):
            # Its name does not tell a lambda from another: its values do.
            facts["schedule"] = [float(self.schedule(k / 16)) for k in range(17)]
        facts["monitors"] = list(self.monitors)
        facts["momentum"] = list(self.momenta())
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in facts.items()}
