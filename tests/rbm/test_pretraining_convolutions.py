# SPDX-License-Identifier: Apache-2.0
"""rbm_pretrain of convolutional networks: which machines, what is written, what is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import torch_init
from torch_init import rbm


def lenet(activation=nn.ReLU, pool=nn.MaxPool2d):
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), activation(), pool(2)),
        *(nn.Conv2d(6, 8, 3, padding="same"), activation(), nn.Dropout2d(0.3), pool(2)),
        *(nn.Flatten(), nn.Linear(32, 12), activation(), nn.Linear(12, 10)),
    )


class Functional(nn.Module):
    """Pooling, activations and flattening as functions; no bias in the first layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, stride=1, bias=False)
        self.second = nn.Conv2d(6, 8, 2)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.first(x)), 2, ceil_mode=True)
        x = torch.tanh(functional.avg_pool2d(self.second(x), 2))
        return self.head(x.mean((2, 3)))


def digits(count=300):
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().data[:count]).float().view(-1, 1, 8, 8) / 16


def machines(report):
    return [row.machine for row in report.layers]


@pytest.mark.parametrize(
    ("activation", "hidden", "above"),
    [
        (nn.Sigmoid, rbm.Bernoulli, rbm.Bernoulli),
        (nn.Tanh, rbm.Spin, rbm.Spin),
        (nn.ReLU, rbm.NReLU, rbm.Gaussian),
    ],
)
def test_layers_are_the_machines(activation, hidden, above):
    """On the features that they get, layer and machine have the same hidden field."""
    model = lenet(activation).eval()
    report = torch_init.rbm_pretrain(model, digits(), epochs=2, batch_size=20)
    assert [row.name for row in report.layers] == ["0", "3", "8"] and report.head == "10"
    assert [type(made) for made in machines(report)] == [rbm.ConvRBM, rbm.ConvRBM, rbm.RBM]
    assert [type(made.hidden) for made in machines(report)] == [hidden] * 3
    assert [type(made.visible) for made in machines(report)] == [rbm.Bernoulli, above, above]
    for place, made in zip((0, 3, 8), machines(report), strict=True):
        features, layer = model[:place](digits()).flatten(1), model[place]
        scale = (made.weight * layer.weight).sum() / (made.weight**2).sum()
        assert torch.equal(layer.bias, made.hidden_bias)
        torch.testing.assert_close(layer.weight, made.weight * scale, rtol=1e-5, atol=1e-7)
        if above is rbm.Gaussian and place:
            # Up to the holdout of the rows, the features have unit variance in the machine.
            torch.testing.assert_close(scale, 1 / features.std(), rtol=1e-2, atol=0)
        else:
            assert scale == 1
        mean = made.hidden_mean(features * scale)
        want = made.hidden.mean(layer(model[:place](digits())).flatten(1))
        torch.testing.assert_close(mean, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("activation", "rate", "layers"), [(nn.ReLU, 0.01, 2), (nn.Sigmoid, 0.5, 1)]
)
def test_pretraining_learns_the_digits(activation, rate, layers):
    """The bundled digits, held out, are reconstructed better from the first epoch to the last.

    Not so the greatest of some sigmoids, which hardly differ: base rates do nearly as well.
    """
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), activation(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3, padding=1), activation(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32, 10)),
    )
    report = torch_init.rbm_pretrain(model, epochs=6, batch_size=20, learning_rate=rate)
    assert "digits" in report.data and report.layers[0].machine.visible_shape == (1, 8, 8)
    for row in report.layers[:layers]:
        errors = row.history["reconstruction"]
        assert min(errors[-2:]) < 0.95 * errors[0]


def test_functional_pooling_and_the_order_of_activation_and_pooling():
    model = Functional()
    report = torch_init.rbm_pretrain(model, digits(), epochs=1)
    first, second = machines(report)
    assert isinstance(first.hidden, rbm.NReLU) and isinstance(second.hidden, rbm.Spin)
    assert second.visible_shape == (6, 3, 3) and second.hidden_shape == (8, 2, 2)
    assert not first.hidden_bias.any()
    torch.testing.assert_close(model.first.weight, first.weight)


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.AdaptiveAvgPool2d(2),
        nn.AdaptiveMaxPool2d((3, 1)),
        nn.Upsample(scale_factor=2),
        nn.ZeroPad2d(1),
        nn.Identity(),
    ],
    ids=lambda pool: type(pool).__name__,
)
def test_whatever_hands_a_map_on(pool):
    parts = [nn.Conv2d(1, 4, 3), nn.Sigmoid(), pool, nn.Conv2d(4, 3, 1), nn.ReLU()]
    model = nn.Sequential(*parts, nn.Flatten(), nn.LazyLinear(2))
    model(digits(2))
    report = torch_init.rbm_pretrain(model, digits(), epochs=1)
    assert [type(made.hidden) for made in machines(report)] == [rbm.Bernoulli, rbm.NReLU]


