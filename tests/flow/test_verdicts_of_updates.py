# SPDX-License-Identifier: Apache-2.0
"""Steps of the optimizer that are too large, too small or lost."""

import pytest
import torch
from flow_networks import batch, kinds, mlp
from torch import nn

import torch_init


def stepped(model, optimizer, *arguments):
    with torch_init.watch(model, optimizer) as flow:
        model(*arguments).float().square().mean().backward()
        optimizer.step()
    return flow.report()


def test_updates_as_large_as_the_weights():
    model = mlp(2, 64, nn.ReLU, 2.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    x, y = batch(model)
    with torch_init.watch(model, optimizer) as flow:
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    verdict = flow.report().verdict
    assert (verdict.kind, verdict.layer) == ("update_too_large", "4.weight")
    assert "learning rate" in verdict.suggestion


def test_a_layer_that_hardly_moves():
    model = mlp(2, 64, nn.ReLU, 2.0)
    slow = {"params": [model[2].weight], "lr": 1e-9}
    others = [p for p in model.parameters() if p is not model[2].weight]
    optimizer = torch.optim.Adam([slow, {"params": others}], lr=1e-3)
    x, y = batch(model)
    with torch_init.watch(model, optimizer) as flow:
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert (flow.report().verdict.kind, flow.report().verdict.layer) == (
        "update_too_small",
        "2.weight",
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_learning_rate_of_zero_is_not_lost_in_rounding(dtype):
    model = mlp(2, 64, nn.ReLU, 2.0).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    assert kinds(stepped(model, optimizer, batch(model)[0].to(dtype))) == ["ok"]


def test_updates_lost_in_rounding_are_named():
    model = mlp(2, 64, nn.ReLU, 2.0).to(torch.bfloat16)
    slow = {"params": [model[2].weight], "lr": 1e-9}
    others = [p for p in model.parameters() if p is not model[2].weight]
    optimizer = torch.optim.Adam([slow, {"params": others}], lr=1e-3)
    verdict = stepped(model, optimizer, batch(model)[0].to(torch.bfloat16)).verdict
    assert (verdict.kind, verdict.layer) == ("update_too_small", "2.weight")
    assert "rounding to bfloat16" in verdict.cause


def test_a_table_of_which_few_rows_were_looked_up_is_no_slow_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50_000, 16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert kinds(stepped(model, optimizer, torch.arange(8))) == ["ok"]
