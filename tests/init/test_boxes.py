# SPDX-License-Identifier: Apache-2.0
"""Any box of a tensor, filled by itself, holds what the whole tensor holds there."""

import itertools

import pytest
import torch
from init_cases import CASES, same_bits

import torch_init
from torch_init._fill import fill_box, values_of

SEED, NAME = 3, "layer.weight"
DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.float8_e5m2, torch.complex64]
LARGER = {2: (23, 14), 3: (12, 5, 4), 4: (12, 5, 3, 2)}


def boxes(shape):
    """Every dimension cut in two, where it can be: all the pieces, and each half by itself."""
    cuts = [[(0, size // 3), (size // 3, size)] for size in shape]
    for ranges in itertools.product(*cuts):
        if all(begin < end for begin, end in ranges):
            yield ranges


def shapes(case):
    yield case.shape
    if case.name not in ("delta_orthogonal_", "dirac_"):
        yield LARGER[len(case.shape)]
    elif case.name == "dirac_":
        yield from (LARGER[3], LARGER[4])
    else:
        yield (12, 5, 3, 2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_box_holds_what_the_whole_holds(case, dtype):
    if dtype.is_complex and not case.complex:
        pytest.skip("has no meaning for complex numbers")
    for shape in shapes(case):
        whole = case.fill(torch.empty(shape, dtype=dtype), SEED, NAME)
        positional = {} if not case.arguments else named_arguments(case)
        values = values_of("test", getattr(torch_init, case.name), shape, dtype, positional)
        for ranges in boxes(shape):
            cut = tuple(slice(begin, end) for begin, end in ranges)
            view = torch.empty([end - begin for begin, end in ranges], dtype=dtype)
            fill_box(values, view, [begin for begin, _ in ranges], shape, SEED, NAME)
            assert same_bits(view, whole[cut]), (shape, ranges)


def named_arguments(case):
    parameters = {
        "uniform_": ("a", "b"),
        "bernoulli_": ("p",),
        "sparse_": ("sparsity",),
        "constant_": ("val",),
        "dirac_": ("groups",),
    }[case.name]
    return dict(zip(parameters, case.arguments, strict=True))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_every_box_of_a_grouped_dirac(groups):
    whole = torch_init.dirac_(torch.empty(12, 4, 3, 2), groups)
    values = values_of("test", torch_init.dirac_, whole.shape, whole.dtype, {"groups": groups})
    for first, size in itertools.product(range(12), (1, 2, 5)):
        view = torch.empty_like(whole[first : first + size, 1:, 1:, 1:])
        fill_box(values, view, (first, 1, 1, 1), whole.shape, 0, "")
        assert view.equal(whole[first : first + size, 1:, 1:, 1:]), first


def test_values_of_asks_the_initialiser():
    def muzzled(tensor, std):
        return torch_init.normal_(tensor, std=2 * std)

    assert values_of("test", muzzled, (3,), torch.float32, {"std": 0.5}).std == 1.0
    with pytest.raises(ValueError, match="normal_: std: expected a number >= 0, got -1"):
        values_of("test", torch_init.normal_, (3,), torch.float32, {"std": -1.0})


@pytest.mark.parametrize("calls", [0, 2])
def test_values_of_refuses_what_is_not_one_initialiser(calls):
    def odd(tensor):
        for _ in range(calls):
            torch_init.normal_(tensor)

    with pytest.raises(TypeError, match=f"got odd, which calls {calls} of them"):
        values_of("test", odd, (3,), torch.float32, {})


def test_values_of_refuses_what_writes_besides():
    """Its values would not be those of the initialiser alone, which the plan knows of."""

    def scaled(tensor):
        torch_init.uniform_(tensor, 1, 16).log_()

    with pytest.raises(TypeError, match="calls 1 of them on its tensor and writes it besides"):
        values_of("test", scaled, (3,), torch.float32, {})


def test_values_of_refuses_what_fills_a_part():
    def half(tensor):
        torch_init.normal_(tensor[:2])

    with pytest.raises(TypeError, match="got half, which calls 0 of them on its tensor"):
        values_of("test", half, (3,), torch.float32, {})
