# SPDX-License-Identifier: Apache-2.0
"""Plans whose model has changed since they were made."""

import pytest
import torch
from init_cases import same_bits
from torch import nn

import torch_init

RULES = torch_init.rule("*", torch_init.normal_)


def meta_plan():
    with torch.device("meta"):
        model = nn.Linear(6, 4)
    return model, torch_init.plan(model, RULES, seed=3)


def test_parameters_are_looked_up_when_a_plan_is_carried_out():
    model, plan = meta_plan()
    model.to_empty(device="cpu")  # makes new parameters
    torch_init.prepare(plan).run()
    expected = torch_init.normal_(torch.empty(4, 6), seed=3, name="weight")
    assert same_bits(model.weight, expected)


def test_a_parameter_of_another_dtype_or_shape_is_refused():
    for change in (
        lambda model: model.bfloat16(),
        lambda model: setattr(model, "weight", nn.Parameter(torch.empty(4, 5))),
    ):
        model, plan = meta_plan()
        model.to_empty(device="cpu")
        change(model)
        with pytest.raises(ValueError, match="as when the plan was made, got weight of"):
            torch_init.prepare(plan)
