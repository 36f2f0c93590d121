# SPDX-License-Identifier: Apache-2.0
"""Quantising on a GPU, its kernels' bodies run by the host, against the CPU's own code."""

import pytest
import torch

from torch_init import _ops, _ops_device, _ops_gibbs_weights

MOST_SUM = 2**30 - 1


def layer(visible, hidden, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(visible + hidden)
    sizes = ((visible, hidden), (visible,), (hidden,))
    return [scale * torch.randn(size, generator=generator, dtype=dtype) for size in sizes]


def by_kernels(*parameters, **how):
    with _ops_device.cuda_bodies_on_host():
        return _ops.quantize(*parameters, **how)


def assert_same(found, expected):
    assert found.shift == expected.shift
    limbs = _ops_gibbs_weights.with_limbs(expected).limbs
    for of_kernels, of_cpu in (
        (found.by_visible, expected.by_visible),
        (found.by_hidden, expected.by_hidden),
        *zip(found.biases + found.sums, expected.biases + expected.sums, strict=True),
        *zip(found.limbs, limbs, strict=True),
    ):
        assert torch.equal(of_kernels, of_cpu)
    assert not found.room.any()  # which the next call needs


@pytest.mark.parametrize("scale", [1e-6, 0.01, 0.3, 5.0, 1e4, 1e17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "size", [(1, 1), (5, 3), (64, 64), (65, 130), (300, 70), (0, 5), (5, 0), (1, 2000)]
)
def test_is_the_cpus_layer(scale, dtype, size):
    parameters = layer(*size, scale, dtype)
    expected = _ops.quantize(*parameters)
    assert_same(by_kernels(*parameters), expected)
    spent = by_kernels(*(1e-3 * x + 1 for x in parameters))
    again = by_kernels(*parameters, out=spent)
    assert_same(again, expected)
    assert again.limbs[0].data_ptr() == spent.limbs[0].data_ptr()


def test_transposed():
    weight, visible_bias, hidden_bias = layer(70, 40)
    expected = _ops.quantize(weight, visible_bias, hidden_bias)
    spent = by_kernels(weight + 1, visible_bias, hidden_bias)
    lying = weight.T.contiguous().T
    assert_same(by_kernels(lying, visible_bias, hidden_bias, out=spent), expected)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("more", [-0.6, -0.4, 0.0, 0.4, 0.6])
@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_sums_at_their_limit(side, more, excess):
    """Rounding 256 numbers decides: `more` of an integer each, their sum `excess` off the limit."""
    integers = torch.full((1, 256), 2.0**22, dtype=torch.float64)
    integers[0, 0] += MOST_SUM + excess - 2**30
    weight = (integers + more) * 2.0**-20
    biases = torch.zeros(1, dtype=torch.float64), torch.zeros(256, dtype=torch.float64)
    if side == 1:
        weight, biases = weight.T.contiguous(), biases[::-1]
    expected = _ops.quantize(weight, *biases)
    rounded = MOST_SUM + excess + 256 * round(more)
    assert expected.shift == (20 if rounded <= MOST_SUM else 19)
    assert_same(by_kernels(weight, *biases), expected)


@pytest.mark.parametrize("excess", [0, 1])
def test_a_bias_at_the_limit(excess):
    bias = torch.tensor([0.0, -(MOST_SUM + excess) * 2.0**-15], dtype=torch.float64)
    parameters = torch.zeros(3, 2, dtype=torch.float64), bias.new_zeros(3), bias
    expected = _ops.quantize(*parameters)
    assert expected.shift == 15 - excess
    assert_same(by_kernels(*parameters), expected)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan"), 2.0**64])
def test_unfit_numbers_are_an_error_or_zeros(which, bad):
    parameters = layer(70, 40)
    parameters[which].view(-1)[-1] = bad
    with pytest.raises(ValueError, match=r"rbm: weights and biases: expected finite numbers"):
        by_kernels(*parameters)
    found = by_kernels(*parameters, check=False)
    assert found.scale.tolist() == [0, 0]
    for tensor in (found.by_visible, found.by_hidden, *found.biases, *found.sums, *found.limbs):
        assert not tensor.any()
    parameters = layer(70, 40)
    assert_same(by_kernels(*parameters, out=found), _ops.quantize(*parameters))


def test_chains_find_the_scale_that_the_kernels_found():
    parameters = layer(70, 40, 3.0)
    states = torch.ones(9, 70, dtype=torch.uint8)
    means = [torch.zeros(9, 40, dtype=torch.int16) for _ in range(2)]
    expected = _ops.sample_hidden(_ops.quantize(*parameters), states, seed=5, means=means[0])
    weights = by_kernels(*parameters, check=False)
    assert weights.known_shift is None
    assert weights.scale[0] < 23
    found = _ops.sample_hidden(weights, states, seed=5, means=means[1])
    assert torch.equal(found, expected)
    assert torch.equal(*means)
