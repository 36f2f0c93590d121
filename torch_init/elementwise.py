# SPDX-License-Identifier: Apache-2.0
"""Initialisers whose elements are independent draws from a distribution given outright."""

import math

import torch
from torch import Tensor

from torch_init import _ops
from torch_init._fill import Seed, check_constant, check_dense, check_tensor, fill_tensor, note
from torch_init.distributed import check_logical
from torch_init.distributions import Constant, Normal, TruncatedNormal, TwoPoint, Uniform
from torch_init.errors import (
    check_choice,
    check_finite,
    check_not_negative,
    check_number,
    check_probability,
    describe,
)


def uniform_(
    tensor: Tensor,
    a: float = 0.0,
    b: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
) -> Tensor:
    r"""Fill the tensor with values from :math:`U(a, b)` on [a, b).

    Args:
        tensor: any shape; float32, float64, bfloat16, float16, float8_e4m3fn or float8_e5m2.
        a: lower bound, included. Finite and within the dtype's range.
        b: upper bound, excluded: the largest value is the last one below b that the dtype has.
            If b == a, every element is a.
        generator: source of the seed if seed is None; torch's default generator if None.
        seed: an int. With name, it makes the values a pure function of (seed, name, index).
        name: name of the stream under the seed, the parameter's qualified name by convention.

    Raises:
        TypeError, ValueError: a > b, non-finite bounds, a tensor that cannot be filled; the tensor
            is then unchanged.

    Example:
        >>> w = torch.empty(3, 5)
        >>> torch_init.uniform_(w, -1.0, 1.0, seed=0, name="fc.weight").abs().max() <= 1
        tensor(True)
    """
    check_tensor("uniform_", tensor)
    a = check_finite("uniform_", "a", a)
    b = check_finite("uniform_", "b", b)
    _check_in_range("uniform_", "a", a, tensor.dtype)
    _check_in_range("uniform_", "b", b, tensor.dtype)
    _check_ordered("uniform_", a, b)
    if a < b and not _has_value(tensor.dtype, a, math.nextafter(b, a)):
        raise _no_value("uniform_", tensor.dtype, f"[{a}, {b})")
    if b - a == math.inf:
        expected = "b - a within the range of float64"
        raise ValueError(describe("uniform_", "a, b", f"[{a}, {b})", expected))
    distribution = Constant(a) if a == b else Uniform(a, b)
    return fill_tensor("uniform_", tensor, distribution, generator, seed, name)


def normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
) -> Tensor:
    r"""Fill the tensor with values from :math:`N(\text{mean}, \text{std}^2)`.

    One 32-bit word makes one value, through a table of the normal quantile function: off by at
    most 2.3e-6 std, with tails to 6.3 std (float64: 64 bits, 5e-13 std, tails to 9.1 std). A
    complex tensor has independent real and imaginary parts of variance std^2 / 2 each.

    Args:
        tensor: any shape; the dtypes of uniform_, complex64 or complex128 (with mean 0).
        mean: within the dtype's range.
        std: >= 0 and within the dtype's range.
        generator, seed, name: see uniform_.

    Example:
        >>> w = torch.empty(3, 5)
        >>> _ = torch_init.normal_(w, std=0.02, seed=0, name="wte.weight")
    """
    check_tensor("normal_", tensor)
    mean = check_finite("normal_", "mean", mean)
    std = check_not_negative("normal_", "std", std)
    _check_in_range("normal_", "mean", mean, tensor.dtype)
    _check_in_range("normal_", "std", std, tensor.dtype)
    distribution = Constant(mean) if std == 0 else Normal(mean, std)
    return fill_tensor("normal_", tensor, distribution, generator, seed, name)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: torch.Generator | None = None,
    *,
    bounds: str = "absolute",
    seed: Seed = None,
    name: str | None = None,
) -> Tensor:
    r"""Fill the tensor with values from a normal distribution conditioned on [a, b].

    Costs what normal_ costs, for any bounds, one-sided and far in a tail included: the quantile
    table is fitted to them. mean and std are those of the normal before truncation; a standard
    normal cut at +-2 has standard deviation 0.8796.

    Args:
        tensor: any shape; the dtypes of uniform_.
        mean: finite.
        std: of the normal that is cut; >= 0 and within the dtype's range.
        a, b: a <= b, may be infinite. Values never lie outside, in the tensor's own dtype.
        generator, seed, name: see uniform_.
        bounds: "absolute": a and b are values, as in torch.nn.init (so that the defaults do not
            cut anything at std=0.02). "sigma": they are in standard deviations from the mean, as
            in JAX, Keras and timm's trunc_normal_tf_.

    Raises:
        ValueError: a > b, no value of the tensor's dtype in [a, b], std = 0 with a mean outside,
            or bounds so far from the mean that float64 cannot tell them apart.

    Example:
        >>> w = torch.empty(64, 64)
        >>> _ = torch_init.trunc_normal_(w, std=0.02, a=-2, b=2, bounds="sigma")
        >>> w.abs().max() <= 0.04
        tensor(True)
    """
    function = "trunc_normal_"
    check_tensor(function, tensor)
    mean = check_finite(function, "mean", mean)
    std = check_not_negative(function, "std", std)
    _check_in_range(function, "std", std, tensor.dtype)
    a = check_number(function, "a", a)
    b = check_number(function, "b", b)
    _check_ordered(function, a, b)
    check_choice(function, "bounds", bounds, ("absolute", "sigma"))
    distribution = _truncated(function, tensor.dtype, mean, std, a, b, bounds == "sigma")
    return fill_tensor(function, tensor, distribution, generator, seed, name)


