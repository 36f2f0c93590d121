# SPDX-License-Identifier: Apache-2.0
"""torch_init takes the place of torch.nn.init: names, arguments, defaults, deprecations."""

import inspect

import pytest
import torch
from init_cases import CASES, same_bits

import torch_init

FAN_HELPERS = ["_calculate_fan_in_and_fan_out", "_calculate_correct_fan"]  # used far and wide
DEPRECATED = [name for name in torch.nn.init.__all__ if not name.endswith(("_", "gain"))]
CURRENT = [name for name in torch.nn.init.__all__ if name not in DEPRECATED]


def parameters(function):
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize("module", [torch_init, torch_init.init], ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", [*torch.nn.init.__all__, *FAN_HELPERS])
def test_every_name_of_torch_is_there(module, name):
    assert callable(getattr(module, name))


@pytest.mark.parametrize("name", CURRENT)
def test_arguments_are_those_of_torch(name):
    theirs = parameters(getattr(torch.nn.init, name))
    ours = parameters(getattr(torch_init, name))
    assert ours[: len(theirs)] == theirs
    keyword_only = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    assert all(kind in keyword_only for _, kind, _ in ours[len(theirs) :])


@pytest.mark.parametrize("case", [case for case in CASES if case.random], ids=str)
def test_every_random_initialiser_takes_generator_seed_and_name(case):
    signature = inspect.signature(getattr(torch_init, case.name)).parameters
    assert signature["generator"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    for name in ("seed", "name"):
        assert signature[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert signature[name].default is None


def test_every_initialiser_is_a_case():
    current = {name for name in torch_init.init.__all__ if name.endswith("_")}
    assert {case.name for case in CASES} == current


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fills_in_place_and_returns_its_argument(case):
    tensor = torch.full(case.shape, 7.0)
    address = tensor.data_ptr()
    assert case.fill(tensor) is tensor
    assert tensor.data_ptr() == address
    assert not (tensor == 7).any()


@pytest.mark.parametrize("name", DEPRECATED)
def test_deprecated_name_warns_and_does_the_same(name):
    shape = (4, 3, 3) if name == "dirac" else (4, 3)
    arguments = {"constant": (0.5,), "sparse": (0.5,)}.get(name, ())
    torch.manual_seed(0)
    with pytest.warns(FutureWarning, match=f"`{name}_`"):
        old = getattr(torch_init, name)(torch.empty(shape), *arguments)
    torch.manual_seed(0)
    assert same_bits(old, getattr(torch_init, name + "_")(torch.empty(shape), *arguments))


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_kaiming_warns_of_an_empty_tensor_in_the_callers_line(name):
    with pytest.warns(UserWarning, match="zero-element tensors is a no-op") as record:
        getattr(torch_init, name)(torch.empty(0, 3))
    assert record[0].filename == __file__


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_empty_tensors_are_left_alone(case):
    rest = case.shape[2:]
    for shape in [(4, 0, *rest), (0, 0, *rest), (8, 6, *(0 for _ in rest))]:
        tensor = torch.empty(shape)
        assert case.fill(tensor) is tensor


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3), (7, 5, 3, 2), (3, 0)])
def test_fan_helpers_are_those_of_torch(shape):
    tensor = torch.empty(shape)
    for name, arguments in [
        ("_calculate_fan_in_and_fan_out", ()),
        ("_calculate_correct_fan", ("fan_in",)),
        ("_calculate_correct_fan", ("FAN_OUT",)),
    ]:
        theirs = getattr(torch.nn.init, name)(tensor, *arguments)
        assert getattr(torch_init, name)(tensor, *arguments) == theirs
