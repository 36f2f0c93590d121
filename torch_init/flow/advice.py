# SPDX-License-Identifier: Apache-2.0
"""Suggestions: which initialiser fits a nonlinearity, in torch_init's own calls."""

from __future__ import annotations

from collections.abc import Sequence

from torch_init.flow.rows import Row
from torch_init.schemes import calculate_gain

RECTIFYING = ("relu", "leaky_relu", "threshold")
"""Nonlinearities for which a unit that is never positive is (nearly) off."""

_CALLS = {
    "relu": "torch_init.he_(weight)",
    "leaky_relu": 'torch_init.kaiming_normal_(weight, a=slope, nonlinearity="leaky_relu")',
    "linear": "torch_init.orthogonal_(weight)",
    "tanh": "torch_init.xavier_(weight)",
    "selu": "torch_init.lecun_normal_(weight)",
}
_WITH_GAIN = ("gelu", "silu", "elu", "mish")


def level_gain(nonlinearity: str) -> float | None:
    """Return fan_in times the weights' variance that keeps the signal's size; None if unknown.

    The square of calculate_gain(), but 1 for two whose torch gain keeps no size: tanh, whose slope
    is 1 where the signal settles (Glorot & Bengio 2010, eq. 16; with 5/3 the gradient grows by 1.10
    a layer), and SELU, which is made for it (Klambauer et al. 2017, section 2; torch's is 3/4).
    """
    if nonlinearity in ("tanh", "selu"):
        return 1.0
    if nonlinearity in ("relu", "linear", *_WITH_GAIN):
        return calculate_gain(nonlinearity) ** 2
    return None


def initialiser_for(nonlinearity: str) -> str:
    """Return a call that initialises a weight before this nonlinearity; "" if none is known."""
    if nonlinearity in _WITH_GAIN:
        gain = f'torch_init.calculate_gain("{nonlinearity}")'
        return f'torch_init.xavier_(weight, gain={gain}, mode="fan_in")'
    return _CALLS.get(nonlinearity, "")


def call_for(row: Row) -> str:
    """Return a call that initialises a row's weight; Xavier's where nothing better is known."""
    return initialiser_for(row.nonlinearity) or "torch_init.xavier_(weight)"


def common_nonlinearity(rows: Sequence[Row]) -> str:
    """Return what most of the weighted rows go through next; "" if that is not known."""
    names = [row.nonlinearity for row in rows if row.nonlinearity]
    return max(sorted(set(names)), key=names.count) if names else ""


def weights_in_words(rows: Sequence[Row]) -> str:
    """Return the rows' variance in units of 1 / fan_in, and what would be right; "" if unknown."""
    gains = sorted(row.weight_gain for row in rows if row.weight_gain is not None)
    if not gains:
        return ""
    nonlinearity = common_nonlinearity(rows)
    words = f"the weights' variance is {gains[len(gains) // 2]:.2g} / fan_in"
    level = level_gain(nonlinearity)
    if level is not None:
        before = "without a nonlinearity" if nonlinearity == "linear" else f"before {nonlinearity}"
        words += f", where {level:.3g} / fan_in keeps the size {before}"
    elif nonlinearity == "leaky_relu":
        words += ", where 2 / (1 + slope^2) / fan_in keeps the size before leaky_relu"
    return words


def mend_depth(rows: Sequence[Row], has_sums: bool, vanishes: bool) -> str:
    """Return what to do about a signal that changes with depth."""
    nonlinearity = common_nonlinearity(rows)
    if nonlinearity == "sigmoid" and vanishes:
        return (
            "no usual variance keeps the gradient level through sigmoid, whose slope is at most "
            "1/4: use torch.nn.ReLU with torch_init.he_(weight), or torch.nn.Tanh with "
            "torch_init.xavier_(weight), or add normalisation or residual connections"
        )
    if has_sums and not vanishes:
        return (
            "scale what each residual branch adds by 1 / sqrt(number of branches), begin with its "
            "last weight at torch_init.zeros_(weight), or normalise the branch's input"
        )
    call = initialiser_for(nonlinearity)
    if call:
        return f"initialise with {call}"
    return "choose the weights' variance for the nonlinearity, or add normalisation"
