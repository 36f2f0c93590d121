# SPDX-License-Identifier: Apache-2.0
"""torch.compile where PyTorch's graphs cannot measure: the model runs, and the report says so."""

import warnings

import pytest
import torch
from flow_networks import batch, mlp
from torch import nn
from torch._higher_order_ops import effects

import torch_init
from torch_init import _ops


def test_where_pytorch_keeps_no_effects_the_report_says_so(monkeypatch):
    monkeypatch.setattr(torch_init._ops_observe, "_is_kept", False)
    torch.compiler.reset()
    model = mlp(2, 16, nn.ReLU, 2.0)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    x, y = batch(model, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # not that the model was compiled too early
        with torch_init.watch(compiled, optimizer) as flow:
            for _ in range(2):
                optimizer.zero_grad()
                nn.functional.cross_entropy(compiled(x), y).backward()
                optimizer.step()
    verdict = flow.report().verdict
    assert (verdict.kind, verdict.severity) == ("no_data", "error")
    assert "without torch.compile" in verdict.measured


@pytest.mark.parametrize("version", ["2.9.1", "2.11.0+cu130"])
def test_versions_whose_graphs_hold_no_hooks_of_gradients(monkeypatch, version):
    monkeypatch.setattr(torch, "__version__", version)
    assert not torch_init._ops_observe._keep_for_their_effect()


def registers_nothing(operator):
    """Has another signature than what is called."""


@pytest.mark.skipif(not _ops.graphs_can_tell(), reason="this torch has none to begin with")
@pytest.mark.parametrize("other", [None, registers_nothing])
def test_a_pytorch_without_effects_or_with_others_is_noticed(monkeypatch, other):
    assert torch_init._ops_observe._keep_for_their_effect()
    if other is None:
        monkeypatch.delattr(effects, "_register_effectful_op")
    else:
        monkeypatch.setattr(effects, "_register_effectful_op", other)
    assert not torch_init._ops_observe._keep_for_their_effect()
