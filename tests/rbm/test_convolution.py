# SPDX-License-Identifier: Apache-2.0
"""Convolutional machines: nn.Conv2d, enumeration, autograd and dense machines as oracles."""

import math
import pickle
import warnings

import pytest
import torch
from machines import all_pairs, row_numbers, visible_law
from scipy import stats
from torch import nn
from torch.nn import functional

from torch_init import rbm
from torch_init.rbm.gradient import likelihood_gradient, statistics
from torch_init.rbm.parallel import Processes


def geometry(in_channels, out_channels, kernel_size, size, **options):
    names = {"in_channels": in_channels, "out_channels": out_channels}
    return names | {"kernel_size": kernel_size, "size": size} | options


SHAPES = {
    "valid": geometry(1, 2, 2, 3),
    "channels": geometry(2, 1, (1, 2), (2, 2), padding=(0, 1)),
    "stride": geometry(1, 2, 3, (3, 4), padding=1, stride=2),
    "unseen border": geometry(1, 3, 2, (3, 4), padding="valid", stride=(2, 3)),
    "same": geometry(1, 1, (2, 3), (3, 3), padding="same"),
    "dilation": geometry(1, 3, 2, (3, 4), dilation=2),
}
UNITS = {
    "bernoulli": (rbm.Bernoulli, rbm.Bernoulli),
    "spin": (rbm.Spin, rbm.Spin),
    "gaussian": (lambda size: rbm.Gaussian(size, variance=0.5), rbm.Bernoulli),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
ONE = Processes()


def machine(shape, units="bernoulli", dtype=torch.float64, scale=0.6, seed=0):
    visible, hidden = UNITS[units]
    made = rbm.ConvRBM(**shape, visible=visible, hidden=hidden, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return made


def layer_of(made, shape):
    """The nn.Conv2d with the machine's weights and hidden biases."""
    options = {key: value for key, value in shape.items() if key != "size"}
    layer = nn.Conv2d(**options, dtype=made.weight.dtype)
    layer.load_state_dict({"weight": made.weight, "bias": made.hidden_bias})
    return layer


def dense(made):
    """The machine without shared weights that is the same."""
    plain = rbm.RBM(made.visible, made.hidden, exact=False, dtype=made.weight.dtype)
    one = torch.eye(made.visible.size, dtype=made.weight.dtype)
    with torch.no_grad():
        plain.weight.copy_(made.convolution.up(one, made.weight).T)
        for parameter, value in zip(
            (plain.visible_bias, plain.hidden_bias), made.unit_biases(), strict=True
        ):
            parameter.copy_(value)
    return plain


@shapes
def test_hidden_field_is_the_output_of_the_layer(shape):
    made = machine(shape)
    images = torch.randn(4, *made.visible_shape, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of even kernels with padding="same"
        maps = layer_of(made, shape)(images)
    assert maps.shape[1:] == made.hidden_shape
    torch.testing.assert_close(made.hidden_field(images.flatten(1)), maps.flatten(1))
    torch.testing.assert_close(made(images), torch.sigmoid(maps))


@shapes
def test_visible_field_is_the_adjoint(shape):
    made = machine(shape)
    images = torch.randn(4, made.visible.size, dtype=torch.float64, requires_grad=True)
    maps = torch.randn(4, made.hidden.size, dtype=torch.float64)
    made.hidden_input(images).backward(maps)
    field = made.visible_field(maps) - made.unit_biases()[0]
    torch.testing.assert_close(field, images.grad)


def test_visible_field_is_a_transposed_convolution():
    made = machine(SHAPES["stride"])
    maps = torch.randn(4, *made.hidden_shape, dtype=torch.float64)
    want = functional.conv_transpose2d(
        maps, made.weight, made.visible_bias, stride=2, padding=1, output_padding=(0, 1)
    )
    torch.testing.assert_close(made.visible_field(maps.flatten(1)), want.flatten(1))


@shapes
@pytest.mark.parametrize("units", UNITS)
def test_it_is_the_machine_whose_weights_are_equal(shape, units):
    made = machine(shape, units)
    plain = dense(made)
    v, h = made.sample(20, steps=1, seed=1), made.hidden.states()[:20]
    v = v[: len(h)]
    for question in ("energy", "free_energy", "hidden_mean", "hidden_free_energy", "visible_mean"):
        given = {"energy": (v, h), "free_energy": (v,), "hidden_mean": (v,)}.get(question, (h,))
        got, want = getattr(made, question)(*given), getattr(plain, question)(*given)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    for steps in (1, 4):
        for got, want in zip(
            made.gibbs(v, steps, seed=3), plain.gibbs(v, steps, seed=3), strict=True
        ):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    assert math.isclose(rbm.log_partition(made), rbm.log_partition(plain), rel_tol=1e-12)
    if units != "gaussian":
        got, want = rbm.pseudo_likelihood(made, v), rbm.pseudo_likelihood(plain, v)
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_energies_by_enumeration():
    made = machine(SHAPES["valid"])
    v, h = all_pairs(made)
    energies = made.energy(v, h).view(len(made.visible.states()), -1)
    free, other = made.free_energy(made.visible.states()), made.hidden_free_energy
    torch.testing.assert_close(free, -torch.logsumexp(-energies, 1), rtol=1e-12, atol=1e-14)
    got = other(made.hidden.states())
    torch.testing.assert_close(got, -torch.logsumexp(-energies, 0), rtol=1e-12, atol=1e-14)
    means = torch.softmax(-energies, 1) @ made.hidden.states()
    torch.testing.assert_close(made.hidden_mean(made.visible.states()), means)


@pytest.mark.parametrize("units", ["bernoulli", "spin"])
@shapes
def test_gradient_is_that_of_the_likelihood_over_the_positions(shape, units):
    """Autograd of log p by enumeration, over the number of places that share a parameter."""
    made = machine(shape, units)
    data, states = made.sample(7, steps=1, seed=3), made.visible.states()
    log_p = -made.free_energy(data).mean() - torch.logsumexp(-made.free_energy(states), 0)
    names = ("weight", "visible_bias", "hidden_bias")
    want = torch.autograd.grad(log_p, [getattr(made, name) for name in names])
    places = [math.prod(shape[1:]) for shape in (made.hidden_shape, made.visible_shape)]
    law = torch.softmax(-made.free_energy(states), 0)[:, None].detach()
    hidden = made.hidden_mean(states).detach()
    phase = statistics(made, data, made.hidden_mean(data).detach(), len(data), ONE)
    # Each state once, by its probability: pairs are bilinear, sums are linear.
    pairs = statistics(made, states * law.sqrt(), hidden * law.sqrt(), 1, ONE).pairs
    sums = statistics(made, states * law, hidden * law, 1, ONE)
    got = likelihood_gradient(phase, type(sums)(pairs, sums.visible, sums.hidden, None, 1))
    for name, gradient, count in zip(names, want, (places[0], *places[::-1]), strict=True):
        torch.testing.assert_close(getattr(got, name), gradient / count, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("units", ["bernoulli", "spin"])
def test_exact_law_stays(units):
    """Total variation below 4 times its Monte Carlo floor, and a chi-square test."""
    made = machine(geometry(1, 2, 2, (2, 3)), units, dtype=torch.float32, scale=0.5)
    states, law = made.visible.states(), visible_law(made)
    rows = torch.multinomial(law, 20_000, True, generator=torch.Generator().manual_seed(1))
    visible = states[rows].float()
    for first, until in ((0, 1), (1, 8)):
        visible, _ = made.gibbs(visible, until - first, seed=2, first_step=first)
        counts = torch.bincount(row_numbers(states, visible), minlength=len(states)).double()
        floor = 0.5 * (law * (1 - law) / len(visible)).sqrt().sum()
        assert 0.5 * (counts / len(visible) - law).abs().sum() < 4 * floor
        assert stats.chisquare(counts, law * len(visible)).pvalue > 1e-3
    with torch.no_grad():
        made.weight.mul_(1.3)  # the check can fail
    visible, _ = made.gibbs(visible, 8, seed=3)
    counts = torch.bincount(row_numbers(states, visible), minlength=len(states)).double()
    assert stats.chisquare(counts, law * len(visible)).pvalue < 1e-6


def test_annealing_finds_the_partition_function():
    made = machine(SHAPES["valid"])
    data = made.sample(200, steps=20, seed=0)
    estimate = rbm.ais(made, data, betas=300, seed=1)
    assert estimate.low < rbm.log_partition(made) < estimate.high


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "cd", "k": 5, "dropout": 0.1},
        {"algorithm": "pcd", "l1": 1e-4},
        {"algorithm": "fpcd"},
        {"algorithm": "pt", "temperatures": 4},
    ],
    ids=lambda options: options["algorithm"],
)
def test_every_algorithm_raises_the_likelihood(options):
    """Bars of 3 pixels, shifted: the likelihood is exact, and a hidden unit sees a bar."""
    bars = torch.eye(7).repeat(30, 1).unfold(1, 1, 1)
    data = functional.conv_transpose1d(bars.transpose(1, 2), torch.ones(1, 1, 3)).squeeze(1)
    machines = [
        rbm.ConvRBM(1, 3, (1, 3), size=(1, 9), padding=(0, 1), std=std, seed=1)
        for std in (0.0, 0.3)
    ]
    without, made = machines
    without.fit(data, epochs=1, learning_rate=0.0)  # has the right visible bias, and no weights
    made.fit(data, epochs=30, batch_size=21, **({"learning_rate": 0.5} | options))
    gain = rbm.log_likelihood(made, data).mean() - rbm.log_likelihood(without, data).mean()
    assert gain > 0.5


def test_visible_bias_is_that_of_the_channel():
    data = torch.zeros(50, 2, 3, 3)
    data[:, 1] = (torch.rand(50, 3, 3, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    made = rbm.ConvRBM(2, 1, 2, size=3)
    made.fit(data, epochs=1, learning_rate=0.0)
    want = torch.logit(torch.stack([torch.tensor(0.02), data[:, 1].mean()]))
    torch.testing.assert_close(made.visible_bias.detach(), want)


def test_sparsity_target_is_reached():
    """Lee et al. (2009): the hidden biases bring each channel's mean to the target."""
    data = (torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    made = rbm.ConvRBM(1, 6, 3, size=8, seed=0)
    made.fit(data, epochs=10, batch_size=20, sparsity_target=0.1, sparsity_cost=2.0)
    means = made(data).mean((0, 2, 3))
    assert ((means > 0.05) & (means < 0.15)).all()


def test_checkpoints_resume_to_the_same_bits(tmp_path):
    pytest.importorskip("safetensors")
    data = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    made = [rbm.ConvRBM(1, 2, 2, size=4, seed=3) for _ in range(2)]
    options = {"batch_size": 20, "algorithm": "pcd"}
    made[0].fit(data, epochs=4, **options)
    made[1].fit(data, epochs=2, checkpoint=tmp_path, **options)
    made[1].fit(data, epochs=4, checkpoint=tmp_path, resume=True, **options)
    assert all(map(torch.equal, made[0].parameters(), made[1].parameters()))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kernel_size": 5}, "kernel_size: expected a kernel that fits in"),
        ({"kernel_size": (2, 2, 2)}, "kernel_size: expected an int or two"),
        ({"stride": 0}, "stride: expected an int >= 1"),
        ({"padding": -1}, "padding"),
        ({"padding": "full"}, '"same" or "valid"'),
        ({"padding": "same", "stride": 2}, "stride"),
        ({"visible": lambda n: rbm.Gaussian(n, learn_variance=True)}, "visible"),
        ({"visible": lambda n: rbm.Bernoulli(4)}, "visible: expected 9 Bernoulli"),
        ({"hidden": lambda n: rbm.Softmax(n, categories=2)}, "hidden"),
        ({"visible": rbm.Gaussian, "hidden": rbm.Gaussian}, "Gaussian on Gaussian"),
        ({"std": -1.0}, "std"),
    ],
)
def test_impossible_machines_are_refused(change, text):
    with pytest.raises(ValueError, match=text):
        rbm.ConvRBM(**(SHAPES["valid"] | change))


def test_a_checkpoint_is_of_one_geometry(tmp_path):
    pytest.importorskip("safetensors")
    data = torch.rand(20, 36)
    made, other = (rbm.ConvRBM(1, 2, 3, size=6, padding=reach, dilation=reach) for reach in (1, 2))
    made.fit(data, epochs=1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"resume.*coupling"):
        other.fit(data, epochs=1, checkpoint=tmp_path, resume=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_learn_and_are_pickled(dtype):
    data = torch.rand(40, 1, 1, 1, generator=torch.Generator().manual_seed(0)).expand(40, 1, 6, 6)
    made = rbm.ConvRBM(1, 3, 3, size=6, dtype=dtype, std=0.1)
    history = made.fit(data, epochs=20, batch_size=10, learning_rate=0.3)
    assert history["reconstruction"][-1] < 0.7 * history["reconstruction"][0]
    again = pickle.loads(pickle.dumps(made))
    images = data[:3].to(dtype)
    assert torch.equal(again(images), made(images)) and again.hidden_shape == (3, 4, 4)


def test_units_are_given_as_kinds():
    with pytest.raises(TypeError, match=r"visible: .*got Bernoulli\(size=9\)"):
        rbm.ConvRBM(1, 2, 2, size=3, visible=rbm.Bernoulli(9))


def test_what_convolutions_cannot_do_is_refused():
    made = rbm.ConvRBM(1, 2, 2, size=3)
    data = torch.rand(20, 9)
    for options in ({"centered": True}, {"statistics": "samples"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            made.fit(data, **options)
    with pytest.raises(ValueError, match="shape"):
        made.fit(torch.rand(20, 10))


def test_many_channels_and_empty_batches():
    made = rbm.ConvRBM(3, 5, 3, size=(7, 6), padding=1, stride=2, hidden=rbm.NReLU)
    visible, hidden = made.gibbs(torch.zeros(0, 126), 2)
    assert visible.shape == (0, 126) and hidden.shape == (0, made.hidden.size)
    brightness = torch.rand(40, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    data = brightness.expand(40, 3, 7, 6)
    history = made.fit(data, epochs=15, batch_size=10, learning_rate=0.3)
    assert history["reconstruction"][-1] < 0.5 * history["reconstruction"][0]


def test_pictures():
    pytest.importorskip("matplotlib")
    made = rbm.ConvRBM(2, 5, (3, 4), size=(6, 8), seed=0)
    kernels = rbm.receptive_fields(made, count=4).axes[0].images[0].get_array()
    assert kernels.shape == (4 * 4 + 1, 2 * 5 + 1)  # a row for each channel
    first = made.weight[1, 0].detach()  # the second row's first tile
    want = (first - first.min()) / (first.max() - first.min())
    torch.testing.assert_close(torch.from_numpy(kernels.data[5:8, 1:5]), want)
    chains = rbm.fantasies(made, chains=3, steps=(1, 2)).axes[0].images[0].get_array()
    assert chains.shape == (3 * 13 + 1, 2 * 9 + 1)
    one = rbm.receptive_fields(rbm.ConvRBM(1, 9, 3, size=8)).axes[0].images[0].get_array()
    assert one.shape == (13, 13)
