# SPDX-License-Identifier: Apache-2.0
"""What a lecture on weight initialisation claims, each claim checked against the numbers.

A claim is checked where its runs are part of the comparison and is left out otherwise. It is
reported as not holding where the numbers say so, which small depths, other learning rates or
single seeds may well bring about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .measurement import finite_width_band, per_layer, total_ratio
from .models import ACTIVATIONS, STARTS
from .training import Run

# Learnt: 90 % of the test examples right. Not learnt: diverged, or a training loss above 95 % of
# ln(classes), the loss of a uniform guess. In between, claims about either do not hold.
_LEARNT_ACCURACY = 0.90
_NOT_LEARNT_LOSS = 0.95
# Vanished: the first hidden layer has less than a thousandth of the last one's gradient.
_VANISHED = 1e-3
# A factor per layer agrees with theory within 10 %. Draws at the default width scatter by 2 to 3 %.
_FACTOR_TOLERANCE = 0.10
# Units are identical up to the rounding of float32 sums, 1e-7 to 1e-6 per layer; independent units
# differ by about 1.
_IDENTICAL = 1e-3
_LOSS_ROUNDING = 1e-6


@dataclass(frozen=True)
class Comparison:
    """All runs of one comparison, and what the claims need to know of data and network.

    ``class_entropy`` is that of the probe examples, in nats.
    """

    runs: list[Run]
    classes: int
    class_entropy: float
    depth: int
    width: int

    def select(self, activations: Iterable[str], starts: Iterable[str]) -> list[Run]:
        """The runs of these activations and starts that were made."""
        wanted = {(activation, start) for activation in activations for start in starts}
        return [run for run in self.runs if (run.activation, run.start) in wanted]

    def ratio(self, run: Run) -> float | None:
        """First over last hidden layer's gradient before training; None if there is none."""
        return total_ratio(run.first.gradient_rms) if run.first else None

    def factor(self, run: Run) -> float | None:
        """The mean factor per layer behind :meth:`ratio`."""
        return per_layer(self.ratio(run), self.depth)

    def expected_factor(self, run: Run) -> float | None:
        """Mean-field theory's value of :meth:`factor`."""
        return per_layer(run.expected_ratio, self.depth)

    def not_learnt(self, run: Run) -> bool:
        """Whether the run ended no better than a uniform guess."""
        return run.last is None or run.last.train_loss > _NOT_LEARNT_LOSS * math.log(self.classes)


def learnt(run: Run) -> bool:
    """Whether the run ended with at least 90 % of the test examples right."""
    return run.test_accuracy is not None and run.test_accuracy >= _LEARNT_ACCURACY


@dataclass(frozen=True)
class Claim:
    """A statement, whether it holds in this comparison, and the numbers that decide it."""

    name: str
    statement: str
    holds: bool
    evidence: str


def check_claims(comparison: Comparison) -> list[Claim]:
    """Check every claim whose runs are there."""
    claims = (check(comparison) for check in _CHECKS)
    return [claim for claim in claims if claim is not None]


def summarise(comparison: Comparison) -> str:
    """One sentence naming the runs that learnt."""
    names = ", ".join(_label(run) for run in comparison.runs if learnt(run))
    return f"Runs that reached {_LEARNT_ACCURACY:.0%} test accuracy: {names or 'none'}."


def _label(run: Run) -> str:
    return f"{ACTIVATIONS[run.activation].label} {STARTS[run.start].label}"


def _factors(c: Comparison, run: Run) -> str:
    """A run's factor per layer beside theory's, and how the run ended."""
    factor, expected = c.factor(run), c.expected_factor(run)
    if factor is None or expected is None:
        measured = "no gradient"
    else:
        measured = f"x{factor:#.3g} per layer (theory x{expected:#.3g})"
    end = "diverged" if run.test_accuracy is None else f"test accuracy {run.test_accuracy:.1%}"
    return f"{_label(run)}: {measured}, {end}"


def _agrees(c: Comparison, run: Run) -> bool:
    factor, expected = c.factor(run), c.expected_factor(run)
    if not factor or not expected:
        return False
    return abs(factor / expected - 1) < _FACTOR_TOLERANCE


def _vanished(c: Comparison, run: Run) -> bool:
    ratio = c.ratio(run)
    return run.first is not None and (ratio is None or ratio < _VANISHED)


def _zero_is_frozen(c: Comparison) -> Claim | None:
    """f(0) = 0: no signal forward, none backward, so only the output bias has a gradient.

    That bias learns the class frequencies. No constant prediction has a loss below their entropy
    (Gibbs' inequality), which is ln(classes) for balanced classes; momentum and the differing
    frequencies of single batches may hold the loss a little above either.
    """
    runs = c.select(["tanh", "relu"], ["zero"])
    if not runs:
        return None
    parameters = 2 * (c.depth + 1)

    def holds(run: Run) -> bool:
        return (
            len(run.unchanged) == parameters - 1
            and f"layers.{c.depth}.bias" not in run.unchanged
            and all(rms == 0 for point in run.points for rms in point.gradient_rms)
            and abs(run.points[0].train_loss - math.log(c.classes)) < _LOSS_ROUNDING
            and all(point.train_loss > c.class_entropy - _LOSS_ROUNDING for point in run.points)
            and c.not_learnt(run)
        )

    def evidence(run: Run) -> str:
        largest = max(max(point.gradient_rms) for point in run.points)
        end = f"loss {run.last.train_loss:.4f}" if run.last else "diverged"
        return (
            f"{ACTIVATIONS[run.activation].label}: largest hidden gradient {largest:g}, "
            f"{len(run.unchanged)} of {parameters} parameters bit for bit unchanged, {end}"
        )

    return Claim(
        "zero-frozen",
        "A zero start with tanh or ReLU never learns: only the output bias has a gradient, "
        "and it can do no more than match the class frequencies",
        all(map(holds, runs)),
        f"ln {c.classes} = {math.log(c.classes):.4f}, entropy of the class frequencies "
        f"{c.class_entropy:.4f}; " + "; ".join(map(evidence, runs)),
    )


