# SPDX-License-Identifier: Apache-2.0
"""Every initialiser under one name: `import torch_init as init` in place of torch.nn.init.

The functions of torch.nn.init keep their names, positional arguments and defaults, and gain the
keyword-only seed= and name= (and, where a fan is computed, groups=, transposed= and axes).
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor

from torch_init.elementwise import (
    bernoulli_,
    constant_,
    normal_,
    ones_,
    rademacher_,
    trunc_normal_,
    uniform_,
    zeros_,
)
from torch_init.scaled import (
    he_,
    kaiming_normal_,
    kaiming_uniform_,
    lecun_normal_,
    lecun_uniform_,
    variance_scaling_,
    xavier_,
    xavier_normal_,
    xavier_uniform_,
)
from torch_init.schemes import calculate_gain, compute_fans, fan_for_mode
from torch_init.structured import (
    delta_orthogonal_,
    dirac_,
    eye_,
    orthogonal_,
    sparse_,
    zero_identity_,
)


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Return the fans as torch.nn.init does; other libraries call it by this private name."""
    fans = compute_fans(tensor.shape)
    return fans.fan_in, fans.fan_out


def _calculate_correct_fan(tensor: Tensor, mode: str) -> float:
    return fan_for_mode("_calculate_correct_fan", compute_fans(tensor.shape), mode.lower())


def _deprecated(new: Callable[..., Tensor]) -> Callable[..., Tensor]:
    old_name = new.__name__.removesuffix("_")

    @functools.wraps(new)
    def old(*args: Any, **kwargs: Any) -> Tensor:
        text = f"`{old_name}` is deprecated, as it is in torch.nn.init; use `{new.__name__}`"
        warnings.warn(text, FutureWarning, stacklevel=2)
        return new(*args, **kwargs)

    old.__name__ = old_name
    return old


# Deprecated, as they are in torch.nn.init.
uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)

__all__ = [
    "bernoulli_",
    "calculate_gain",
    "constant",
    "constant_",
    "delta_orthogonal_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "he_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "rademacher_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "variance_scaling_",
    "xavier_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zero_identity_",
    "zeros_",
]
