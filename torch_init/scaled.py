# SPDX-License-Identifier: Apache-2.0
"""Initialisers whose standard deviation follows from the tensor's shape.

All are variance scaling: variance = scale / fan. They differ in scale, fan and distribution.
"""

import math
import warnings

import torch
from torch import Tensor
from typing_extensions import Unpack

from torch_init._fill import Seed, check_dense, check_tensor, fill_tensor
from torch_init.errors import check_choice, check_finite, describe
from torch_init.schemes import FanLayout, nonlinearity_gain, variance_scaling


def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
    **layout: Unpack[FanLayout],
) -> Tensor:
    r"""Fill the tensor with zero-mean values of variance :math:`\text{scale} / \text{fan}`.

    The engine behind every other function here, and the counterpart of JAX's and Keras's
    VarianceScaling.

    Args:
        tensor: at least 2 dimensions; float32, float64, bfloat16, float16, float8_e4m3fn,
            float8_e5m2, or complex with distribution="normal".
        scale: finite, >= 0.
        mode: "fan_in", "fan_out", "fan_avg" (their mean) or "fan_geo_avg" (their geometric mean).
        distribution: "uniform", "normal", or "truncated_normal": cut at 2 standard deviations and
            widened by 1 / 0.8796, so that the variance is as stated all the same.
        generator, seed, name: see uniform_.
        layout: how to read the dimensions: groups=, transposed=, or in_axis=, out_axis= and
            batch_axes= (schemes.compute_fans).

    Raises:
        ValueError: fewer than 2 dimensions, an unknown mode or distribution, a negative scale.

    Example:
        >>> w = torch.empty(256, 64, 3, 3)
        >>> w = torch_init.variance_scaling_(w, 2.0, "fan_out", "normal", seed=0, name="conv")
    """
    return _fill_scaled(
        "variance_scaling_", tensor, scale, mode, distribution, generator, seed, name, layout
    )


def xavier_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
    **layout: Unpack[FanLayout],
) -> Tensor:
    r"""Fill the tensor by Glorot & Bengio (2010), eq. 16: :math:`U(-a, a)`,
    :math:`a = \text{gain} \sqrt{6 / (\text{fan\_in} + \text{fan\_out})}`.

    Args:
        tensor, generator, seed, name, layout: see variance_scaling_.
        gain: finite; see calculate_gain.

    Example:
        >>> w = torch.empty(3, 5)
        >>> _ = torch_init.xavier_uniform_(w, gain=torch_init.calculate_gain("relu"))
    """
    return _xavier(
        "xavier_uniform_", tensor, gain, "fan_avg", "uniform", generator, seed, name, layout
    )


def xavier_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
    **layout: Unpack[FanLayout],
) -> Tensor:
    r"""Fill the tensor by Glorot & Bengio (2010), eq. 12, with a normal distribution:
    :math:`\text{std} = \text{gain} \sqrt{2 / (\text{fan\_in} + \text{fan\_out})}`.

    Args:
        tensor, generator, seed, name, layout: see variance_scaling_.
        gain: finite; see calculate_gain.

    Example:
        >>> _ = torch_init.xavier_normal_(torch.empty(3, 5))
    """
    return _xavier(
        "xavier_normal_", tensor, gain, "fan_avg", "normal", generator, seed, name, layout
    )


def xavier_(
    tensor: Tensor,
    gain: float = 1.0,
    mode: str = "fan_avg",
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
    **layout: Unpack[FanLayout],
) -> Tensor:
    r"""Fill the tensor with normal values of standard deviation
    :math:`\text{gain} / \sqrt{\text{fan}}`.

    With the default fan_avg this is xavier_normal_. mode="fan_in" is the form often taught,
    ``randn(n_out, n_in) / sqrt(n_in)``, which keeps the forward signal only.

    Args:
        tensor, generator, seed, name, layout: see variance_scaling_.
        gain: finite; see calculate_gain.
        mode: see variance_scaling_.

    Example:
        >>> w = torch_init.xavier_(torch.empty(400, 100), mode="fan_in", seed=0, name="w")
        >>> abs(w.std().item() - 0.1) < 0.002
        True
    """
    return _xavier("xavier_", tensor, gain, mode, "normal", generator, seed, name, layout)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
    **layout: Unpack[FanLayout],
) -> Tensor:
    r"""Fill the tensor by He et al. (2015), eq. 10, with a uniform distribution: :math:`U(-b, b)`,
    :math:`b = \text{gain} \sqrt{3 / \text{fan}}`.

    Args:
        tensor, generator, seed, name, layout: see variance_scaling_.
        a: negative slope of the leaky_relu that follows.
        mode: "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass.
        nonlinearity: what follows; its gain is calculate_gain(nonlinearity, a).

    Example:
        >>> _ = torch_init.kaiming_uniform_(torch.empty(3, 5), nonlinearity="relu")
    """
    return _kaiming(
        "kaiming_uniform_", tensor, a, mode, nonlinearity, "uniform", generator, seed, name, layout
    )


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
    **layout: Unpack[FanLayout],
) -> Tensor:
    r"""Fill the tensor by He et al. (2015), eq. 10: normal with
    :math:`\text{std} = \text{gain} / \sqrt{\text{fan}}`.

    Args:
        tensor, generator, seed, name, layout: see variance_scaling_.
        a, mode, nonlinearity: see kaiming_uniform_.

    Example:
        >>> _ = torch_init.kaiming_normal_(torch.empty(3, 5), mode="fan_out", nonlinearity="relu")
    """
    return _kaiming(
        "kaiming_normal_", tensor, a, mode, nonlinearity, "normal", generator, seed, name, layout
    )


