# SPDX-License-Identifier: Apache-2.0
"""Tensors and bounds on the border of what is refused."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import torch_init

NARROW = [
    # dtype, low, high, whether the dtype has a value in [low, high]
    (torch.bfloat16, 1.0, 1.001, True),
    (torch.bfloat16, 1.001, 1.002, False),
    (torch.bfloat16, -1.002, -1.001, False),
    (torch.float16, 65500.0, 65540.0, True),  # the middle rounds to infinity
    (torch.float16, 65473.0, 65503.0, False),
    (torch.float16, 6.1e-8, 8.9e-8, False),  # between two subnormals, 5.96e-8 and 1.19e-7
    (torch.float16, 5.9e-8, 6e-8, True),
    (torch.float8_e4m3fn, 17.0, 17.9, False),
    (torch.float8_e4m3fn, 17.0, 18.0, True),
    (torch.float64, 1.7e308, 1.7000000000000001e308, True),  # the sum of the bounds overflows
]


@pytest.mark.parametrize(("dtype", "low", "high", "has_value"), NARROW)
def test_interval_must_hold_a_value(dtype, low, high, has_value):
    tensor = torch.zeros(100, dtype=dtype)
    if has_value:
        torch_init.trunc_normal_(tensor, low, 1.0, low, high, seed=0)
        assert ((low <= tensor.double()) & (tensor.double() <= high)).all()
        return
    with pytest.raises(ValueError, match="an interval that holds a value of"):
        torch_init.trunc_normal_(tensor, low, 1.0, low, high, seed=0)
    assert not tensor.double().any()


def test_narrow_interval_in_other_modes():
    """Whether an interval holds a value is asked of no tensor."""
    on_cpu = torch.empty(3, dtype=torch.bfloat16, device="cpu")
    with torch.device("meta"):
        torch_init.uniform_(on_cpu, 1.0, 1.01, seed=0)
    with FakeTensorMode():
        torch_init.uniform_(torch.empty(3, dtype=torch.bfloat16), 1.0, 1.01, seed=0)

    @torch.compile(fullgraph=True, backend="eager")
    def compiled(tensor):
        return torch_init.uniform_(tensor, 1.0, 1.01, seed=0)

    assert torch.equal(compiled(torch.empty(3, dtype=torch.bfloat16)), on_cpu)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors():
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    for function in (torch_init.normal_, torch_init.zeros_, torch_init.eye_):
        with pytest.raises(TypeError, match=r"got a nested torch\.float32"):
            function(nested)
    assert all(part.eq(1).all() for part in nested.unbind())
