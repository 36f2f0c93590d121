# SPDX-License-Identifier: Apache-2.0
"""From running totals to a report: one copy from each device, then arithmetic on the host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

from torch_init.flow import totals as columns
from torch_init.flow.advice import RECTIFYING
from torch_init.flow.kinds import UNBOUNDED
from torch_init.flow.mean_field import Expectation, propagate
from torch_init.flow.operations import Belief, Measured
from torch_init.flow.parameters import ParameterSite
from torch_init.flow.paths import mark_bypassed
from torch_init.flow.recorder import Site
from torch_init.flow.report import Report
from torch_init.flow.rows import ParameterRow, Row
from torch_init.flow.structure import Node, Structure
from torch_init.flow.thresholds import Thresholds
from torch_init.flow.totals import Totals, TotalsRead

if TYPE_CHECKING:
    from torch_init.flow.watching import Flow

_TOLERANCE_SIGMAS = 3.0


def read(flow: Flow, thresholds: Thresholds | None, group: Any) -> Report:
    """Make the report of what flow has measured."""
    recorder = flow.recorder
    reads = {id(t): _fetch(t, group) for t in recorder.all_totals}
    sites = sorted(recorder.sites.values(), key=lambda s: s.order)
    rows: dict[int, Row] = {}
    previous: Site | None = None
    for site in sites:
        row = _row(site, reads[id(site.totals)], previous, reads)
        if row.calls and not _repeats(site, rows, sites, reads):
            rows[site.order] = row
        previous = site
    structure = flow.structure
    expectations: dict[int, Expectation] = {}
    if structure is not None:
        structure.resolve()
        mark_bypassed(structure)
        measured = {
            place: _measured(node.site, reads[id(node.site.totals)])
            for place, node in enumerate(structure.nodes)
            if node.site is not None
        }
        expected = propagate(structure, measured)
        expectations = _by_site(structure, expected)
        _add_expectations(rows, expectations, structure)
    for row in rows.values():
        _drop_what_does_not_apply(row)
    parameters = [_parameter_row(s, reads[id(s.totals)]) for s in flow.parameters.sites]
    return Report(
        rows=list(rows.values()),
        parameters=parameters,
        thresholds=thresholds or Thresholds(),
        steps=flow.steps,
        passes=flow.measured_passes,
        uncalled=[name for name in recorder.modules if name not in {s.name for s in sites}]
        if sites
        else [],
        aliases={name: list(others) for name, others in flow.aliases.items()},
        unsupported=dict(recorder.unsupported),
        is_scaled=recorder.scale is not None,
        has_sums=structure is not None and structure.has_sums(),
        ran_unseen=bool(flow.compiled_passes) and not rows,
        prediction_problem=flow.structure_problem,
    )


def _fetch(totals: Totals, group: Any) -> TotalsRead:
    if group is None:
        return totals.read()
    group = None if group is True else group
    world = dist.get_world_size(group)
    parts = [torch.empty_like(totals.packed) for _ in range(world)]
    dist.all_gather(parts, totals.packed, group=group)
    return _merge([totals.unpack(part) for part in parts])


def _merge(parts: list[TotalsRead]) -> TotalsRead:
    table = sum((part.table for part in parts[1:]), parts[0].table.copy())
    tables = np.stack([part.table for part in parts])
    table[:, columns.ABSMAX] = tables[:, :, columns.ABSMAX].max(0)
    stamps = tables[:, :, columns.ORDER]
    table[:, columns.ORDER] = np.where(
        (stamps > 0).any(0), np.where(stamps > 0, stamps, np.inf).min(0), 0
    )
    return TotalsRead(table, sum((part.arena for part in parts[1:]), parts[0].arena.copy()))


def _measured(site: Site, source: TotalsRead) -> Measured:
    moments = source.moments(site.forward_row)
    precision = None
    if site.features_start is not None and moments.count:
        samples = moments.count // max(1, site.features_width)
        _, total, squares = source.features(site.features_start, site.features_width) / samples
        variance = squares - total**2
        if variance.min() > 0:
            precision = float((1 / variance).mean())
    gradient = source.moments(site.backward_row)
    square = gradient.norm**2 if gradient.calls and not gradient.nonfinite else None
    return Measured(Belief(moments.mean, moments.mean_square), precision, square)


def _repeats(
    site: Site, rows: dict[int, Row], sites: list[Site], reads: dict[int, TotalsRead]
) -> bool:
    """Whether a block returned what the module before it did: the same tensor, seen twice."""
    if site.role not in ("block", "other") or not rows:
        return False
    before = sites[max(rows)]
    if before.features_width != site.features_width:
        return False
    same = [columns.CALLS, columns.COUNT, columns.SUM, columns.SQUARES, columns.ABSMAX]
    pairs = [(site.forward_row, before.forward_row), (site.backward_row, before.backward_row)]
    here, there = reads[id(site.totals)].table, reads[id(before.totals)].table
    return all(np.array_equal(here[a][same], there[b][same], equal_nan=True) for a, b in pairs)


def _row(
    site: Site, source: TotalsRead, previous: Site | None, reads: dict[int, TotalsRead]
) -> Row:
    signal, gradient = source.moments(site.forward_row), source.moments(site.backward_row)
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
        samples=signal.count // max(1, site.features_width),
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
    )
    if signal.histogram is not None and gradient.histogram is not None:
        row.histogram = signal.histogram.astype(int).tolist()
        row.gradient_histogram = gradient.histogram.astype(int).tolist()
    if site.features_start is not None and row.samples:
        _add_features(row, site, source.features(site.features_start, site.features_width))
    if row.dead is not None and previous is not None and previous.features_start is not None:
        before = reads[id(previous.totals)]
        if previous.features_width == site.features_width and site.rectifies:
            block = before.features(previous.features_start, previous.features_width)
            row.expected_dead = expected_dead(block, row.samples)
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


def _by_site(structure: Structure, expected: list[Expectation]) -> dict[int, Expectation]:
    """Expectations by the site's place in the order of events."""
    found = {}
    for node, expectation in zip(structure.nodes, expected, strict=True):
        if node.site is not None:
            found[node.site.order] = expectation
    return found


