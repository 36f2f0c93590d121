# SPDX-License-Identifier: Apache-2.0
"""From running totals to a report: one copy from each device, then arithmetic on the host."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch_init.flow.advice import RECTIFYING
from torch_init.flow.gathering import Reading, gather, parts_of_this_process
from torch_init.flow.initial_loss import InitialLoss
from torch_init.flow.linearity import is_linear_map
from torch_init.flow.loss_mismatch import LossMismatch
from torch_init.flow.mean_field import Expectation, propagate
from torch_init.flow.measured import (
    BACKWARD,
    FORWARD,
    measured_row,
    parameter_row,
    repeats,
)
from torch_init.flow.operations import Belief, Measured
from torch_init.flow.paths import mark_bypassed
from torch_init.flow.report import Report
from torch_init.flow.rows import Row
from torch_init.flow.rules_of_start import blames_the_start
from torch_init.flow.site import Key, Site
from torch_init.flow.spectrum import largest_spike
from torch_init.flow.structure import Node, Structure
from torch_init.flow.thresholds import Thresholds
from torch_init.flow.waking import follow_zeros

if TYPE_CHECKING:
    from torch_init.flow.handle import Flow

_TOLERANCE_SIGMAS = 3.0


def read(
    flow: Flow,
    thresholds: Thresholds | None,
    group: Any,
    loss: InitialLoss | None = None,
    mismatch: LossMismatch | None = None,
) -> Report:
    """Make the report of what flow has measured.

    loss, mismatch: what the measured pass began with, and what is wrong with it, if that is known.
    """
    recorder = flow.recorder
    readings, parameter_readings = gather(flow, group)
    rows: dict[Key, Row] = {}
    previous: Reading[Site] | None = None
    last: Reading[Site] | None = None
    for key, reading in readings.items():
        row = measured_row(reading, previous)
        if row.calls and not (last and repeats(reading, last)):
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
        _add_expectations(rows, _by_site(structure, expected))
        _add_weights(rows, structure)
    for row in rows.values():
        _drop_what_does_not_apply(row)
    parameters = [parameter_row(reading) for reading in parameter_readings.values()]
    report = Report(
        rows=list(rows.values()),
        parameters=parameters,
        thresholds=thresholds or Thresholds(),
        steps=flow.steps,
        passes=flow.measured_passes,
        passes_left_out=recorder.passes.left_out,
        uncalled=[name for name in recorder.modules if name not in {key[0] for key in readings}]
        if readings
        else [],
        aliases={name: list(others) for name, others in flow.aliases.items()},
        unsupported=parts_of_this_process(readings) | recorder.unsupported,
        is_scaled=recorder.scale is not None,
        has_sums=structure is not None and structure.has_sums(),
        is_linear=structure is not None and is_linear_map(structure),
        ran_unseen=bool(flow.compiled_passes) and not rows,
        prediction_problem=flow.structure_problem,
        initial_loss=loss,
        loss_mismatch=mismatch,
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


def _by_site(structure: Structure, expected: list[Expectation]) -> dict[Key, Expectation]:
    found = {}
    for node, expectation in zip(structure.nodes, expected, strict=True):
        if node.site is not None:
            found[node.site.key] = expectation
    return found


def _add_expectations(rows: dict[Key, Row], expectations: dict[Key, Expectation]) -> None:
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


def _add_weights(rows: dict[Key, Row], structure: Structure) -> None:
    zeros = follow_zeros(structure)
    for row, place, node in _weights(rows, structure):
        row.nonlinearity, row.weight_gain = (
            node.expectation.nonlinearity,
            node.expectation.weight_gain,
        )
        row.fan_in, row.is_bypassed = node.fan_in, node.is_bypassed
        leaf = structure.parameter_behind(node.inputs[node.weight_input])
        row.never_learns, row.waits = leaf in zeros.never, place in zeros.waiting


def _add_spikes(rows: dict[Key, Row], structure: Structure) -> None:
    for row, _, node in _weights(rows, structure):
        weight = node.weight.leaf() if node.weight and node.weight.leaf else None
        if weight is not None and weight.untyped_storage().nbytes() > 0:
            row.weight_spike = largest_spike(weight)


def _weights(rows: dict[Key, Row], structure: Structure) -> Iterator[tuple[Row, int, Node]]:
    """Yield each weighted row, its place in the structure, and the last weight applied before it.

    Reshaping may follow the weight in the module.
    """
    for place, node in enumerate(structure.nodes):
        row = rows.get(node.site.key) if node.site else None
        if row is None or row.role != "weighted":
            continue
        here = node
        while here.weight is None and here.inputs and here.inputs[0] is not None:
            here = structure.nodes[here.inputs[0]]
        if here.weight is not None:
            yield row, place, here


def _tolerance(spread: float) -> float:
    """Three standard deviations of a norm over layers whose 1 / fan_in add up to spread."""
    return math.exp(_TOLERANCE_SIGMAS * 0.5 * math.sqrt(5 * spread))


def _drop_what_does_not_apply(row: Row) -> None:
    """Dead and saturated pre-activations mean something before some nonlinearities only."""
    if row.role in ("weighted", "norm") and row.nonlinearity not in RECTIFYING:
        row.dead = row.expected_dead = None
    if row.role == "weighted" and row.nonlinearity != "tanh":
        row.saturated = math.nan
