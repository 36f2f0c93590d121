# SPDX-License-Identifier: Apache-2.0
"""From a shape to a distribution: fans, gains and variance scaling.

Everything here is arithmetic on shapes; nothing touches a tensor's memory.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

from torch_init.distributions import Constant, Distribution, Normal, TruncatedNormal, Uniform
from torch_init.errors import (
    check_choice,
    check_finite,
    check_not_negative,
    check_positive_int,
    describe,
)


class FanLayout(TypedDict, total=False):
    """How a weight's dimensions are to be read. Default: torch's (out, in, *kernel)."""

    groups: int
    """Groups of a grouped convolution, whose weight is (out, in / groups, *kernel)."""
    transposed: bool
    """The weight is that of a transposed convolution or a (in, out) matrix: (in, out, *kernel)."""
    embedding: bool
    """The weight is that of an embedding, (entries, width): both fans are the width."""
    in_axis: int | Sequence[int]
    out_axis: int | Sequence[int]
    batch_axes: int | Sequence[int]
    """Axes by role, in place of the above: what is neither in, out nor batch is the kernel."""


class Fans(NamedTuple):
    """Inputs that feed one output unit, and outputs that one input unit feeds."""

    fan_in: int
    fan_out: int


LAYOUT_KEYWORDS = tuple(FanLayout.__annotations__)
FAN_MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
DISTRIBUTIONS = ("uniform", "normal", "truncated_normal")

TRUNCATED_STD = 0.87962566103423975041
"""Standard deviation of the standard normal restricted to [-2, 2]."""

_GAIN_ONE = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
)
# 1 / sqrt(E[f(x)^2]) for x ~ N(0, 1): what keeps the second moment of the activations at 1.
_SECOND_MOMENT_GAINS = {
    "gelu": 1.53353044119553523,
    "gelu_tanh": 1.53358052166614692,
    "silu": 1.67653247033109116,
    "elu": 1.24519830070070655,
    "mish": 1.4868475812732081,
}


def compute_fans(
    shape: Sequence[int],
    groups: int = 1,
    transposed: bool = False,
    in_axis: int | Sequence[int] | None = None,
    out_axis: int | Sequence[int] | None = None,
    batch_axes: int | Sequence[int] = (),
    embedding: bool = False,
    *,
    function: str = "compute_fans",
) -> Fans:
    """Return fan_in and fan_out of a weight of the given shape.

    fan_in = prod(in axes) * prod(kernel axes), and likewise fan_out. Without axes, dimension 0 is
    out and dimension 1 is in, as in torch.nn.Linear and ConvNd; transposed=True swaps them
    (ConvTransposeNd). groups divides the dimension that holds all groups, dimension 0 in either
    case, so that the fans are those of one group. An embedding looks single rows up and sums over
    no entries: the size of its vocabulary is no fan.

    Args:
        shape: at least 2 dimensions.
        groups: of a grouped convolution; must divide dimension 0.
        transposed: whether dimension 0 is in and dimension 1 is out.
        in_axis, out_axis: axes by role; given together, instead of groups and transposed.
        batch_axes: axes that count independent weights, such as stacked experts.
        embedding: whether the weight is an embedding's, 2-d, read by single rows.
        function: name for error messages.

    Raises:
        ValueError: fewer than 2 dimensions, groups that do not divide, axes that overlap or are
            out of range.

    Example:
        >>> compute_fans((64, 8, 3, 3), groups=4)  # Conv2d(32, 64, 3, groups=4)
        Fans(fan_in=72, fan_out=144)
    """
    if len(shape) < 2:
        raise ValueError(
            describe(
                function,
                "tensor",
                f"{len(shape)} dimension(s)",
                "at least 2 dimensions, to compute fan in and fan out",
                "Give a vector a distribution of its own (zeros_, uniform_, normal_)",
            )
        )
    check_positive_int(function, "groups", groups)
    if not isinstance(transposed, bool):
        raise TypeError(describe(function, "transposed", f"{transposed!r}", "True or False"))
    if embedding:
        if len(shape) != 2 or groups != 1 or transposed or batch_axes != () or in_axis is not None:
            got = f"{len(shape)} dimensions, or another layout beside it"
            raise ValueError(describe(function, "embedding", got, "an (entries, width) matrix"))
        return Fans(shape[1], shape[1])
    batch = _axes(function, "batch_axes", batch_axes, len(shape)) if batch_axes != () else []
    if in_axis is None and out_axis is None:
        return _fans_by_position(function, shape, groups, transposed, batch)
    if groups != 1 or transposed or in_axis is None or out_axis is None:
        got = f"{in_axis!r}, {out_axis!r} with groups={groups}, transposed={transposed}"
        expected = "both axes, without groups and transposed"
        raise ValueError(describe(function, "in_axis, out_axis", got, expected))
    in_axes = _axes(function, "in_axis", in_axis, len(shape))
    out_axes = _axes(function, "out_axis", out_axis, len(shape))
    named = batch + in_axes + out_axes
    if len(set(named)) != len(named):
        got = f"{in_axis!r}, {out_axis!r}, {batch_axes!r}"
        expected = "each axis once, in one role"
        raise ValueError(describe(function, "in_axis, out_axis, batch_axes", got, expected))
    kernel = math.prod([size for axis, size in enumerate(shape) if axis not in named])
    return Fans(
        math.prod([shape[axis] for axis in in_axes]) * kernel,
        math.prod([shape[axis] for axis in out_axes]) * kernel,
    )


def _fans_by_position(
    function: str, shape: Sequence[int], groups: int, transposed: bool, batch: list[int]
) -> Fans:
    sizes = [size for axis, size in enumerate(shape) if axis not in batch] if batch else shape
    if len(sizes) < 2:
        got = f"axes {batch} of {len(shape)}"
        raise ValueError(describe(function, "batch_axes", got, "two axes left for in and out"))
    if sizes[0] % groups != 0:
        expected = f"a divisor of the first dimension's size, {sizes[0]}"
        raise ValueError(describe(function, "groups", str(groups), expected))
    first, second, *kernel = sizes
    first = first // groups * math.prod(kernel)
    second = second * math.prod(kernel)
    return Fans(first, second) if transposed else Fans(second, first)


def _axes(function: str, argument: str, axes: int | Sequence[int], ndim: int) -> list[int]:
    counted: list[int] = []
    for axis in axes if isinstance(axes, (list, tuple)) else (axes,):
        if isinstance(axis, bool) or not isinstance(axis, int):
            expected = "an int or a sequence of ints"
            raise TypeError(describe(function, argument, f"{axes!r}", expected))
        if not -ndim <= axis < ndim:
            expected = f"axes in [{-ndim}, {ndim})"
            raise ValueError(describe(function, argument, f"{axes!r}", expected))
        counted.append(axis % ndim)
    return counted


def fan_for_mode(function: str, fans: Fans, mode: str) -> float:
    """Return the fan that mode selects: fan_in, fan_out, their mean or their geometric mean."""
    check_choice(function, "mode", mode, FAN_MODES)
    if mode == "fan_in":
        return fans.fan_in
    if mode == "fan_out":
        return fans.fan_out
    if mode == "fan_avg":
        return (fans.fan_in + fans.fan_out) / 2
    return math.sqrt(fans.fan_in * fans.fan_out)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    r"""Return the gain recommended for a nonlinearity.

    torch.nn.init's values: 1 for linear, convolutions and sigmoid; 5/3 for tanh; sqrt(2) for relu;
    sqrt(2 / (1 + param**2)) for leaky_relu (param: negative slope, 0.01 if None); 3/4 for selu.
    In addition gelu, gelu_tanh, silu, elu and mish by
    :math:`1 / \sqrt{E[f(x)^2]},\ x \sim N(0, 1)`, which keeps the second moment of the activations
    at 1 (the criterion by which He et al., 2015, arrive at sqrt(2) for relu).

    Args:
        nonlinearity: a name as above.
        param: for leaky_relu only.

    Raises:
        ValueError: an unknown nonlinearity, or a slope that is not a number.

    Example:
        >>> calculate_gain("leaky_relu", 0.2) == math.sqrt(2 / (1 + 0.2**2))
        True
    """
    return nonlinearity_gain("calculate_gain", nonlinearity, "param", param)


def nonlinearity_gain(
    function: str, nonlinearity: str, slope_argument: str, slope: float | None
) -> float:
    """Return calculate_gain(nonlinearity, slope), with errors in the caller's words."""
    known = (*_GAIN_ONE, "tanh", "relu", "leaky_relu", "selu", *_SECOND_MOMENT_GAINS)
    check_choice(function, "nonlinearity", nonlinearity, known)
    if nonlinearity in _GAIN_ONE:
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if slope is None else slope
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(describe(function, slope_argument, f"{slope!r}", "a negative slope"))
        slope = check_finite(function, slope_argument, slope)
        return math.sqrt(2.0 / (1 + slope * slope))
    if nonlinearity == "selu":
        return 3.0 / 4
    return _SECOND_MOMENT_GAINS[nonlinearity]