def _truncated(
    function: str, dtype: torch.dtype, mean: float, std: float, a: float, b: float, in_sigmas: bool
) -> Constant | Normal | TruncatedNormal:
    low, high = (mean + a * std, mean + b * std) if in_sigmas and std > 0 else (a, b)
    if in_sigmas and std == 0:
        low = high = mean
    if not _has_value(dtype, low, high):
        raise _no_value(function, dtype, f"[{low}, {high}]")
    if low == high:
        return Constant(low)
    if std == 0:
        if not low <= mean <= high:
            expected = f"a positive number, since the mean {mean} is outside [{a}, {b}]"
            raise ValueError(describe(function, "std", "0", expected))
        return Constant(mean)
    if low == -math.inf and high == math.inf:
        return Normal(mean, std)
    if in_sigmas:
        return TruncatedNormal.in_sigmas(mean, std, a, b)
    distribution = TruncatedNormal.absolute(mean, std, a, b)
    if distribution.lower == distribution.upper:
        got = f"[{a}, {b}], both {distribution.lower} standard deviations from the mean"
        raise ValueError(describe(function, "a, b", got, "bounds nearer to the mean"))
    return distribution


def bernoulli_(
    tensor: Tensor,
    p: float = 0.5,
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with ones, each with probability p, and zeros.

    Args:
        tensor: any shape; the dtypes of uniform_.
        p: in [0, 1]; rounded to a multiple of 2**-32.
        generator, seed, name: see uniform_.

    Example:
        >>> mask = torch_init.bernoulli_(torch.empty(1000), p=0.1, seed=0, name="mask")
    """
    check_tensor("bernoulli_", tensor)
    p = check_probability("bernoulli_", "p", p)
    return fill_tensor("bernoulli_", tensor, TwoPoint(p, 0.0, 1.0), generator, seed, name)


def rademacher_(
    tensor: Tensor,
    scale: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    seed: Seed = None,
    name: str | None = None,
) -> Tensor:
    """Fill the tensor with +scale and -scale, each with probability 1/2.

    Args:
        tensor: any shape; the dtypes of uniform_.
        scale: within the dtype's range; also the standard deviation.
        generator, seed, name: see uniform_.

    Example:
        >>> signs = torch_init.rademacher_(torch.empty(1000), seed=0, name="signs")
    """
    check_tensor("rademacher_", tensor)
    scale = check_finite("rademacher_", "scale", scale)
    _check_in_range("rademacher_", "scale", scale, tensor.dtype)
    return fill_tensor("rademacher_", tensor, TwoPoint(0.5, -scale, scale), generator, seed, name)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill the tensor with val. Any shape, dtype and val that torch.Tensor.fill_ takes.

    Example:
        >>> torch_init.constant_(torch.empty(2), 0.3)
        tensor([0.3000, 0.3000])
    """
    return _fill_constant("constant_", tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill the tensor with ones.

    Example:
        >>> torch_init.ones_(torch.empty(2))
        tensor([1., 1.])
    """
    return _fill_constant("ones_", tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill the tensor with zeros.

    Example:
        >>> torch_init.zeros_(torch.empty(2))
        tensor([0., 0.])
    """
    return _fill_constant("zeros_", tensor, 0.0)


def _fill_constant(function: str, tensor: Tensor, val: float) -> Tensor:
    check_dense(function, tensor)
    check_constant(function, val)
    if not torch.compiler.is_compiling():
        check_logical(function, tensor)
    try:
        with torch.no_grad():
            (tensor.new_empty(()) if tensor.is_meta else tensor).fill_(val)
    except RuntimeError as error:
        if "cannot be converted" not in str(error):
            raise
        expected = f"a number that {tensor.dtype} holds"
        raise ValueError(describe(function, "val", f"{val!r}", expected)) from error
    if tensor.is_meta:
        note(tensor, Constant(val))
    return tensor


_FINFO = {dtype: torch.finfo(dtype) for dtype in _ops.FILLABLE_DTYPES}


def _check_ordered(function: str, a: float, b: float) -> None:
    if a > b:
        raise ValueError(describe(function, "a, b", f"a={a} > b={b}", "a <= b"))


def _check_in_range(function: str, argument: str, number: float, dtype: torch.dtype) -> None:
    largest = _FINFO[dtype].max
    if abs(number) > largest:
        expected = f"a number within the range of {dtype}, +-{largest}"
        raise ValueError(describe(function, argument, f"{number}", expected))


def _no_value(function: str, dtype: torch.dtype, interval: str) -> ValueError:
    expected = f"an interval that holds a value of {dtype}"
    return ValueError(describe(function, "a, b", interval, expected))


def _has_value(dtype: torch.dtype, low: float, high: float) -> bool:
    info = _FINFO[dtype]
    if low == high:
        return abs(low) <= info.max
    if high < info.min or low > info.max:
        return False
    # Only an interval narrower than two steps of the dtype can miss all its values.
    if math.isinf(high - low):
        return True
    reach = max(abs(low), abs(high))
    if high - low > 4 * info.eps * reach and high - low > 4 * info.tiny * info.eps:
        return True
    # If there is a value, the one nearest to the middle is in. Plain numbers, since what a tensor
    # holds is unknown to FakeTensorMode.
    middle = low + (high - low) / 2
    spacing = max(math.ldexp(info.eps, math.frexp(middle)[1] - 1), info.tiny * info.eps)
    nearest = round(middle / spacing) * spacing
    return low <= nearest <= high


__all__ = [
    "bernoulli_",
    "constant_",
    "normal_",
    "ones_",
    "rademacher_",
    "trunc_normal_",
    "uniform_",
    "zeros_",
]
