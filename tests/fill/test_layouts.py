# SPDX-License-Identifier: Apache-2.0
"""A value follows its logical index, wherever the element lies in memory."""

import itertools
import math
import random

import pytest
import torch
from cases import REAL_DTYPES, TruncatedNormal, entry, expected, same_bits

from torch_init.distributions import Constant

KEY = 11
SCATTERED = TruncatedNormal.in_sigmas(0.0, 1.0, -1.0, 3.0)


def reshaped(*shape):
    return math.prod(shape), lambda memory: memory.view(shape)


def memory_format(shape, order):
    """A dense tensor of `shape` whose dimensions lie in memory in `order`."""
    inverse = [order.index(d) for d in range(len(order))]
    dense = [shape[d] for d in order]
    return math.prod(shape), lambda memory: memory.view(dense).permute(inverse)


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


def test_memory_formats_are_torchs():
    _, view = LAYOUTS["channels_last"]
    assert view(torch.empty(120)).is_contiguous(memory_format=torch.channels_last)
    _, view = LAYOUTS["channels_last_3d"]
    assert view(torch.empty(180)).is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("distribution", [SCATTERED, Constant(0.3)], ids=["table", "constant"])
def test_values_follow_the_logical_index(run_plan, layout, distribution):
    size, view = LAYOUTS[layout]
    for dtype in REAL_DTYPES:
        memory = torch.zeros(size, dtype=dtype)
        memory.view(torch.uint8).fill_(0x5A)
        untouched = torch.ones(size, dtype=torch.bool)
        view(untouched).fill_(False)
        before = memory[untouched]
        tensor = view(memory)
        run_plan([entry(tensor, distribution, KEY)])
        values = expected(distribution, dtype, KEY, tensor.numel()).view(tensor.shape)
        assert same_bits(tensor, values), dtype
        assert same_bits(memory[untouched], before), dtype
