# SPDX-License-Identifier: Apache-2.0
"""LSUV: every layer's output has unit variance, and all else is as it was."""

import math
import threading
from copy import deepcopy

import pytest
import torch
from lsuv_networks import mlp, outputs
from torch import nn

import torch_init
from torch_init import rule
from torch_init.model.spread import Moments, combine, moments


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU])
def test_deep_perceptrons(activation):
    torch.manual_seed(0)
    model, batch = mlp(20, activation), torch.randn(256, 64)
    report = torch_init.lsuv_(model, batch, seed=1)
    assert len(report.rows) == 20
    found = outputs(model, batch, nn.Linear)
    assert found == pytest.approx([row.std for row in report.rows], rel=1e-4)
    assert all(abs(std - 1) <= 0.1 for std in found)


def test_the_first_pass_does_all_layers():
    """The next layer is measured on outputs that are already rescaled: one pass, one to check."""
    torch.manual_seed(0)
    model, batch = mlp(20, nn.ReLU), 100 * torch.randn(256, 64)
    report = torch_init.lsuv_(model, batch, max_tries=2, tolerance=1e-3)
    assert all(row.tries == 1 for row in report.rows)


def test_weights_are_scaled_orthogonal_ones():
    torch.manual_seed(0)
    model, batch = mlp(3, nn.Tanh), torch.randn(256, 64)
    report = torch_init.lsuv_(model, batch, seed=7)
    for i, row in zip((0, 2, 4), report.rows, strict=True):
        alone = torch_init.orthogonal_(torch.empty(64, 64), seed=7, name=f"{i}.weight")
        torch.testing.assert_close(model[i].weight.detach(), alone * row.scale)
        assert not model[i].bias.any()


@pytest.mark.parametrize(
    ("dtype", "mean"), [(torch.float32, 1e4), (torch.float64, 1e9), (torch.bfloat16, 8.0)]
)
def test_a_mean_far_from_zero(dtype, mean):
    """E[x^2] - E[x]^2 is 0 in float32 for these; the last one's steps are 1/16 of what is asked."""
    torch.manual_seed(0)
    layer, batch = nn.Linear(64, 64, dtype=dtype), torch.randn(256, 64, dtype=dtype)
    nn.init.constant_(layer.bias, mean)
    first = (batch @ layer.weight.T).double().std().item()
    report = torch_init.lsuv_(layer, batch, rule("*", torch_init.keep), tolerance=1e-2)
    assert report.rows[0].scale == pytest.approx(1 / first, rel=1e-2)
    assert (layer(batch).double() - mean).std().item() == pytest.approx(1, abs=2e-2)
    assert torch.equal(layer.bias, torch.full_like(layer.bias, mean))


def test_a_spread_in_parts():
    """Chan's formula against two passes in float64, with parts that are empty, small and far."""
    torch.manual_seed(0)
    parts = [n + 1e4 * torch.randn(n, dtype=torch.float64) + 1e8 for n in (0, 1, 1000, 3, 0, 50)]
    whole = combine(map(moments, parts))
    everything = torch.cat(parts)
    assert whole.n == len(everything)
    assert whole.mean == pytest.approx(everything.mean().item(), rel=1e-14)
    assert whole.std == pytest.approx(everything.std(correction=0).item(), rel=1e-12)
    huge = combine([Moments(2**24 + 1, 0.0, 0.0), Moments(1, 1.0, 0.0)])
    assert huge.n == 2**24 + 2
    assert math.isnan(combine([]).std)