def _zero_stays_symmetric(c: Comparison) -> Claim | None:
    """f(0) = 1/2: the output layer learns, but the units of a layer get one and the same update."""
    runs = c.select(["sigmoid"], ["zero"])
    if not runs:
        return None
    (run,) = runs
    if run.last is None or run.unit_spread is None:
        identical, evidence = False, "diverged"
    else:
        identical = run.unit_spread < _IDENTICAL
        evidence = (
            f"largest relative difference between units after training {run.unit_spread:.1g}, "
            f"loss {run.last.train_loss:.4f}"
        )
    return Claim(
        "zero-symmetric",
        "A zero start with sigmoid never breaks the symmetry: all units of a layer stay "
        f"identical, and the loss stays at ln {c.classes}",
        identical and c.not_learnt(run),
        evidence,
    )


def _claim(
    name: str,
    statement: str,
    activations: list[str],
    starts: list[str],
    holds: Callable[[Comparison, Run], bool],
    evidence: Callable[[Comparison, Run], str] = _factors,
) -> Callable[[Comparison], Claim | None]:
    """A check that holds if ``holds`` does for every run of these activations and starts."""

    def check(c: Comparison) -> Claim | None:
        runs = c.select(activations, starts)
        if not runs:
            return None
        return Claim(
            name,
            statement,
            all(holds(c, run) for run in runs),
            "; ".join(evidence(c, run) for run in runs),
        )

    return check


def _ratio_in_band(c: Comparison, run: Run) -> bool:
    ratio, band = c.ratio(run), finite_width_band(c.width, c.depth)
    return ratio is not None and 1 / band < ratio < band


def _ratio_evidence(c: Comparison, run: Run) -> str:
    ratio = c.ratio(run)
    shown = "no gradient" if ratio is None else f"first/last layer {ratio:.2g}"
    shut = "inactive" if run.activation == "relu" else "saturated"
    return f"{shown}, {run.shut_share:.0%} of units {shut}; {_factors(c, run)}"


_CHECKS: tuple[Callable[[Comparison], Claim | None], ...] = (
    _zero_is_frozen,
    _zero_stays_symmetric,
    _claim(
        "sigmoid-vanishes",
        "Sigmoid gradients vanish towards the input from every start scaled to the layer, and the "
        "network does not learn",
        ["sigmoid"],
        ["lecun", "xavier", "he"],
        lambda c, run: _vanished(c, run) and c.not_learnt(run),
    ),
    _claim(
        "sigmoid-vanishes-from-unit-normal",
        "Sigmoid gradients vanish from N(0, 1) too, and the network does not learn",
        ["sigmoid"],
        ["normal-1"],
        lambda c, run: _vanished(c, run) and c.not_learnt(run),
    ),
    _claim(
        "small-normal-vanishes",
        "From N(0, 0.01^2) the gradient vanishes whatever the activation, and the network does "
        "not learn",
        ["sigmoid", "tanh", "relu"],
        ["normal-0.01"],
        lambda c, run: _vanished(c, run) and c.not_learnt(run),
    ),
    _claim(
        "tanh-unit-normal-saturates",
        "From N(0, 1) most tanh units are saturated, and the network does not learn",
        ["tanh"],
        ["normal-1"],
        lambda c, run: run.shut_share > 0.5 and c.not_learnt(run),
        _ratio_evidence,
    ),
    _claim(
        "tanh-xavier-healthy",
        "Xavier's start keeps tanh healthy: the first layer has at least a tenth of the last "
        "one's gradient, under a tenth of the units are saturated, and the network learns",
        ["tanh"],
        ["xavier"],
        lambda c, run: 0.1 < (c.ratio(run) or 0) < 10 and run.shut_share < 0.1 and learnt(run),
        _ratio_evidence,
    ),
    _claim(
        "relu-unit-normal-explodes",
        "From N(0, 1) the gradient of ReLU explodes, by sqrt(width / 2) per layer, and the network "
        "does not learn",
        ["relu"],
        ["normal-1"],
        lambda c, run: _agrees(c, run) and (c.factor(run) or 0) > 1 and c.not_learnt(run),
    ),
    _claim(
        "relu-half-variance",
        "ReLU with LeCun's or Xavier's start loses half of the gradient's variance in each layer, "
        "a factor of 0.707",
        ["relu"],
        ["lecun", "xavier"],
        _agrees,
    ),
    _claim(
        "relu-he-keeps-gradient",
        "ReLU with He's start keeps the size of the gradient through all layers, and learns",
        ["relu"],
        ["he"],
        lambda c, run: _ratio_in_band(c, run) and learnt(run),
        _ratio_evidence,
    ),
)
