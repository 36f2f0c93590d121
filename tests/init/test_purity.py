# SPDX-License-Identifier: Apache-2.0
"""f(tensor, seed, name) is a pure function; without a seed, torch's generators govern."""

import random

import numpy as np
import pytest
import torch
from init_cases import CASES, NARROW_DTYPES, RANDOM, same_bits

import torch_init

every = pytest.mark.parametrize("case", CASES, ids=str)
every_random = pytest.mark.parametrize("case", RANDOM, ids=str)
REFERENCE = {case: case.make() for case in CASES}


@pytest.fixture
def restore_defaults():
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    torch.use_deterministic_algorithms(False)


def test_order_of_calls_does_not_matter():
    order = random.Random(0).sample(CASES, len(CASES))
    for case in order:
        torch_init.normal_(torch.empty(5))  # a draw from the generator in between
        assert same_bits(case.make(), REFERENCE[case]), case


@every_random
def test_seed_and_name_both_count(case):
    assert not torch.equal(case.make(seed=4), REFERENCE[case])
    assert not torch.equal(case.make(name="layer.bias"), REFERENCE[case])
    assert same_bits(case.make(name=None), case.make(name=""))


@every
def test_memory_layout_does_not_matter(case):
    order = tuple(reversed(range(len(case.shape))))
    transposed = torch.empty([case.shape[d] for d in order]).permute(order)
    assert same_bits(case.fill(transposed), REFERENCE[case])
    padded = torch.full((*case.shape[:-1], 2 * case.shape[-1] + 1), 7.0)
    strided = padded[..., 1::2]
    assert same_bits(case.fill(strided), REFERENCE[case])
    assert (padded[..., ::2] == 7).all()
    assert strided.stride() == padded[..., 1::2].stride()


@every
def test_what_was_in_the_tensor_does_not_matter(case):
    for old in (0.0, 1.0, float("nan"), float("inf")):
        assert same_bits(case.fill(torch.full(case.shape, old)), REFERENCE[case])


@every
@pytest.mark.parametrize("dtype", NARROW_DTYPES, ids=str)
def test_narrow_dtype_is_the_rounded_float32(case, dtype):
    narrow = case.make(dtype).float()
    rounded = REFERENCE[case].to(dtype).float()
    if case.bounded:  # what rounding put outside the bounds is moved to the last value inside
        rounded = rounded.clamp(narrow.min(), narrow.max())
    assert torch.equal(narrow, rounded)


@every
def test_defaults_of_torch_do_not_matter(case, restore_defaults):
    for dtype in (torch.float64, torch.float16):
        torch.set_default_dtype(dtype)
        assert same_bits(case.make(torch.float32), REFERENCE[case])
    torch.set_default_dtype(torch.float32)
    tensor = torch.empty(case.shape)
    with torch.device("meta"):
        assert same_bits(case.fill(tensor), REFERENCE[case])
    torch.use_deterministic_algorithms(True)
    assert same_bits(case.make(), REFERENCE[case])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same_bits(case.make(), REFERENCE[case])


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_number_of_threads_does_not_matter(threads, restore_defaults):
    shape = (700, 1000)  # enough elements for all threads
    torch.set_num_threads(threads)
    normal = torch_init.normal_(torch.empty(shape), seed=0, name="w")
    rows = [torch_init.normal_(torch.empty(shape), seed=0, name="w")[i] for i in (0, 350, 699)]
    torch.set_num_threads(1)
    single = torch_init.normal_(torch.empty(shape), seed=0, name="w")
    assert same_bits(normal, single)
    assert all(torch.equal(row, single[i]) for row, i in zip(rows, (0, 350, 699), strict=True))


@every_random
def test_manual_seed_governs_where_no_seed_is_given(case):
    torch.manual_seed(7)
    first, second = case(torch.empty(case.shape)), case(torch.empty(case.shape))
    torch.manual_seed(7)
    assert same_bits(case(torch.empty(case.shape)), first)
    assert same_bits(case(torch.empty(case.shape)), second)
    assert not torch.equal(first, second)


