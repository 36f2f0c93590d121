# SPDX-License-Identifier: Apache-2.0
"""A value follows its logical index, wherever the element lies in memory."""

import pytest
import torch
from cases import LAYOUTS, REAL_DTYPES, TruncatedNormal, entry, expected, same_bits

from torch_init.distributions import Constant

KEY = 11
SCATTERED = TruncatedNormal.in_sigmas(0.0, 1.0, -1.0, 3.0)


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