def scaled_distribution(std: float, shape: str) -> Distribution:
    """Return the zero-mean distribution of the given shape whose standard deviation is std >= 0.

    uniform: U(-sqrt(3) std, sqrt(3) std). normal: N(0, std^2). truncated_normal: a normal cut at
    two of its own standard deviations, widened so that what is left has standard deviation std.
    """
    if std == 0:
        return Constant(0.0)
    if shape == "uniform":
        bound = math.sqrt(3.0) * std
        return Uniform(-bound, bound)
    if shape == "normal":
        return Normal(0.0, std)
    return TruncatedNormal.in_sigmas(0.0, std / TRUNCATED_STD, -2.0, 2.0)


def variance_scaling(
    function: str,
    shape: Sequence[int],
    scale: float,
    mode: str,
    distribution: str,
    layout: FanLayout,
) -> Distribution | None:
    """Return the distribution with variance scale / fan, or None if that fan is 0.

    Only a tensor without elements has a fan of 0.
    """
    scale = check_not_negative(function, "scale", scale)
    check_choice(function, "distribution", distribution, DISTRIBUTIONS)
    for keyword in layout:
        if keyword not in LAYOUT_KEYWORDS:
            expected = "one of seed, name, " + ", ".join(LAYOUT_KEYWORDS)
            raise TypeError(describe(function, "keyword argument", f"{keyword!r}", expected))
    fan = fan_for_mode(function, compute_fans(shape, **layout, function=function), mode)
    if fan == 0:
        return None
    return scaled_distribution(math.sqrt(scale / fan), distribution)
