# SPDX-License-Identifier: Apache-2.0
"""One call of every initialiser, for tests of what all of them have in common."""

from dataclasses import dataclass
from typing import Any

import torch

import torch_init


@dataclass(frozen=True)
class Case:
    """An initialiser with a shape that suits it and the arguments it cannot do without."""

    name: str
    shape: tuple[int, ...] = (8, 6)
    arguments: tuple[Any, ...] = ()
    random: bool = True
    bounded: bool = False  # has bounds, which have no meaning for complex numbers

    @property
    def complex(self):
        return not self.bounded and self.name not in ("bernoulli_", "rademacher_")

    def __call__(self, tensor, **keywords):
        return getattr(torch_init, self.name)(tensor, *self.arguments, **keywords)

    def fill(self, tensor, seed=3, name="layer.weight"):
        """Fill tensor with what (seed, name) determines, or what the initialiser always makes."""
        return self(tensor, seed=seed, name=name) if self.random else self(tensor)

    def make(self, dtype=torch.float32, **key):
        return self.fill(torch.empty(self.shape, dtype=dtype), **key)

    def __str__(self):
        return self.name


CASES = [
    Case("uniform_", arguments=(-1.0, 1.0), bounded=True),
    Case("normal_"),
    Case("trunc_normal_", bounded=True),
    Case("bernoulli_", arguments=(0.3,)),
    Case("rademacher_"),
    Case("xavier_"),
    Case("xavier_uniform_", bounded=True),
    Case("xavier_normal_"),
    Case("he_"),
    Case("kaiming_uniform_", bounded=True),
    Case("kaiming_normal_"),
    Case("lecun_normal_"),
    Case("lecun_uniform_", bounded=True),
    Case("variance_scaling_", bounded=True),
    Case("orthogonal_"),
    Case("delta_orthogonal_", shape=(8, 6, 3)),
    Case("sparse_", arguments=(0.3,)),
    Case("constant_", arguments=(0.5,), random=False),
    Case("ones_", random=False),
    Case("zeros_", random=False),
    Case("eye_", random=False),
    Case("dirac_", shape=(8, 6, 3), random=False),
    Case("zero_identity_", random=False),
]
RANDOM = [case for case in CASES if case.random]

NARROW_DTYPES = [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]
REAL_DTYPES = [torch.float32, torch.float64, *NARROW_DTYPES]


def bits(tensor):
    """The tensor's bytes in logical order; equal bits are more than equal values."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def same_bits(left, right):
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and torch.equal(bits(left), bits(right))
    )
