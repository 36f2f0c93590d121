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


def test_a_model_with_other_parameters_layers_or_ties_is_refused():
    def tied():
        with torch.device("meta"):
            model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    for change in (
        lambda model: nn.utils.parametrizations.weight_norm(model[0]),
        lambda model: model.append(nn.Linear(4, 4)),
        lambda model: model.__setitem__(1, nn.Linear(4, 4)),
        lambda model: model.__delitem__(1),
        lambda model: None,  # to_empty has untied the weights
    ):
        model = tied()
        plan = torch_init.plan(model, RULES)
        model.to_empty(device="cpu")
        change(model)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        with pytest.raises(ValueError, match="Make the plan anew"):
            torch_init.init_(model, plan)
        assert all(map(same_bits, model.parameters(), before))


def test_what_modules_make_of_their_parameters_is_not_what_is_filled():
    class Doubled(nn.Linear):
        def __getattribute__(self, name):
            value = super().__getattribute__(name)
            return value * 2 if name == "weight" else value

    model = Doubled(6, 4)
    torch_init.init_(model, RULES, seed=3)
    expected = torch_init.normal_(torch.empty(4, 6), seed=3, name="weight")
    assert same_bits(model._parameters["weight"], expected)
