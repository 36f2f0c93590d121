# SPDX-License-Identifier: Apache-2.0
"""Distributions and dtypes that the engine's tests go through, and bitwise comparison."""

import dataclasses
import functools
import itertools
import math
import random
import re

import numpy as np
import reference
import torch

from torch_init.distributions import (
    Bits,
    Constant,
    Logistic,
    Normal,
    TruncatedNormal,
    TwoPoint,
    Uniform,
)

INF = math.inf
REAL_DTYPES = (
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)
COMPLEX_DTYPES = (torch.complex64, torch.complex128)

# Every case of the specification's section 6: straddling (symmetric or not), tail, mirrored tail,
# narrow, with and without infinite bounds.
TRUNCATIONS = (
    (-2.0, 2.0),
    (-4e-5, 4e-5),
    (0.0, INF),
    (2.0, 3.0),
    (8.0, 9.0),
    (30.0, INF),
    (-INF, -5.0),
    (-0.1, 5.0),
    (1.0, 1.0 + 1e-9),
    (-1.0, 3.0),
    (-100.0, 100.0),
    (-50.0, 45.0),
    (-3.0, 0.0),
    (40.0, 41.0),
    (-1e6 - 1.0, -1e6),
)

DISTRIBUTIONS = (
    Constant(0.3),
    Uniform(0.0, 1.0),
    Uniform(-0.3, 0.7),
    Normal(0.0, 1.0),
    Normal(0.1, 0.02),
    Logistic(0.0, 1.0),
    Logistic(-3.0, 0.25),
    TwoPoint(0.3, -1.0, 1.0),
    TwoPoint(1.0, 0.0, 1.0),
    TruncatedNormal.in_sigmas(0.0, 0.02, -2.0, 2.0),
    TruncatedNormal.absolute(0.5, 2.0, 0.0, 1.0),
    *(TruncatedNormal.in_sigmas(0.0, 1.0, *bounds) for bounds in TRUNCATIONS),
)

# One distribution for each kernel that the CPU tiers choose between.
KERNELS = (
    Uniform(-0.3, 0.7),
    Normal(0.1, 0.02),
    TwoPoint(0.3, -1.0, 1.0),
    TruncatedNormal.in_sigmas(0.0, 0.02, -2.0, 2.0),
    TruncatedNormal.in_sigmas(0.0, 1.0, -1.0, 3.0),
)


def reshaped(*shape):
    return math.prod(shape), lambda memory: memory.view(shape)


def memory_format(shape, order):
    """A dense tensor of `shape` whose dimensions lie in memory in `order`."""
    inverse = [order.index(d) for d in range(len(order))]
    dense = [shape[d] for d in order]
    return math.prod(shape), lambda memory: memory.view(dense).permute(inverse)


# Name: elements of memory, and the view of it that is filled.
LAYOUTS = {
    "0-d": (1, lambda memory: memory.view(())),
    **{f"{n}": reshaped(n) for n in (0, 1, 3, 4, 5, 1003)},
    "no elements": reshaped(3, 0, 2),
    "contiguous": reshaped(3, 5, 7),
    "unaligned by 1": (1004, lambda memory: memory[1:]),
    "unaligned by 3": (1004, lambda memory: memory[3:]),
    "transposed": (35 * 61, lambda memory: memory.view(35, 61).t()),
    "column": (35 * 61, lambda memory: memory.view(35, 61)[:, 17]),
    "rows apart": (35 * 61, lambda memory: memory.view(35, 61)[3:, :50]),
    "one row": (35 * 61, lambda memory: memory.view(35, 61)[4:5, 1:]),
    "strided slice": (4 * 9 * 13, lambda memory: memory.view(4, 9, 13)[1:, ::2, 3:]),
    "diagonal": (37 * 37, lambda memory: memory.view(37, 37).diagonal()),
    "size-1 dimensions": (24, lambda memory: memory.as_strided((1, 6, 1, 2), (7, 4, 99, 2))),
    "channels_last": memory_format((2, 5, 4, 3), (0, 2, 3, 1)),
    "channels_last_3d": memory_format((2, 3, 2, 5, 3), (0, 2, 3, 4, 1)),
    "channels_last slice": (
        2 * 6 * 7 * 9,
        lambda memory: memory.view(2, 6, 7, 9).permute(0, 3, 1, 2)[:, 1:8:3, :5],
    ),
    "long rows": (3 * 2 * 2500, lambda memory: memory.view(3, 2, 2500)[:, 1, 1:]),
    "8-d": memory_format((2,) * 8, (7, 3, 1, 0, 2, 6, 5, 4)),
    **{
        "permuted " + "".join(map(str, order)): memory_format((2, 3, 4, 3, 2), order)
        for order in random.Random(0).sample(list(itertools.permutations(range(5))), 6)
    },
}


def in_reference_terms(distribution):
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(distribution).__name__).lower()
    return (kind, *dataclasses.astuple(distribution))


@functools.cache
def expected(distribution, dtype, key, count, first_index=0):
    """The specified elements first_index, first_index + 1, ... of a tensor of a real dtype."""
    index = np.arange(first_index, first_index + count, dtype=np.uint64)
    return reference.sample(in_reference_terms(distribution), dtype, key, index)


def entry(tensor, distribution, key, *part):
    """An entry of _ops.FillPlan."""
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return (tensor, distribution.spec(), key, *part)


def same_bits(a, b):
    """Whether two real tensors have equal dtype, shape and bits; NaN and the sign of 0 count."""
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.dtype.itemsize]
    return a.dtype == b.dtype and torch.equal(a.view(integer), b.view(integer))


def bits_tensor(*shape):
    """A tensor for Bits(): the stream's words."""
    return torch.empty(shape, dtype=torch.uint32)


__all__ = [
    "COMPLEX_DTYPES",
    "DISTRIBUTIONS",
    "INF",
    "KERNELS",
    "LAYOUTS",
    "REAL_DTYPES",
    "TRUNCATIONS",
    "Bits",
    "Normal",
    "TruncatedNormal",
    "Uniform",
    "bits_tensor",
    "entry",
    "expected",
    "in_reference_terms",
    "same_bits",
]
