# SPDX-License-Identifier: Apache-2.0
"""From one site's totals to a row of the report: arithmetic on the host, nothing predicted."""

from __future__ import annotations

import math

import numpy as np

from torch_init.flow import totals as columns
from torch_init.flow.gathering import Reading
from torch_init.flow.kinds import UNBOUNDED
from torch_init.flow.parameters import ParameterSite
from torch_init.flow.rows import ParameterRow, Row
from torch_init.flow.site import Site

FORWARD, BACKWARD = range(2)


def measured_row(reading: Reading[Site], previous: Reading[Site] | None) -> Row:
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


def repeats(reading: Reading[Site], last: Reading[Site]) -> bool:
    """Whether a block returned what the module before it did: the same tensor, seen twice."""
    if reading.site.role not in ("block", "other"):
        return False
    if last.site.features_width != reading.site.features_width:
        return False
    same = [columns.CALLS, columns.COUNT, columns.SUM, columns.SQUARES, columns.ABSMAX]
    return np.array_equal(reading.rows[:, same], last.rows[:, same], equal_nan=True)


def parameter_row(reading: Reading[ParameterSite]) -> ParameterRow:
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
