# SPDX-License-Identifier: Apache-2.0
"""States of binary units as bytes, and telling them from means."""

import pytest
import torch

from torch_init import _ops


@pytest.mark.parametrize("off", [0.0, -1.0])
@pytest.mark.parametrize("count", [0, 1, 4095, 4097, 10_000])
def test_states_become_bytes(off, count):
    on = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) < 0.3
    states = torch.where(on, 1.0, off)
    assert torch.equal(_ops.state_bytes(states, off), on.to(torch.uint8))
    assert torch.equal(_ops.state_bytes(states.T, off), on.T.to(torch.uint8))


@pytest.mark.parametrize("other", [0.5, 1 + 2**-23, 1e-45, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 5000, 9999])
def test_anything_else_is_none(other, place):
    states = torch.zeros(10_000)
    states[place] = other
    assert _ops.state_bytes(states, 0.0) is None


def test_a_negative_zero_is_zero():
    assert _ops.state_bytes(torch.tensor([-0.0, 1.0]), 0.0).tolist() == [0, 1]
