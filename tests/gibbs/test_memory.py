# SPDX-License-Identifier: Apache-2.0
"""Tensors without memory are refused by every face of the chains."""

import dataclasses

import pytest
import torch

from torch_init import _ops


def layer():
    weights = _ops.quantize(torch.ones(3, 2), torch.zeros(3), torch.zeros(2))
    pairs = {
        side: tuple(x.to("meta") for x in getattr(weights, side)) for side in ("biases", "sums")
    }
    ones = {side: getattr(weights, side).to("meta") for side in ("by_visible", "by_hidden")}
    return dataclasses.replace(weights, **pairs, **ones)


def states(units):
    return torch.zeros(4, units, dtype=torch.uint8, device="meta")


@pytest.mark.parametrize(
    "call",
    [
        lambda: _ops.quantize(torch.ones(3, 2, device="meta"), torch.ones(3), torch.ones(2)),
        lambda: _ops.quantize(torch.ones(3, 2), torch.ones(3, device="meta"), torch.ones(2)),
        lambda: _ops.gibbs(layer(), states(3), None, seed=0),
        lambda: _ops.sample_hidden(layer(), states(3), seed=0),
        lambda: _ops.sample_visible(layer(), states(2), seed=0),
        lambda: _ops.statistics(_ops.Term(states(3), states(2))),
        lambda: _ops.sample_bernoulli(torch.zeros(4, 3, device="meta"), seed=0),
        lambda: _ops.sample_gaussian(torch.zeros(4, 3, device="meta"), seed=0),
        lambda: _ops.sample_nrelu(torch.zeros(4, 3, device="meta"), seed=0),
        lambda: _ops.sample_softmax(torch.zeros(4, 3, 2, device="meta"), seed=0),
    ],
)
def test_refuses_meta(call):
    with pytest.raises(ValueError, match="expected a tensor that holds memory"):
        call()


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3), (4, 2), (3, 1)])
def test_refuses_biases_of_other_sizes(sizes):
    with pytest.raises(ValueError, match="as the weights"):
        _ops.quantize(torch.ones(3, 2), *map(torch.ones, sizes))