def _add_expectations(
    rows: dict[int, Row], expectations: dict[int, Expectation], structure: Structure
) -> None:
    weighted = _weights_by_site(structure, expectations)
    for order, row in rows.items():
        e = expectations.get(order)
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
        if order in weighted:
            node, row.nonlinearity, row.fan_in = weighted[order]
            row.is_bypassed = node.is_bypassed
            row.weight_gain = node.expectation.weight_gain
            row.weight_spike = node.weight.spike if node.weight else None


def _tolerance(spread: float) -> float:
    """Three standard deviations of a norm over layers whose 1 / fan_in add up to spread."""
    return math.exp(_TOLERANCE_SIGMAS * 0.5 * math.sqrt(5 * spread))


def _drop_what_does_not_apply(row: Row) -> None:
    """Dead and saturated pre-activations mean something before some nonlinearities only."""
    if row.role in ("weighted", "norm") and row.nonlinearity not in RECTIFYING:
        row.dead = row.expected_dead = None
    if row.role == "weighted" and row.nonlinearity != "tanh":
        row.saturated = math.nan


def _weights_by_site(
    structure: Structure, expectations: dict[int, Expectation]
) -> dict[int, tuple[Node, str, int]]:
    """The last weight applied before each weighted site: reshaping may follow it in the module."""
    found: dict[int, tuple[Node, str, int]] = {}
    for node in structure.nodes:
        if node.site is None or node.site.role != "weighted":
            continue
        here = node
        while here.weight is None and here.inputs and here.inputs[0] is not None:
            here = structure.nodes[here.inputs[0]]
        e = here.expectation
        if here.weight is None or e is None:
            continue
        outputs = here.shape[1] if here.op == "Convolution" else here.shape[-1]
        found[node.site.order] = (here, e.nonlinearity, here.weight.count // outputs)
    return found


def _parameter_row(site: ParameterSite, source: TotalsRead) -> ParameterRow:
    gradient, weight, update = (source.moments(site.row + i) for i in range(3))
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
