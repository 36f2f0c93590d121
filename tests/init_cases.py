# SPDX-License-Identifier: Apache-2.0
"""One call of every initialiser, for tests of what all of them have in common."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import torch_init


@dataclass(frozen=True)
class Case:
    """An initialiser with a shape that suits it and the arguments it cannot do without."""

    name: str
    shape: tuple[int, ...] = (8, 6)
    arguments: tuple[Any, ...] = ()
    random: bool = True
    bounded: bool = False  # has bounds, which have no meaning for complex numbers

    @property
    def complex(self):
        return not self.bounded and self.name not in ("bernoulli_", "rademacher_")

    def __call__(self, tensor, **keywords):
        return getattr(torch_init, self.name)(tensor, *self.arguments, **keywords)

    def fill(self, tensor, seed=3, name="layer.weight"):
        """Fill tensor with what (seed, name) determines, or what the initialiser always makes."""
        return self(tensor, seed=seed, name=name) if self.random else self(tensor)

    def make(self, dtype=torch.float32, **key):
        return self.fill(torch.empty(self.shape, dtype=dtype), **key)

    def __str__(self):
        return self.name


CASES = [
    Case("uniform_", arguments=(-1.0, 1.0), bounded=True),
    Case("normal_"),
    Case("trunc_normal_", bounded=True),
    Case("bernoulli_", arguments=(0.3,)),
    Case("rademacher_"),
    Case("xavier_"),
    Case("xavier_uniform_", bounded=True),
    Case("xavier_normal_"),
    Case("he_"),
    Case("kaiming_uniform_", bounded=True),
    Case("kaiming_normal_"),
    Case("lecun_normal_"),
    Case("lecun_uniform_", bounded=True),
    Case("variance_scaling_", bounded=True),
    Case("orthogonal_"),
    Case("delta_orthogonal_", shape=(8, 6, 3)),
    Case("sparse_", arguments=(0.3,)),
    Case("constant_", arguments=(0.5,), random=False),
    Case("ones_", random=False),
    Case("zeros_", random=False),
    Case("eye_", random=False),
    Case("dirac_", shape=(8, 6, 3), random=False),
    Case("zero_identity_", random=False),
]
RANDOM = [case for case in CASES if case.random]

NARROW_DTYPES = [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]
REAL_DTYPES = [torch.float32, torch.float64, *NARROW_DTYPES]


def bits(tensor):
    """The tensor's bytes in logical order; equal bits are more than equal values."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def same_bits(left, right):
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and torch.equal(bits(left), bits(right))
    )


def refused(call, error, function, argument, got, expected, fix=""):
    """Call, and check that it fails with a message that names all of these, changing nothing."""
    state = torch.get_rng_state()
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    message = str(caught.value)
    assert message.startswith(f"torch_init.{function}: {argument}: expected "), message
    assert re.search(f"expected .*{expected}.*, got .*{got}", message, re.DOTALL), message
    assert fix in message
    assert torch.equal(torch.get_rng_state(), state), "the generator was consumed"


def refused_tensor(tensor, call, *expectations):
    """The same, and the tensor has the bits that it had."""
    storage = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    before, version = storage.clone(), tensor._version
    refused(lambda: call(tensor), *expectations)
    assert torch.equal(storage, before)
    assert tensor._version == version
