# SPDX-License-Identifier: Apache-2.0
"""From running totals to a report: one copy from each device, then arithmetic on the host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_init.flow import totals as columns
from torch_init.flow.advice import RECTIFYING
from torch_init.flow.gathering import Reading, gather
from torch_init.flow.initial_loss import InitialLoss
from torch_init.flow.kinds import UNBOUNDED
from torch_init.flow.mean_field import Expectation, propagate
from torch_init.flow.operations import Belief, Measured
from torch_init.flow.parameters import ParameterSite
from torch_init.flow.paths import mark_bypassed
from torch_init.flow.recorder import Key, Site
from torch_init.flow.report import Report
from torch_init.flow.rows import ParameterRow, Row
from torch_init.flow.rules_of_start import blames_the_start
from torch_init.flow.spectrum import largest_spike
from torch_init.flow.structure import Node, Structure
from torch_init.flow.thresholds import Thresholds
from torch_init.flow.waking import never_learning

if TYPE_CHECKING:
    from torch_init.flow.watching import Flow

FORWARD, BACKWARD = range(2)
_TOLERANCE_SIGMAS = 3.0


def read(
    flow: Flow, thresholds: Thresholds | None, group: Any, loss: InitialLoss | None = None
) -> Report:
    """Make the report of what flow has measured.

    loss: what the measured pass began with, if that is known.
    """
    recorder = flow.recorder
    readings, parameter_readings = gather(flow, group)
    rows: dict[Key, Row] = {}
    previous: Reading[Site] | None = None
    last: Reading[Site] | None = None
    for key, reading in readings.items():
        row = _row(reading, previous)
        if row.calls and not (last and _repeats(reading, last)):
            rows[key] = row
            last = reading
        previous = reading
    structure = flow.structure
    if structure is not None:
        structure.resolve()
        mark_bypassed(structure)
        measured = {
            place: _measured(readings[node.site.key])
            for place, node in enumerate(structure.nodes)
            if node.site is not None
        }
        expected = propagate(structure, measured)
        _add_expectations(rows, _by_site(structure, expected), structure)
    for row in rows.values():
        _drop_what_does_not_apply(row)
    parameters = [_parameter_row(reading) for reading in parameter_readings.values()]
    report = Report(
        rows=list(rows.values()),
        parameters=parameters,
        thresholds=thresholds or Thresholds(),
        steps=flow.steps,
        passes=flow.measured_passes,
        uncalled=[name for name in recorder.modules if name not in {key[0] for key in readings}]
        if readings
        else [],
        aliases={name: list(others) for name, others in flow.aliases.items()},
        unsupported=dict(recorder.unsupported),
        is_scaled=recorder.scale is not None,
        has_sums=structure is not None and structure.has_sums(),
        ran_unseen=bool(flow.compiled_passes) and not rows,
        prediction_problem=flow.structure_problem,
        initial_loss=loss,
    )
    if structure is not None and blames_the_start(report):
        _add_spikes(rows, structure)
    return report


def _measured(reading: Reading[Site]) -> Measured:
    moments, gradient = reading.moments(FORWARD), reading.moments(BACKWARD)
    precision = None
    if reading.features is not None:
        _, total, squares = reading.features / reading.samples
        variance = squares - total**2
        if variance.min() > 0:
            precision = float((1 / variance).mean())
    square = gradient.norm**2 if gradient.calls and not gradient.nonfinite else None
    return Measured(Belief(moments.mean, moments.mean_square), precision, square)


def _repeats(reading: Reading[Site], last: Reading[Site]) -> bool:
    """Whether a block returned what the module before it did: the same tensor, seen twice."""
    if reading.site.role not in ("block", "other"):
        return False
    if last.site.features_width != reading.site.features_width:
        return False
    same = [columns.CALLS, columns.COUNT, columns.SUM, columns.SQUARES, columns.ABSMAX]
    return np.array_equal(reading.rows[:, same], last.rows[:, same], equal_nan=True)


def _row(reading: Reading[Site], previous: Reading[Site] | None) -> Row:
    site = reading.site
    signal, gradient = reading.moments(FORWARD), reading.moments(BACKWARD)
    row = Row(
        layer=site.label,
        type=site.module_type,
        role=site.role,
        dtype=str(site.dtype).removeprefix("torch."),
        calls=signal.calls,
        backward_calls=gradient.calls,
        needs_grad=site.needs_grad,
        mean=signal.mean,
        std=signal.std,
        rms=signal.rms,
        absmax=signal.absmax,
        zeros=signal.zeros,
        saturated=math.nan
        if (site.low, site.high) == UNBOUNDED
        else signal.saturated_low + signal.saturated_high,
        nonfinite=signal.nonfinite,
        nonfinite_order=signal.order,
        samples=reading.samples,
        units=site.features_width,
        batch_std=None,
        unit_spread=None,
        dead=None,
        expected_dead=None,
        gradient_rms=gradient.rms,
        gradient_norm=gradient.norm,
        gradient_absmax=gradient.absmax,
        gradient_zeros=gradient.zeros,
        gradient_nonfinite=gradient.nonfinite,
        gradient_nonfinite_order=gradient.order,
        gradient_subnormal=gradient.subnormal,
        is_captured=site.is_captured,
    )
    if signal.histogram is not None and gradient.histogram is not None:
        row.histogram = signal.histogram.astype(int).tolist()
        row.gradient_histogram = gradient.histogram.astype(int).tolist()
    if reading.features is not None:
        _add_features(row, site, reading.features)
    if previous is None or previous.features is None or row.dead is None:
        return row
    if site.rectifies and previous.site.features_width == site.features_width:
        row.expected_dead = expected_dead(previous.features, previous.samples)
    return row


def _add_features(row: Row, site: Site, features: np.ndarray) -> None:
    positive, total, squares = features
    mean, square = total / row.samples, squares / row.samples
    row.batch_std = float(np.sqrt(np.maximum(square - mean**2, 0).mean()))
    if len(total) > 1 and square.max() > 0:
        scale = math.sqrt(square.max())
        spread = (np.ptp(mean) + np.ptp(np.sqrt(square))) / scale
        row.unit_spread = float(spread)
    if site.rectifies:
        row.dead = float((positive == 0).mean())
    if site.role in ("weighted", "norm"):
        row.dead = float((positive == 0).mean())
        row.expected_dead = expected_dead(features, row.samples)


def expected_dead(features: np.ndarray, samples: int) -> float | None:
    """The share of units that independent zero-mean weights leave negative for a whole batch.

    features: counts, sums and squares of pre-activations by unit. Their mean over the batch is
    what a unit's examples have in common: deep layers see ever more similar examples, so that at
    a correct initialisation up to half of the units may be off for all of them.
    """
    _, total, squares = features / samples
    square = squares.mean()
    if not square > 0 or not math.isfinite(square):
        return None
    alike = min(1.0, float((total**2).mean() / square))
    z = np.linspace(-6, 6, 2001)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    apart = math.sqrt(max(1e-12, 1 - alike))
    below = 0.5 * (1 + np.vectorize(math.erf)(-z * math.sqrt(alike) / apart / math.sqrt(2)))
    return float((weight * below**samples).sum())


def _by_site(structure: Structure, expected: list[Expectation]) -> dict[Key, Expectation]:
    found = {}
    for node, expectation in zip(structure.nodes, expected, strict=True):
        if node.site is not None:
            found[node.site.key] = expectation
    return found


def _add_expectations(
    rows: dict[Key, Row], expectations: dict[Key, Expectation], structure: Structure
) -> None:
    weighted = _weights_by_site(structure)
    zeros = never_learning(structure)
    for key, row in rows.items():
        e = expectations.get(key)
        if e is None:
            continue
        if e.signal is not None and e.signal.square >= 0:
            row.expected_rms = math.sqrt(e.signal.square)
        row.is_predicted = e.is_predicted
        if e.gradient_square is not None:
            row.expected_gradient_norm = math.sqrt(e.gradient_square)
        row.tolerance = _tolerance(e.spread)
        row.gradient_tolerance = _tolerance(e.gradient_spread)
        if row.role == "norm":
            row.nonlinearity = e.nonlinearity
        if key in weighted:
            node, weight = weighted[key]
            row.nonlinearity, row.fan_in = weight.nonlinearity, node.fan_in
            row.is_bypassed = node.is_bypassed
            row.weight_gain = weight.weight_gain
            leaf = structure.parameter_behind(node.inputs[node.weight_input])
            row.never_learns = leaf in zeros


def _add_spikes(rows: dict[Key, Row], structure: Structure) -> None:
    for key, (node, _) in _weights_by_site(structure).items():
        weight = node.weight.leaf() if node.weight and node.weight.leaf else None
        if key in rows and weight is not None and weight.untyped_storage().nbytes() > 0:
            rows[key].weight_spike = largest_spike(weight)


def _tolerance(spread: float) -> float:
    """Three standard deviations of a norm over layers whose 1 / fan_in add up to spread."""
    return math.exp(_TOLERANCE_SIGMAS * 0.5 * math.sqrt(5 * spread))


def _drop_what_does_not_apply(row: Row) -> None:
    """Dead and saturated pre-activations mean something before some nonlinearities only."""
    if row.role in ("weighted", "norm") and row.nonlinearity not in RECTIFYING:
        row.dead = row.expected_dead = None
    if row.role == "weighted" and row.nonlinearity != "tanh":
        row.saturated = math.nan


def _weights_by_site(structure: Structure) -> dict[Key, tuple[Node, Expectation]]:
    """The last weight applied before each weighted site: reshaping may follow it in the module."""
    found: dict[Key, tuple[Node, Expectation]] = {}
    for node in structure.nodes:
        if node.site is None or node.site.role != "weighted":
            continue
        here = node
        while here.weight is None and here.inputs and here.inputs[0] is not None:
            here = structure.nodes[here.inputs[0]]
        e = here.expectation
        if here.weight is None or e is None:
            continue
        found[node.site.key] = here, e
    return found


def _parameter_row(reading: Reading[ParameterSite]) -> ParameterRow:
    site = reading.site
    gradient, weight, update = (reading.moments(place) for place in range(site.rows))
    ratio = math.nan
    if update.calls and weight.rms > 0:
        ratio = update.rms / weight.rms
    return ParameterRow(
        site.names,
        site.shape,
        str(site.dtype).removeprefix("torch."),
        site.requires_grad,
        site.steps,
        site.missing,
        weight.rms,
        gradient.rms,
        gradient.norm,
        gradient.nonfinite,
        gradient.order,
        update.rms if update.calls else math.nan,
        ratio,
        site.unsupported,
    )