def test_convolutions():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 12, 3, groups=3), nn.ReLU(),
        nn.ConvTranspose2d(12, 4, 2, stride=2), nn.Flatten(), nn.Linear(4 * 12 * 12, 10),
    )  # fmt: skip
    batch = 5 * torch.randn(32, 3, 8, 8) + 3
    torch_init.lsuv_(model, batch)
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    assert outputs(model, batch, kinds) == pytest.approx([1] * 4, abs=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dtypes_and_channels_last(dtype):
    """The same scales as of the contiguous float32 model, up to rounding."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 8, 3))
    other = deepcopy(model).to(dtype, memory_format=torch.channels_last)
    batch = 9 * torch.randn(32, 3, 9, 9)
    there = rule("*", torch_init.keep)
    expected = torch_init.lsuv_(model, batch, there)
    report = torch_init.lsuv_(other, batch.to(dtype, memory_format=torch.channels_last), there)
    rel = {torch.bfloat16: 2**-7}.get(dtype, 1e-5)
    for mine, theirs in zip(report.rows, expected.rows, strict=True):
        assert (mine.name, mine.tries) == (theirs.name, theirs.tries)
        assert mine.scale == pytest.approx(theirs.scale, rel=rel)
    for layer, plain in zip((other[0], other[2]), (model[0], model[2]), strict=True):
        assert layer.weight.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(layer.weight.float(), plain.weight, rtol=2 * rel, atol=rel)


def test_complex_layers():
    """Their variance is that of real and imaginary parts together."""
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8, dtype=torch.complex64) for _ in range(2)]
    model, batch = nn.Sequential(*layers), 5 * torch.randn(64, 8, dtype=torch.complex64) + 3j
    torch_init.lsuv_(model, batch)
    assert outputs(model, batch, nn.Linear) == pytest.approx([1, 1], abs=0.1)


@pytest.mark.filterwarnings("error")
def test_layers_without_biases():
    torch.manual_seed(0)
    layer, batch = nn.Linear(8, 8, bias=False), 9 * torch.randn(64, 8)
    torch_init.lsuv_(layer, batch)
    assert layer(batch).std().item() == pytest.approx(1, abs=0.1)


def test_where_tells_apart_the_projections_of_one_module():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(16, 2, kdim=8, vdim=12, bias=False)
    batch = (torch.randn(5, 16), torch.randn(7, 8), torch.randn(7, 12))
    before = layer.k_proj_weight.detach().clone()
    torch_init.lsuv_(layer, batch, where=lambda site: site.leaf != "k_proj_weight")
    assert torch.equal(layer.k_proj_weight, before)
    assert (batch[2] @ layer.v_proj_weight.T).std().item() == pytest.approx(1, abs=0.1)


def test_a_layer_called_twice_goes_by_its_first_call():
    torch.manual_seed(0)
    shared = nn.Linear(8, 8)
    model, batch = nn.Sequential(shared, nn.Tanh(), nn.Linear(8, 8), shared), torch.randn(64, 8)
    report = torch_init.lsuv_(model, 20 * batch, tolerance=1e-2)
    assert [(row.name, row.tries) for row in report.rows] == [("0.weight", 1), ("2.weight", 1)]
    first, between, again = outputs(model, 20 * batch, nn.Linear)
    assert [first, between] == pytest.approx([1, 1], abs=1e-2)
    # An orthonormal weight keeps the standard deviation of 1, and its scale is 1/20.
    assert again == pytest.approx(report.rows[0].scale, rel=0.05)
    assert 0.04 < again < 0.06


def test_what_cannot_converge_is_told():
    """A weight used twice: what suits the first call does not suit the second layer's way in."""
    layer = nn.Linear(8, 8)

    class Fixed(nn.Module):
        def forward(self, w):
            return w / w.norm()

        def right_inverse(self, w):
            return w

    nn.utils.parametrize.register_parametrization(layer, "weight", Fixed())
    with pytest.raises(ValueError, match=r"all layers within 0.1 of 1.0 in 3 passes, got weight"):
        torch_init.lsuv_(layer, 10 * torch.randn(64, 8), max_tries=3)


def test_arguments():
    torch.manual_seed(0)
    model, batch = mlp(3, nn.ReLU), torch.randn(128, 64)
    torch_init.lsuv_(model, batch, target_std=0.25)
    assert outputs(model, batch, nn.Linear) == pytest.approx([0.25] * 3, abs=0.1)
    kept = model[0].weight.detach().clone()
    report = torch_init.lsuv_(
        model, batch, rule("*", torch_init.keep), where=lambda site: site.name != "0.weight"
    )
    assert [row.name for row in report.rows] == ["2.weight", "4.weight"]
    assert torch.equal(model[0].weight, kept)
    assert "2.weight  std" in str(report)
    for arguments, text in [
        ({"target_std": 0}, "target_std: expected a number > 0"),
        ({"tolerance": -1}, "tolerance: expected a number >= 0"),
        ({"max_tries": 0}, "max_tries: expected an int >= 1"),
        ({"where": lambda site: False}, "model: expected a model with linear layers"),
    ]:
        with pytest.raises(ValueError, match=f"lsuv_: {text}"):
            torch_init.lsuv_(model, batch, **arguments)


@pytest.mark.parametrize("rules", [None, "torch-default"])
def test_convolutions_without_a_batch(rules):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 5, 3))
    image = torch.randn(3, 9, 9)
    torch_init.lsuv_(model, image, rules)
    assert outputs(model, image, nn.Conv2d) == pytest.approx([1, 1], abs=0.1)