def he_(
    tensor: Tensor,
    mode: str = "fan_in",
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
    **layout: Unpack[FanLayout],
) -> Tensor:
    r"""Fill the tensor with normal values of standard deviation :math:`\sqrt{2 / \text{fan}}`.

    He et al. (2015) for ReLU, in the form often taught: ``randn(n_out, n_in) / sqrt(n_in / 2)``.

    Args:
        tensor, generator, seed, name, layout: see variance_scaling_.
        mode: see variance_scaling_.

    Example:
        >>> w = torch_init.he_(torch.empty(400, 200), seed=0, name="w")
        >>> abs(w.std().item() - 0.1) < 0.002
        True
    """
    return _fill_scaled("he_", tensor, 2.0, mode, "normal", generator, seed, name, layout)


def lecun_normal_(
    tensor: Tensor,
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
    **layout: Unpack[FanLayout],
) -> Tensor:
    r"""Fill the tensor by LeCun et al. (1998), "Efficient BackProp", eq. 16: normal with
    :math:`\text{std} = 1 / \sqrt{\text{fan\_in}}`. Also what SELU networks want.

    Not truncated, like every ``*_normal_`` of torch; JAX's and Keras's lecun_normal is
    ``variance_scaling_(t, 1.0, "fan_in", "truncated_normal")``.

    Args:
        tensor, generator, seed, name, layout: see variance_scaling_.

    Example:
        >>> _ = torch_init.lecun_normal_(torch.empty(3, 5))
    """
    return _fill_scaled(
        "lecun_normal_", tensor, 1.0, "fan_in", "normal", generator, seed, name, layout
    )


def lecun_uniform_(
    tensor: Tensor,
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
    **layout: Unpack[FanLayout],
) -> Tensor:
    r"""Fill the tensor by LeCun et al. (1998), eq. 16, with a uniform distribution:
    :math:`U(-a, a)`, :math:`a = \sqrt{3 / \text{fan\_in}}`.

    Args:
        tensor, generator, seed, name, layout: see variance_scaling_.

    Example:
        >>> _ = torch_init.lecun_uniform_(torch.empty(3, 5))
    """
    return _fill_scaled(
        "lecun_uniform_", tensor, 1.0, "fan_in", "uniform", generator, seed, name, layout
    )


def _xavier(
    function: str,
    tensor: Tensor,
    gain: float,
    mode: str,
    distribution: str,
    generator: torch.Generator | None,
    seed: Seed,
    name: str | None,
    layout: FanLayout,
) -> Tensor:
    gain = check_finite(function, "gain", gain)
    scale = gain * gain
    if scale == math.inf:
        expected = "a gain whose square is within the range of float64"
        raise ValueError(describe(function, "gain", f"{gain}", expected))
    return _fill_scaled(function, tensor, scale, mode, distribution, generator, seed, name, layout)


def _kaiming(
    function: str,
    tensor: Tensor,
    a: float,
    mode: str,
    nonlinearity: str,
    distribution: str,
    generator: torch.Generator | None,
    seed: Seed,
    name: str | None,
    layout: FanLayout,
) -> Tensor:
    mode = mode.lower() if isinstance(mode, str) else mode
    check_choice(function, "mode", mode, ("fan_in", "fan_out"))
    gain = nonlinearity_gain(function, nonlinearity, "a", a)
    check_dense(function, tensor)
    if 0 in tensor.shape:
        # As torch.nn.init does; an empty parameter is nearly always a mistake upstream.
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return tensor
    return _fill_scaled(
        function, tensor, gain * gain, mode, distribution, generator, seed, name, layout
    )


def _fill_scaled(
    function: str,
    tensor: Tensor,
    scale: float,
    mode: str,
    distribution: str,
    generator: torch.Generator | None,
    seed: Seed,
    name: str | None,
    layout: FanLayout,
) -> Tensor:
    check_tensor(function, tensor)
    chosen = variance_scaling(function, tensor.shape, scale, mode, distribution, layout)
    return fill_tensor(function, tensor, chosen, generator, seed, name)


__all__ = [
    "he_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "variance_scaling_",
    "xavier_",
    "xavier_normal_",
    "xavier_uniform_",
]
