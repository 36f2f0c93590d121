# SPDX-License-Identifier: Apache-2.0
"""Initialisers and torch's other machinery: autograd, meta, inference, modules, subclasses."""

import copy
import pickle

import pytest
import torch
from init_cases import CASES, RANDOM, same_bits
from torch.testing._internal.two_tensor import TwoTensor

import torch_init

every = pytest.mark.parametrize("case", CASES, ids=str)
# These write zeros first and then what is not zero.
TWO_WRITES = {"delta_orthogonal_", "sparse_", "eye_", "dirac_", "zero_identity_"}


@every
def test_parameter_stays_a_leaf_without_history(case):
    parameter = torch.nn.Parameter(torch.empty(case.shape))
    assert case.fill(parameter) is parameter
    assert parameter.is_leaf
    assert parameter.requires_grad
    assert parameter.grad_fn is None
    assert torch.is_grad_enabled()
    assert torch.equal(parameter, case.make())


@every
def test_version_counts_each_write(case):
    base = torch.empty(case.shape)
    for tensor in (base, base[:], torch.nn.Parameter(base.clone())):
        version = tensor._version
        case.fill(tensor)
        assert tensor._version == version + (2 if case.name in TWO_WRITES else 1)


@every
def test_autograd_notices_that_a_saved_value_is_gone(case):
    weight = torch.ones(case.shape, requires_grad=True)
    loss = weight.square().sum()
    case.fill(weight)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@every
def test_views_of_a_parameter_one_after_another(case):
    """The idiom for the gates of an LSTM; autograd calls such views stale after the first."""
    rows, *rest = case.shape
    packed = torch.nn.Parameter(torch.full((4 * rows, *rest), 7.0))
    for gate, chunk in enumerate(packed.chunk(4)):
        case.fill(chunk, name=str(gate))
    for gate, chunk in enumerate(packed.detach().chunk(4)):
        assert torch.equal(chunk, case.make(name=str(gate)))


@every
def test_meta_tensors_are_left_alone(case):
    tensor = torch.empty(case.shape, device="meta")
    state = torch.get_rng_state()
    assert case(tensor) is tensor
    assert case.fill(tensor) is tensor
    assert tensor.is_meta
    assert torch.equal(torch.get_rng_state(), state)


@every
def test_inference_mode(case):
    parameter = torch.nn.Parameter(torch.empty(case.shape))
    with torch.inference_mode():
        made_inside = torch.empty(case.shape)
        assert same_bits(case.fill(made_inside), case.make())
        case.fill(parameter)
    assert torch.equal(parameter, case.make())
    before = made_inside.clone()
    with pytest.raises((ValueError, RuntimeError), match=r"inference mode|InferenceMode"):
        case.fill(made_inside, seed=4)
    assert torch.equal(made_inside, before)


@pytest.mark.parametrize("kind", [torch.nn.LazyLinear, torch.nn.LazyConv2d])
@every
def test_lazy_modules_are_refused(case, kind):
    arguments = (3,) if kind is torch.nn.LazyLinear else (3, 3)
    with pytest.raises(ValueError, match=f"{case.name}: tensor: .*lazy module"):
        case.fill(kind(*arguments).weight)


def test_lazy_module_after_its_first_pass():
    module = torch.nn.LazyLinear(3)
    module(torch.zeros(2, 5))
    expected = torch_init.xavier_(torch.empty(3, 5), seed=0, name="w")
    assert torch.equal(torch_init.xavier_(module.weight, seed=0, name="w"), expected)


def test_module_apply_and_named_parameters():
    def initialise(module):
        if isinstance(module, torch.nn.Linear):
            torch_init.xavier_(module.weight)
            torch_init.zeros_(module.bias)

    def build():
        torch.manual_seed(0)
        layers = [torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2)]
        return torch.nn.Sequential(*layers).apply(initialise)

    first, second = build().state_dict(), build().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)

    model = build()
    deep = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    for net in (model, deep):  # the same names, whatever was drawn before
        for name, parameter in net.named_parameters():
            (torch_init.he_ if parameter.dim() > 1 else torch_init.uniform_)(
                parameter, seed=1, name=name
            )
    pairs = zip(model.parameters(), deep.parameters(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)


def test_copies_and_pickles_are_ordinary_tensors():
    module = torch.nn.Linear(4, 5)
    torch_init.he_(module.weight, seed=0, name="w")
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other.weight, module.weight)
        torch_init.he_(other.weight, seed=1, name="w")
        assert not torch.equal(other.weight, module.weight)
    assert pickle.loads(pickle.dumps(torch_init.xavier_)) is torch_init.xavier_


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name not in ("constant_", "ones_", "zeros_")], ids=str
)
def test_tensors_that_wrap_others_are_refused(case):
    """DTensors are not: see tests/distributed."""
    whole = torch.full(case.shape, 7.0)
    message = f"{case.name}: tensor: expected an ordinary tensor, got a TwoTensor"
    with pytest.raises(TypeError, match=message):
        case.fill(TwoTensor(whole, whole.clone()))
    assert (whole == 7).all()


@pytest.mark.parametrize("case", RANDOM, ids=str)
def test_a_dispatch_mode_sees_one_operator(case):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    seen = []
    parameter = torch.nn.Parameter(torch.empty(case.shape))
    version = parameter._version
    torch.manual_seed(0)
    with Recorder():
        case(parameter)
    assert "torch_init.draw_seed_.default" in seen
    assert {"torch_init.fill_.default", "torch_init.orthogonal_.default"} & {*seen}
    assert parameter._version > version
    assert parameter.grad_fn is None
    torch.manual_seed(0)
    assert torch.equal(parameter, case(torch.empty(case.shape)))