def test_a_parametrised_weight_is_scaled_block_by_block():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(32, 4)
    nn.utils.parametrizations.weight_norm(attention, "in_proj_weight")
    inputs = [scale * torch.randn(16, 8, 32) for scale in (2.0, 5.0, 0.3)]
    report = torch_init.lsuv_(attention, tuple(inputs))
    with torch.no_grad():
        weights = attention.in_proj_weight.chunk(3)
        found = [(x @ weight.T).std().item() for x, weight in zip(inputs, weights, strict=True)]
    assert found == pytest.approx([1, 1, 1], rel=0.01)
    assert [row.tries for row in report.rows[:3]] == [1, 1, 1]


def test_buffers_that_cannot_be_written_are_left():
    model = mlp(2, nn.Tanh)
    model.register_buffer("expanded", torch.zeros(1).expand(4))
    torch_init.lsuv_(model, torch.randn(64, 64))


def test_weights_that_autocast_has_cast_are_not_used_again():
    torch.manual_seed(0)
    model, batch = mlp(4, nn.Tanh), 5 * torch.randn(64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        report = torch_init.lsuv_(model, batch)
    assert [row.tries for row in report.rows] == [1, 1, 1, 1]


def test_layers_that_return_no_tensor_or_are_not_reached_are_refused():
    class Dict(nn.Linear):
        def forward(self, x):
            return {"y": super().forward(x)}

    with pytest.raises(TypeError, match="got a dict as the output of weight"):
        torch_init.lsuv_(Dict(4, 4), torch.randn(8, 4))
    passing = nn.ModuleDict({"layer": nn.Linear(4, 4)})
    passing.forward = lambda x: nn.functional.linear(x, passing["layer"].weight)
    with pytest.raises(ValueError, match="one that reaches any layer"):
        torch_init.lsuv_(passing, torch.randn(8, 4))


def test_threads_put_attentions_fast_path_back():
    class Waiting(nn.Linear):
        def __init__(self):
            super().__init__(8, 8)
            self.inside, self.leave = threading.Event(), threading.Event()

        def forward(self, x):
            self.inside.set()
            assert self.leave.wait(timeout=30)
            return super().forward(x)

    models = [Waiting(), Waiting()]
    batch = torch.randn(64, 8)
    threads = [threading.Thread(target=torch_init.lsuv_, args=(m, batch)) for m in models]
    for model, thread in zip(models, threads, strict=True):
        thread.start()
        assert model.inside.wait(timeout=30)
    for model, thread in zip(models, threads, strict=True):  # the first leaves first
        model.leave.set()
        thread.join()
    assert torch.backends.mha.get_fastpath_enabled()
