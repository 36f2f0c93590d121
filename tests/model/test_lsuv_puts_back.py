# SPDX-License-Identifier: Apache-2.0
"""LSUV runs a model, and leaves it as it was but for the weights."""

import pytest
import torch
from torch import nn

import torch_init


def test_mode_buffers_generators_and_grads_are_put_back():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 8))
    model[1].eval()
    buffers = [b.clone() for b in model.buffers()]
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()

    class Draws(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    model.append(Draws())
    torch_init.lsuv_(model, torch.randn(32, 8, generator=torch.Generator().manual_seed(1)))
    assert all(map(torch.equal, buffers, model.buffers()))
    assert modes == [m.training for m in model.modules()][:-1]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("width", [8, 7], ids=["fits", "error"])
def test_buffers_that_forward_replaces_or_adds(width):
    class Caches(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(2))
            self.register_buffer("cache", None)
            self.register_buffer("kept", torch.ones(3), persistent=False)

        def forward(self, x):
            self.kept.mul_(2)
            self.count = torch.ones(5)
            self.cache = x
            self.register_buffer("mask", x > 0, persistent=False)
            return x

    torch.manual_seed(0)
    model = nn.Sequential(Caches(), torch.jit.script(nn.BatchNorm1d(width)), nn.Linear(8, 8))
    count, kept = model[0].count, model[0].kept
    names = list(model.state_dict())
    try:
        torch_init.lsuv_(model, torch.randn(32, width))
    except RuntimeError:
        assert width == 7
    assert model[0].count is count and torch.equal(count, torch.zeros(2))
    assert model[0].kept is kept and torch.equal(kept, torch.ones(3))
    assert model[0].cache is None
    assert not hasattr(model[0], "mask")
    model[0].register_buffer("mask", torch.ones(2))
    assert list(model.state_dict()) == ["0.count", "0.mask", *names[1:]]
    assert not model[1].running_mean.any()


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        (torch.zeros(4, 8), "batch: expected outputs that vary.*with standard deviation 0.0"),
        (torch.full((4, 8), float("nan")), "outputs that vary and are finite"),
        (torch.ones(4, 7), "mat1 and mat2"),
    ],
    ids=["zeros", "nan", "wrong shape"],
)
def test_errors_put_everything_back(batch, text):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises((ValueError, RuntimeError), match=text):
        torch_init.lsuv_(model, batch)
    assert all(map(torch.equal, before, model.parameters()))
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_data_parallel_replicas_do_not_measure_parts_of_the_batch(monkeypatch):
    """Without GPUs: what its forward pass would run on."""
    seen = []

    def forward(self, x):
        seen.append(self.device_ids)
        return self.module(x)

    torch.manual_seed(0)
    model = nn.DataParallel(nn.Linear(8, 8))
    model.device_ids = [0, 1]
    monkeypatch.setattr(nn.DataParallel, "forward", forward)
    torch_init.lsuv_(model, torch.randn(128, 8))
    assert seen and all(device_ids == [0] for device_ids in seen)
    assert model.device_ids == [0, 1]
