# SPDX-License-Identifier: Apache-2.0
"""Prepared plans: run again, bound to memory, and what autograd is told."""

import pytest
import torch
from torch import nn

import torch_init
from torch_init import rule


def test_prepared_plans_run_again():
    model = nn.ModuleList([nn.Linear(8, 8), nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))])
    prepared = torch_init.prepare(torch_init.plan(model, "he", seed=1))
    prepared.run()
    first = torch_init.fingerprint(model)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    prepared.run()
    assert torch_init.fingerprint(model) == first


@pytest.mark.parametrize("change", ["data", "dtype", "parameter", "meta", "resized", "dict"])
def test_prepared_plans_notice_other_memory(change):
    model = nn.Sequential(nn.Linear(3, 3))
    prepared = torch_init.prepare(torch_init.plan(model, "he"))
    prepared.run()
    if change == "data":
        model[0].weight.data = torch.zeros(3, 3)
    elif change == "dtype":
        model.double()
    elif change == "parameter":
        model[0].weight = nn.Parameter(torch.zeros(3, 3))
    elif change == "resized":  # as FSDP frees what it has gathered
        model[0].weight.untyped_storage().resize_(0)
    elif change == "dict":  # as some wrappers do to count accesses
        others = {leaf: nn.Parameter(p.clone()) for leaf, p in model[0]._parameters.items()}
        vars(model[0])["_parameters"] = others
    else:
        model.to("meta")
    with pytest.raises(RuntimeError, match=r"PreparedPlan.run: model: .*Prepare again"):
        prepared.run()


def test_prepared_plans_notice_a_parameter_that_was_taken_away():
    model = nn.Sequential(nn.Linear(3, 3))
    prepared = torch_init.prepare(torch_init.plan(model, "he"))
    del model[0].weight
    with pytest.raises(RuntimeError, match=r"another tensor for weight of a Linear"):
        prepared.run()


def test_unchecked_runs_fill_the_memory_that_was_bound():
    """Also where a parameter has left it, which stays as it is."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    prepared = torch_init.prepare(torch_init.plan(model, "he"))
    bound = model[0].weight.detach()
    with torch.no_grad():
        bound.zero_()
        model[1].weight.zero_()
    model[0].weight.data = torch.zeros(3, 3)
    prepared.run(check=False)
    assert bound.all()
    assert model[1].weight.all()
    assert not model[0].weight.any()


@pytest.mark.parametrize("check", [True, False])
def test_runs_are_writes_to_autograd(check):
    """A backward pass through weights that a run has overwritten is refused."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    prepared = torch_init.prepare(torch_init.plan(model, "he"))
    loss = model(torch.ones(1, 3)).sum()
    prepared.run(check=check)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_scripted_modules_can_be_prepared():
    """Their parameters are in no dict, and are looked up one by one."""
    model = torch.jit.script(nn.Linear(3, 3))
    prepared = torch_init.prepare(torch_init.plan(model, rule("*", torch_init.normal_)))
    prepared.run()
    first = torch_init.fingerprint(model)
    model.weight.data.zero_()
    prepared.run()
    assert torch_init.fingerprint(model) == first
