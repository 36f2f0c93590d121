# SPDX-License-Identifier: Apache-2.0
"""Initialisers with structure: the structure itself, for every shape and dtype they take."""

import itertools
import math

import numpy as np
import pytest
import reference
import torch
from torch.nn import functional

import torch_init

KEY = {"seed": 1, "name": "w"}


def as_matrix(tensor):
    return tensor.reshape(tensor.shape[0], -1)


def gram(matrix):
    """Of the shorter side's vectors, in the widest dtype."""
    wide = matrix.to(torch.complex128 if matrix.is_complex() else torch.float64)
    return wide @ wide.mH if wide.shape[0] <= wide.shape[1] else wide.mH @ wide


# A few units in the last place of a sum of squares that is 1.
TOLERANCE = {
    torch.float32: 2e-6,
    torch.float64: 1e-14,
    torch.complex64: 2e-6,
    torch.complex128: 1e-14,
    torch.bfloat16: 2e-2,
    torch.float16: 2e-3,
    torch.float8_e4m3fn: 0.2,
    torch.float8_e5m2: 0.4,
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (20, 20), (1, 9), (9, 1), (6, 4, 3, 3)])
def test_orthogonal_rows_or_columns(shape, dtype):
    tensor = torch_init.orthogonal_(torch.empty(shape, dtype=dtype), **KEY)
    product = gram(as_matrix(tensor))
    identity = torch.eye(product.shape[0], dtype=product.dtype)
    torch.testing.assert_close(product, identity, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("gain", [0.5, math.sqrt(2), -3.0, 0.0])
def test_orthogonal_gain_multiplies(gain):
    plain = torch_init.orthogonal_(torch.empty(6, 4), **KEY)
    scaled = torch_init.orthogonal_(torch.empty(6, 4), gain, **KEY)
    assert torch.equal(scaled, plain * gain)


def test_orthogonal_in_memory_of_any_layout():
    plain = torch_init.orthogonal_(torch.empty(6, 4, 3, 3), **KEY)
    last = torch.empty(6, 4, 3, 3).to(memory_format=torch.channels_last)
    assert torch.equal(torch_init.orthogonal_(last, **KEY), plain)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_orthogonal_is_uniformly_distributed():
    """Haar measure, which R's positive diagonal is for (Mezzadri, 2007).

    Over it, each entry of a 3 x 3 orthogonal matrix is uniform on [-1, 1] (a coordinate of a point
    on the sphere, Archimedes), and the determinant is +1 or -1 with probability 1/2. LAPACK's Q
    as it comes has a corner that is never positive. 3000 matrices: the mean of an entry scatters
    by 1 / sqrt(3 * 3000) = 0.0105, its mean square by 0.0054, the determinant's mean by 0.018;
    4.5 deviations over 19 numbers leave a false alarm of 1e-4.
    """
    matrices = torch.stack(
        [torch_init.orthogonal_(torch.empty(3, 3), seed=seed, name="w") for seed in range(3000)]
    ).double()
    assert matrices.mean(0).abs().max() < 4.5 * 0.0105
    assert (matrices.square().mean(0) - 1 / 3).abs().max() < 4.5 * 0.0054
    assert torch.linalg.det(matrices).mean().abs() < 4.5 * 0.018


@pytest.mark.parametrize("kernel", [(3,), (3, 3), (5, 3), (3, 3, 3), (1, 1)])
@pytest.mark.parametrize("channels", [(6, 6), (8, 5)])
def test_delta_orthogonal_keeps_norms_through_a_circular_convolution(kernel, channels):
    weight = torch.empty(*channels, *kernel, dtype=torch.float64)
    torch_init.delta_orthogonal_(weight, **KEY)
    spatial = (7, 6, 5)[: len(kernel)]
    signal = torch_init.normal_(
        torch.empty(2, channels[1], *spatial, dtype=torch.float64), seed=0, name="signal"
    )
    padding = [size // 2 for size in reversed(kernel) for _ in range(2)]
    padded = functional.pad(signal, padding, mode="circular")
    convolution = (functional.conv1d, functional.conv2d, functional.conv3d)[len(kernel) - 1]
    output = convolution(padded, weight)
    torch.testing.assert_close(output.flatten(1).norm(dim=1), signal.flatten(1).norm(dim=1))


def test_delta_orthogonal_stands_where_jax_has_it():
    weight = torch_init.delta_orthogonal_(torch.empty(5, 3, 4, 6), 2.0, **KEY)
    centre = weight[:, :, 1, 2]  # (k - 1) // 2
    assert weight.count_nonzero() == centre.count_nonzero() == 15
    assert torch.equal(centre, torch_init.orthogonal_(torch.empty(5, 3), 2.0, **KEY))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("channels", [(8, 8), (8, 3), (4, 6)])
@pytest.mark.parametrize("kernel", [(3,), (4, 5), (3, 2, 1)])
def test_dirac_is_that_of_torch(groups, channels, kernel):
    shape = (*channels, *kernel)
    for dtype in (torch.float32, torch.bfloat16, torch.complex64, torch.int64):
        ours = torch_init.dirac_(torch.full(shape, 3, dtype=dtype), groups)
        theirs = torch.nn.init.dirac_(torch.full(shape, 3, dtype=dtype), groups)
        assert torch.equal(ours, theirs)


def test_dirac_passes_each_group_through():
    weight = torch_init.dirac_(torch.empty(6, 2, 3), groups=3)
    signal = torch_init.normal_(torch.empty(1, 6, 9), seed=0, name="signal")
    output = functional.conv1d(signal, weight, padding=1, groups=3)
    assert torch.equal(output, signal)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 1)])
