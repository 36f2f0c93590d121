# SPDX-License-Identifier: Apache-2.0
"""Tensors that cannot be filled: the error's type and words, and that nothing has happened."""

import re

import numpy as np
import pytest
import torch
from init_cases import CASES, RANDOM, REAL_DTYPES, bits, refused, refused_tensor

import torch_init

every = pytest.mark.parametrize("case", CASES, ids=str)

CONSTANTS = ("constant_", "ones_", "zeros_")
SCALED = [case for case in RANDOM if case.name.startswith(("xavier", "he", "kaim", "lec", "var"))]


@every
@pytest.mark.parametrize(
    ("argument", "got"),
    [
        (torch.nn.Linear(2, 3), "Linear. Pass module.weight, not the module"),
        ([[1.0, 2.0]], "list"),
        (np.zeros((3, 2)), "ndarray"),
        (None, "NoneType"),
        (torch.Size([3, 2]), "Size"),
    ],
    ids=["module", "list", "ndarray", "None", "Size"],
)
def test_not_a_tensor(case, argument, got):
    call = lambda: case.fill(argument)  # noqa: E731
    refused(call, TypeError, case.name, "tensor", re.escape(got), "a torch.Tensor")


@every
@pytest.mark.parametrize("layout", ["coo", "csr", "mkldnn"])
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_sparse_tensor(case, layout):
    dense = torch.ones(8, 6)
    tensor = {
        "coo": dense.to_sparse(),
        "csr": dense.to_sparse_csr(),
        "mkldnn": dense.to_mkldnn(),
    }[layout]
    got, expected = f"layout torch.*{layout}", "a dense tensor"
    refused(lambda: case.fill(tensor), TypeError, case.name, "tensor", got, expected)
    assert torch.equal(tensor.to_dense(), dense)


@every
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_tensor(case):
    tensor = torch.quantize_per_tensor(torch.ones(case.shape), 0.1, 0, torch.qint8)
    expected = "a dense tensor, neither sparse nor quantised"
    refused(lambda: case.fill(tensor), TypeError, case.name, "tensor", "torch.qint8", expected)
    assert (tensor.int_repr() == 10).all()


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name not in (*CONSTANTS, "eye_", "dirac_")], ids=str
)
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.complex32], ids=str)
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_dtype_without_a_distribution(case, dtype):
    tensor = torch.ones(case.shape).to(dtype)
    refused_tensor(
        tensor, case.fill, TypeError, case.name, "tensor", str(dtype), "dtype float32, float64"
    )


@pytest.mark.parametrize("case", [case for case in CASES if not case.complex], ids=str)
def test_complex_tensor_with_a_real_distribution(case):
    tensor = torch.ones(case.shape, dtype=torch.complex64)
    refused_tensor(
        tensor,
        case.fill,
        TypeError,
        case.name,
        "tensor",
        "torch.complex64",
        "a real dtype",
        "zero-mean normal",
    )


def test_complex_tensor_with_a_mean():
    tensor = torch.ones(3, 4, dtype=torch.complex64)
    refused_tensor(
        tensor,
        lambda t: torch_init.normal_(t, mean=1.0),
        TypeError,
        "normal_",
        "tensor",
        "torch.complex64",
        "a real dtype",
        "zero-mean normal",
    )


@pytest.mark.parametrize("case", [c for c in CASES if c.name not in CONSTANTS], ids=str)
def test_overlapping_memory(case):
    rest = case.shape[2:]
    buffer = torch.ones(1000)
    for tensor in [
        torch.ones(1, 6, *rest).expand(8, 6, *rest),
        torch.ones(8, 1, *rest).expand(8, 6, *rest),
        buffer.as_strided((8, 6, *rest), (6, 1, *(1 for _ in rest)) if rest else (3, 1)),
        buffer.as_strided((8, 6, *rest), (1, 1, *(20 for _ in rest))),
    ]:
        refused_tensor(
            tensor,
            case.fill,
            ValueError,
            case.name,
            "tensor",
            re.escape(str(tensor.stride())),
            "elements that do not share memory",
            "Fill a .contiguous() copy",
        )


def test_dimensions_of_size_one_may_have_any_stride():
    tensor = torch.ones(6).as_strided((1, 6), (0, 1))
    expected = torch_init.normal_(torch.empty(1, 6), seed=0, name="w")
    assert torch.equal(torch_init.normal_(tensor, seed=0, name="w"), expected)


@pytest.mark.parametrize("case", SCALED, ids=str)
@pytest.mark.parametrize("shape", [(), (5,)])
def test_fans_need_two_dimensions(case, shape):
    refused_tensor(
        torch.ones(shape),
        case.fill,
        ValueError,
        case.name,
        "tensor",
        rf"{len(shape)} dimension\(s\)",
        "at least 2 dimensions",
        "a distribution of its own",
    )


@pytest.mark.parametrize("case", RANDOM, ids=str)
@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_late_refusal_changes_no_bit_in_any_dtype(case, dtype):
    """The name is the last argument that is looked at."""
    tensor = torch.full(case.shape, 0.5).to(dtype)
    before = bits(tensor).clone()
    with pytest.raises(TypeError):
        case(tensor, seed=0, name=1)
    assert torch.equal(bits(tensor), before)
