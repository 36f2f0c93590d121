# SPDX-License-Identifier: Apache-2.0
"""What the tests of compiled models share: the same training, watched as it is and compiled."""

import copy
import math

import torch
from flow_networks import Residual
from torch import nn

import torch_init


def numbers(report):
    """What was measured of each tensor; NaN as None, so that it equals itself."""
    found = {}
    for row in report.rows:
        counts = (row.calls, row.backward_calls, row.needs_grad)
        signal = (row.mean, row.rms, row.absmax, row.zeros, row.batch_std, row.dead)
        gradient = (row.gradient_norm, row.gradient_absmax, row.gradient_zeros)
        values = (None if v is None or math.isnan(v) else v for v in signal + gradient)
        found[row.layer] = (*counts, *values)
    return found


def watch_both(model, train, **options):
    """Watch train(call) of the model as it is and compiled; return both reports."""
    reports = []
    for compiled in (False, True):
        mine = copy.deepcopy(model)
        call = torch.compile(mine, backend="aot_eager", **options) if compiled else mine
        with torch_init.watch(call) as flow:
            train(call, flow)
        reports.append(flow.report())
    return reports


def assert_same(model, train, **options):
    plain, compiled = watch_both(model, train, **options)
    assert numbers(compiled) == numbers(plain)
    assert compiled.passes == plain.passes
    assert not compiled.unsupported


class Broken(nn.Module):
    """Blocks with a graph break in each."""

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.first, self.act, self.second = nn.Linear(width, width), nn.Tanh(), nn.Linear(8, 8)

        def forward(self, x):
            y = self.act(self.first(x))
            torch._dynamo.graph_break()
            return x + self.second(y)

    def __init__(self, blocks=2):
        super().__init__()
        self.blocks = nn.ModuleList(self.Block(8) for _ in range(blocks))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def plain_mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), Residual(nn.Linear(8, 8)), nn.Linear(8, 4))


def x_of(seed=0):
    return torch.randn(16, 8, generator=torch.Generator().manual_seed(seed))