def test_eye_is_that_of_torch(shape):
    for dtype in (torch.float32, torch.float16, torch.complex64, torch.int64, torch.bool):
        ours = torch_init.eye_(torch.ones(shape, dtype=dtype))
        assert torch.equal(ours, torch.eye(*shape, dtype=dtype))


def sylvester(order):
    matrix = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(order):
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 4), (3, 8), (8, 4), (16, 3), (6, 4), (13, 12), (2, 1)])
def test_zero_identity_formula(shape, dtype):
    weight = torch_init.zero_identity_(torch.empty(shape, dtype=dtype))
    outputs, inputs = shape
    if outputs <= inputs:
        expected = torch.eye(outputs, inputs, dtype=torch.float64)
    else:
        order = math.ceil(math.log2(outputs))
        expected = sylvester(order)[:outputs, :inputs] / math.sqrt(2**order)
    # In float64, 2**-0.5 here and 1 / 2**0.5 there differ by their last bit.
    torch.testing.assert_close(weight, expected.to(dtype), rtol=2e-16, atol=0)


@pytest.mark.parametrize("shape", [(8, 4), (16, 5), (64, 33)])
def test_zero_identity_columns_are_orthonormal_if_none_is_cut(shape):
    weight = torch_init.zero_identity_(torch.empty(shape, dtype=torch.float64))
    torch.testing.assert_close(weight.T @ weight, torch.eye(shape[1], dtype=torch.float64))


def test_zero_identity_of_a_convolution_stands_at_its_centre():
    weight = torch_init.zero_identity_(torch.empty(8, 3, 3, 4))
    assert torch.equal(weight[:, :, 1, 2], torch_init.zero_identity_(torch.empty(8, 3)))
    weight[:, :, 1, 2] = 0
    assert not weight.any()


@pytest.mark.parametrize(
    ("rows", "sparsity"),
    [*itertools.product([1, 2, 10, 37, 257], [0, 0.1, 0.25, 0.5, 0.999, 1])],
)
def test_sparse_has_exactly_as_many_zeros_in_every_column(rows, sparsity):
    weight = torch_init.sparse_(torch.empty(rows, 21), sparsity, **KEY)
    assert ((weight == 0).sum(0) == math.ceil(sparsity * rows)).all()


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64],
    ids=str,
)
def test_sparse_mask_is_that_of_float32(dtype):
    expected = torch_init.sparse_(torch.empty(50, 20), 0.4, 1.0, **KEY) == 0
    weight = torch_init.sparse_(torch.empty(50, 20, dtype=dtype), 0.4, 1.0, **KEY)
    wide = weight if dtype.is_complex else weight.double()
    assert torch.equal(wide == 0, expected)


def test_sparse_values_are_those_of_normal():
    weight = torch_init.sparse_(torch.empty(50, 20), 0.4, **KEY)
    dense = torch_init.normal_(torch.empty(50, 20), 0.0, 0.01, **KEY)
    assert torch.equal(weight, dense.masked_fill(weight == 0, 0))


def test_sparse_mask_follows_the_seed_and_name():
    masks = [
        torch_init.sparse_(torch.empty(50, 20), 0.5, seed=seed, name=name) == 0
        for seed, name in [(0, "a"), (1, "a"), (0, "b"), (0, "a")]
    ]
    assert torch.equal(masks[0], masks[3])
    for left, right in itertools.combinations(masks[:3], 2):
        # Independent masks agree on half of 1000 places, give or take 16.
        assert abs((left == right).sum().item() - 500) < 5 * 16


def test_sparse_rows_are_equally_likely():
    """Every place is zero with probability 0.3: over 2000 seeds 600 times, give or take 20.5.

    5 deviations over 30 places: a false alarm of 2e-5.
    """
    counts = sum(
        (torch_init.sparse_(torch.empty(10, 3), 0.3, seed=seed) == 0).int() for seed in range(2000)
    )
    assert (counts - 600).abs().max() < 5 * 20.5


def test_sparse_zeros_the_rows_with_the_smallest_words():
    """As docs/stream.md says: signed words of the stream of the name and the part "mask"."""
    rows, columns, zeros = 37, 5, 10
    weight = torch_init.sparse_(torch.empty(rows, columns), zeros / rows, **KEY)
    key = reference.fold_key(KEY["seed"], KEY["name"] + "\0mask")
    words = reference.words(key, np.arange(rows * columns, dtype=np.uint64))
    signed = words.astype(np.uint32).view(np.int32).reshape(rows, columns)
    expected = np.argsort(signed, axis=0, kind="stable")[:zeros]
    for column in range(columns):
        found = (weight[:, column] == 0).nonzero()[:, 0]
        assert found.tolist() == sorted(expected[:, column])


def test_sparse_mask_is_independent_of_the_values():
    """The mask has a stream of its own: it takes large and small values alike.

    The mean square of the 2e5 values under the mask scatters by sqrt(2 / 2e5) = 0.32 %.
    """
    weight = torch_init.sparse_(torch.empty(1000, 400), 0.5, 1.0, **KEY)
    dense = torch_init.normal_(torch.empty(1000, 400), **KEY)
    assert dense[weight == 0].square().mean().item() == pytest.approx(1, abs=5 * 0.0032)
    assert dense[weight == 0].mean().abs().item() < 5 / math.sqrt(2e5)


def test_sparse_breaks_ties_by_row(monkeypatch):
    """Equal words are too rare to wait for; with all words equal, the first rows are zeroed."""
    from torch_init import _ops

    fill = _ops.fill_box_

    def without_words(view, spec, *key_and_place):
        return view.fill_(7) if spec[0] == "bits" else fill(view, spec, *key_and_place)

    monkeypatch.setattr(_ops, "fill_box_", without_words)
    weight = torch_init.sparse_(torch.empty(300, 4), 0.4, **KEY)
    assert not weight[:120].any()
    assert weight[120:].all()
