# SPDX-License-Identifier: Apache-2.0
"""find_nonfinite names the module and the direction of the first NaN or infinity."""

import sys

import pytest
import torch
from flow_networks import Odd, batch, mlp
from torch import nn

import torch_init
from torch_init.flow import NonFiniteError


def chain(*inner):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), *inner, nn.Linear(8, 8))


def run(model, **options):
    with torch_init.find_nonfinite(model, should_raise=False, **options) as found:
        model(torch.randn(4, 8, generator=torch.Generator().manual_seed(0))).sum().backward()
    return found.origin


@pytest.mark.parametrize(
    "broken", [lambda x: torch.log(-x.abs()), lambda x: x / 0, lambda x: torch.exp(x * 1e4)]
)
def test_forward_origin(broken):
    origin = run(chain(nn.Tanh(), Odd(broken), nn.ReLU()))
    assert (origin.layer, origin.direction) == ("2", "forward")
    assert "`1` is finite" in origin.sentence


def test_backward_origin_with_a_finite_forward_pass():
    origin = run(chain(nn.Tanh(), Odd(lambda x: (x - x).sqrt()), nn.ReLU()))
    assert (origin.layer, origin.direction) == ("1", "backward")
    assert "2" in origin.cause and "backward" in origin.cause


def test_weights_are_blamed():
    model = chain(nn.Tanh())
    with torch.no_grad():
        model[2].weight[3, 3] = float("nan")
    origin = run(model)
    assert (origin.layer, origin.direction) == ("2", "forward")
    assert "`weight` holds 1" in origin.cause


def test_overflow_of_half_precision_says_how_near_the_limit_the_signal_was():
    model = chain(nn.ReLU()).half()
    with torch.no_grad():
        model[0].weight.mul_(2e4)
        model[0].bias.zero_()
        model[2].weight.fill_(4.0)
    with torch_init.find_nonfinite(model, should_raise=False) as found:
        model(torch.ones(4, 8, dtype=torch.float16))
    assert found.origin.layer == "2"
    assert "of float16's largest number" in found.origin.cause


def test_the_loss_is_blamed_where_the_first_gradient_is_broken():
    model = chain(nn.Tanh())
    with torch_init.find_nonfinite(model, should_raise=False) as found:
        (model(torch.randn(4, 8)) * 0).sqrt().sum().backward()
    assert (found.origin.layer, found.origin.direction) == ("2", "backward")
    assert "loss" in found.origin.cause


def test_finding_is_raised_at_the_end_of_the_block():
    model = chain(Odd(lambda x: x / 0))
    expected = pytest.raises(NonFiniteError, match="output of `1`")
    with expected as caught, torch_init.find_nonfinite(model):
        model(torch.randn(4, 8))
    assert caught.value.origin.layer == "1"
    assert not model[0]._forward_hooks


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes from Python 3.11 on")
def test_finding_becomes_a_note_of_the_blocks_own_exception():
    model = chain(Odd(lambda x: x / 0))
    with pytest.raises(AssertionError) as caught, torch_init.find_nonfinite(model):
        assert model(torch.randn(4, 8)).isfinite().all()
    assert "output of `1`" in "".join(caught.value.__notes__)


def test_healthy_model_has_no_finding():
    model = mlp(3, 16, nn.ReLU, 2.0)
    x, y = batch(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.find_nonfinite(model, optimizer) as found:
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert found.origin is None


def test_the_first_of_several_steps_is_found():
    """A later step's forward pass must not hide an earlier step's backward pass."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.odd, self.head = nn.Linear(8, 8), Odd(lambda x: x), nn.Linear(8, 8)

        def forward(self, x):
            return self.head(self.odd(self.fc(x)))

    model = Net()
    with torch_init.find_nonfinite(model, should_raise=False) as found:
        for step in range(4):
            if step == 1:
                model.odd.make = lambda x: x + (x - x).sqrt()
            if step == 3:
                model.odd.make = lambda x: x / 0
            model(torch.randn(4, 8)).sum().backward()
    assert (found.origin.layer, found.origin.direction) == ("fc", "backward")