@every_random
def test_generator_governs_and_the_default_one_is_left_alone(case):
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(7)
    first = case(torch.empty(case.shape), generator=generator)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert same_bits(case(torch.empty(case.shape)), first)  # the same draw from either


@every_random
def test_one_draw_whatever_the_size(case):
    """The next tensor does not change when this one grows."""
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    rest = case.shape[2:]
    case(torch.empty(8, 6, *rest), generator=generators[0])
    case(torch.empty(80, 60, *rest), generator=generators[1])
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@every_random
def test_generator_and_name_together(case):
    """A drawn seed still tells names apart, and the draw is the same for all names."""
    drawn = [
        case(torch.empty(case.shape), generator=torch.Generator().manual_seed(1), name=name)
        for name in ("a", "b", "a")
    ]
    assert same_bits(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


@every_random
def test_seed_given_leaves_generators_alone(case):
    state = torch.get_rng_state()
    case.make()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["normal_", "orthogonal_", "sparse_"])
def test_seeds_of_64_bits(name):
    """Negative seeds and those from 2**63 on are the same 64 bits; all bits count."""
    (case,) = [case for case in CASES if case.name == name]
    for seed in (1, 2**62, 2**63 - 1):
        assert same_bits(case.make(seed=-seed), case.make(seed=2**64 - seed))
    assert same_bits(case.make(seed=-(2**63)), case.make(seed=2**63))
    seeds = [0, *(1 << bit for bit in range(64)), 2**64 - 1]
    assert len({case.make(seed=seed).numpy().tobytes() for seed in seeds}) == len(seeds)


@every_random
def test_seed_as_a_tensor_or_numpy_integer(case):
    for seed in (3, -3):
        expected = case.make(seed=seed)
        assert same_bits(case.make(seed=torch.tensor(seed)), expected)
        assert same_bits(case.make(seed=np.int64(seed)), expected)
    assert same_bits(case.make(seed=np.uint64(2**63 + 5)), case.make(seed=2**63 + 5))


def test_names_are_exact_strings():
    names = [
        "",
        "a",
        "A",
        " a",
        "a ",
        "a.b",
        "ab.",
        "a\n",
        "\u00e5",
        "a\u030a",
        "層",
        "𝛼",
        "x" * 10000,
    ]
    values = {torch_init.normal_(torch.empty(4), seed=0, name=name) for name in names}
    assert len({value.numpy().tobytes() for value in values}) == len(names)


@every_random
def test_subclass_and_function_mode_do_not_matter(case):
    class Subclass(torch.Tensor):
        pass

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

    tensor = torch.empty(case.shape).as_subclass(Subclass)
    assert case.fill(tensor) is tensor
    assert same_bits(tensor.as_subclass(torch.Tensor), REFERENCE[case])
    with Mode():
        assert same_bits(case.make(), REFERENCE[case])


def test_lazily_conjugated_and_negated_memory():
    expected = torch_init.normal_(torch.empty(3, 4, dtype=torch.complex64), seed=0, name="w")
    for lazy in (torch.zeros(3, 4, dtype=torch.complex64).conj(), -torch.zeros(3, 4).cfloat()):
        assert torch.equal(torch_init.normal_(lazy, seed=0, name="w"), expected)
    negated = torch.zeros(3, 4)._neg_view()
    expected = torch_init.normal_(torch.empty(3, 4), seed=0, name="w")
    assert torch.equal(torch_init.normal_(negated, seed=0, name="w"), expected)
    part = torch.zeros(3, 4, dtype=torch.complex64)
    assert torch.equal(torch_init.normal_(part.real, seed=0, name="w"), expected)
    assert torch.equal(part, torch.complex(expected, torch.zeros(3, 4)))


def test_many_dimensions():
    shape = (2,) * 10
    expected = torch_init.normal_(torch.empty(2**10), seed=0, name="w").view(shape)
    assert torch.equal(torch_init.normal_(torch.empty(shape), seed=0, name="w"), expected)
    reordered = torch.empty(shape).permute(tuple(reversed(range(10))))
    assert torch.equal(torch_init.normal_(reordered, seed=0, name="w"), expected)
