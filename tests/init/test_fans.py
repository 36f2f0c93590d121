# SPDX-License-Identifier: Apache-2.0
"""Fans are counts of connections: counted here on the layers themselves."""

import math

import pytest
import torch

import torch_init
from torch_init.schemes import compute_fans, fan_for_mode


def counted_fans(layer, shape):
    """Inputs that one output sees and outputs that one input feeds, away from the borders.

    With all weights 1, an output of an input of ones is the number of its connections, and so is
    the gradient of the sum of the outputs at an input.
    """
    torch.nn.init.ones_(layer.weight)
    signal = torch.ones(1, *shape, requires_grad=True)
    output = layer(signal)
    output.sum().backward()
    return int(output.max()), int(signal.grad.max())


CONVOLUTIONS = [
    (torch.nn.Conv1d, (4, 6, 3), {}),
    (torch.nn.Conv2d, (4, 6, (3, 5)), {}),
    (torch.nn.Conv3d, (2, 3, 3), {}),
    (torch.nn.Conv2d, (8, 12, 3), {"groups": 4}),
    (torch.nn.Conv2d, (8, 8, 3), {"groups": 8}),  # depthwise
    (torch.nn.ConvTranspose1d, (4, 6, 3), {}),
    (torch.nn.ConvTranspose2d, (4, 6, (3, 2)), {}),
    (torch.nn.ConvTranspose2d, (8, 12, 3), {"groups": 4}),
]


@pytest.mark.parametrize(("kind", "arguments", "options"), CONVOLUTIONS)
def test_fans_of_a_convolution_are_its_connections(kind, arguments, options):
    layer = kind(*arguments, **options, bias=False)
    spatial = (9,) * (layer.weight.dim() - 2)
    transposed = kind.__name__.startswith("ConvTranspose")
    fans = compute_fans(layer.weight.shape, transposed=transposed, **options)
    assert tuple(fans) == counted_fans(layer, (arguments[0], *spatial))


def test_fans_of_a_linear_layer_are_its_connections():
    layer = torch.nn.Linear(5, 7, bias=False)
    assert tuple(compute_fans(layer.weight.shape)) == counted_fans(layer, (5,)) == (5, 7)
    assert tuple(compute_fans((5, 7), transposed=True)) == (5, 7)  # an (in, out) matrix


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        # Flax and Keras: (*kernel, in, out).
        ((3, 3, 8, 16), {"in_axis": -2, "out_axis": -1}, (72, 144)),
        ((3, 5, 8, 16), {"in_axis": 2, "out_axis": 3}, (120, 240)),
        # Attention: (in, heads, head_dim); both of the latter are out.
        ((64, 4, 16), {"in_axis": 0, "out_axis": (1, 2)}, (64, 64)),
        ((4, 16, 64), {"in_axis": [0, 1], "out_axis": 2}, (64, 64)),
        # Stacked experts: (expert, out, in).
        ((8, 30, 20), {"batch_axes": 0}, (20, 30)),
        ((8, 20, 30), {"batch_axes": 0, "transposed": True}, (20, 30)),
        ((8, 30, 20), {"in_axis": 2, "out_axis": 1, "batch_axes": (0,)}, (20, 30)),
        ((2, 3, 30, 20, 5), {"batch_axes": (0, 1)}, (100, 150)),
        ((30, 20, 8), {"batch_axes": -1}, (20, 30)),
        # An embedding's rows as outputs: std = 1 / sqrt(dim) from fan_in.
        ((1000, 64), {}, (64, 1000)),
    ],
)
def test_axes_by_role(shape, layout, expected):
    assert tuple(compute_fans(shape, **layout)) == expected
    tensor = torch_init.he_(torch.empty(shape), seed=0, name="w", **layout)
    same = torch_init.normal_(
        torch.empty(shape), std=math.sqrt(2.0 / expected[0]), seed=0, name="w"
    )
    assert torch.equal(tensor, same)


@pytest.mark.parametrize(
    ("mode", "fan"),
    [("fan_in", 6), ("fan_out", 24), ("fan_avg", 15), ("fan_geo_avg", 12)],
)
def test_modes(mode, fan):
    assert fan_for_mode("f", compute_fans((24, 6)), mode) == fan


@pytest.mark.parametrize(
    "function",
    [
        torch_init.xavier_,
        torch_init.xavier_uniform_,
        torch_init.xavier_normal_,
        torch_init.he_,
        torch_init.kaiming_uniform_,
        torch_init.kaiming_normal_,
        torch_init.lecun_normal_,
        torch_init.lecun_uniform_,
        torch_init.variance_scaling_,
    ],
    ids=lambda function: function.__name__,
)
def test_every_scaled_initialiser_reads_the_layout(function):
    key = {"seed": 0, "name": "w"}
    plain = function(torch.empty(4, 9, 3), **key)
    # In (4, 9, 3) transposed, fan_in is 4 * 3 instead of 9 * 3, and the average stays.
    swapped = function(torch.empty(4, 9, 3), transposed=True, **key)
    by_axes = function(torch.empty(4, 9, 3), in_axis=0, out_axis=1, **key)
    assert torch.equal(swapped, by_axes)
    averaged = function.__name__.startswith("xavier")
    ratio = 1.0 if averaged else math.sqrt(9 / 4)
    torch.testing.assert_close(swapped, plain * ratio)
    grouped = function(torch.empty(4, 9, 3), groups=2, **key)
    ratio = math.sqrt((9 + 4) / (9 + 2)) if averaged else 1.0
    torch.testing.assert_close(grouped, plain * ratio)