def test_images_of_a_linear_layer():
    """A linear layer below a convolution: it is the linear one's outputs that are the image."""
    model = nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 32), nn.Sigmoid(), nn.Unflatten(1, (2, 4, 4))),
        *(nn.Conv2d(2, 3, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(12, 10)),
    )
    report = torch_init.rbm_pretrain(model, digits(), epochs=1)
    assert [type(made) for made in machines(report)] == [rbm.RBM, rbm.ConvRBM]
    assert report.layers[1].machine.visible_shape == (2, 4, 4)


class Tokens(nn.Module):
    """Patches as rows: a convolution whose channels go last, and layers for each patch."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 4, stride=4)
        self.each, self.head = nn.Linear(6, 5), nn.Linear(5, 10)

    def forward(self, x):
        x = torch.sigmoid(self.patches(x)).permute(0, 2, 3, 1)
        return self.head(torch.tanh(self.each(x)).mean((1, 2)))


def test_channels_last_and_rows_of_an_example():
    model = Tokens()
    with pytest.raises(ValueError, match="between each and head"):  # a mean of rows is no chain
        torch_init.rbm_pretrain(model, digits(), epochs=1)
    whole = nn.Sequential(model.patches, nn.Sigmoid(), Last(), model.each, nn.Tanh(), model.head)
    report = torch_init.rbm_pretrain(whole, digits(), epochs=1)
    assert [type(made) for made in machines(report)] == [rbm.ConvRBM, rbm.RBM]
    assert report.layers[1].machine.visible.size == 6


class Last(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(64, 2)

    def forward(self, x):
        return self.head((x + torch.relu(self.layer(x))).flatten(1))


def between(*modules):
    return nn.Sequential(nn.Conv2d(1, 4, 3), *modules, nn.Flatten(), nn.LazyLinear(2))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (between(nn.BatchNorm2d(4), nn.ReLU()), "1, a BatchNorm2d, before 4"),
        (between(nn.BatchNorm2d(4, affine=False), nn.ReLU()), "1, a BatchNorm2d, before 4"),
        (between(nn.InstanceNorm2d(4), nn.ReLU()), "1, a InstanceNorm2d, 2, a ReLU"),
        (between(nn.LPPool2d(2, 2), nn.ReLU()), "1, a LPPool2d"),
        (between(nn.PReLU()), "1, a PReLU, before 3"),
        (between(nn.ConvTranspose2d(4, 4, 2)), "1, a ConvTranspose2d, before 3"),
        (between(nn.PixelShuffle(2), nn.ReLU()), "1, a PixelShuffle"),
        (between(nn.ReLU6()), "1, a ReLU6"),
        (Residual(), "something else between layer and head"),
        (between(nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2)), "2, a convolution with groups=2"),
        (
            between(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
            "2, a convolution with padding_mode='reflect'",
        ),
    ],
    ids=[*"abcdefghijk"],
)
def test_what_is_no_chain_of_machines_is_refused_by_name(model, text):
    model(digits(2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=text):
        torch_init.rbm_pretrain(model, digits(), epochs=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frozen_layers_and_heads_may_be_of_any_kind():
    """Features of a frozen depthwise convolution, and a head in groups."""
    frozen = nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect").requires_grad_(False)
    head = nn.Conv2d(4, 10, 1, groups=2)
    model = nn.Sequential(
        *(frozen, nn.Sigmoid(), nn.Conv2d(4, 4, 3), nn.ReLU(), head),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    before = frozen.weight.clone()
    report = torch_init.rbm_pretrain(model, digits(), epochs=1)
    assert torch.equal(frozen.weight, before) and report.head == "4"
    assert report.layers[1].machine.visible_shape == (4, 8, 8)
