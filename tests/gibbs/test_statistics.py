# SPDX-License-Identifier: Apache-2.0
"""v^T h of binary states."""

import pytest
import torch

from torch_init import _ops


def states(chains, units, seed):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(chains, units, generator=generator) < 0.9).to(torch.uint8)


def expected(visible, hidden):
    return (visible.T.double() @ hidden.double()).to(torch.int32)


@pytest.mark.parametrize("chains", [0, 1, 100, 255, 256, 700])
@pytest.mark.parametrize(("visible", "hidden"), [(0, 5), (5, 0), (1, 1), (70, 130), (129, 600)])
def test_statistics(isa, chains, visible, hidden):
    v, h = states(chains, visible, 0), states(chains, hidden, 1)
    assert torch.equal(_ops.statistics(v, h), expected(v, h))


def test_parts_add_up(isa):
    v, h = states(600, 40, 0), states(600, 90, 1)
    out = _ops.statistics(v[:37], h[:37])
    _ops.statistics(v[37:], h[37:], out=out)
    assert torch.equal(out, expected(v, h))
    _ops.statistics(v, h, out=out, sign=-1)
    assert not out.any()
    _ops.statistics(v, h, out=out)
    _ops.statistics(v[:5], h[:5], out=out, accumulate=False)
    assert torch.equal(out, expected(v[:5], h[:5]))
