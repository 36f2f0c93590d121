# SPDX-License-Identifier: Apache-2.0
"""Rows of states are kept as bytes while all of them are states, and train to the same bits."""

import pytest
import torch

from torch_init import rbm
from torch_init.rbm.data import Rows

ROWS = (torch.rand(600, 6, generator=torch.Generator().manual_seed(0)) < 0.3).float()


@pytest.mark.parametrize("units", [rbm.Bernoulli(6), rbm.Spin(6)])
def test_bytes_and_means(units: rbm.units.Units) -> None:
    states = 2 * ROWS - 1 if isinstance(units, rbm.Spin) else ROWS
    rows = Rows("fit", "data", states, rbm.RBM(units, 4))
    assert torch.equal(rows.scan(), states.double().mean(0))
    assert torch.equal(rows.pick_bytes(torch.tensor([599, 0, 256])), ROWS[[599, 0, 256]].byte())


def test_one_late_mean_drops_the_bytes() -> None:
    data = ROWS.clone()
    data[599, 0] = 0.5
    rows = Rows("fit", "data", data, rbm.RBM(6, 4))
    assert torch.equal(rows.scan(), data.double().mean(0))
    assert not rows.are_states and rows._bytes is None
    assert torch.equal(rows.pick(torch.tensor([599])), data[599:])
