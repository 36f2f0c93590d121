# SPDX-License-Identifier: Apache-2.0
"""Bad arguments: the error's type and words, and that nothing has happened."""

import math
import re

import numpy as np
import pytest
import torch
from init_cases import RANDOM, refused, refused_tensor

import torch_init

every_random = pytest.mark.parametrize("case", RANDOM, ids=str)
NAN, INF = math.nan, math.inf

# Arguments: function, keyword arguments, error, argument, got, expected.
ARGUMENTS = [
    ("uniform_", {"a": 2, "b": 1}, ValueError, "a, b", "a=2.0 > b=1.0", "a <= b"),
    ("uniform_", {"a": -INF}, ValueError, "a", "-inf", "a finite number"),
    ("uniform_", {"b": INF}, ValueError, "b", "inf", "a finite number"),
    ("uniform_", {"a": NAN}, ValueError, "a", "nan", "not NaN"),
    ("uniform_", {"b": 1e39}, ValueError, "b", r"1e\+39", "the range of torch.float32"),
    ("uniform_", {"b": "1"}, TypeError, "b", "'1'", "a real number"),
    ("normal_", {"std": -1.0}, ValueError, "std", "-1.0", "a number >= 0"),
    ("normal_", {"std": NAN}, ValueError, "std", "nan", "not NaN"),
    ("normal_", {"std": INF}, ValueError, "std", "inf", "a finite number"),
    ("normal_", {"std": 1e39}, ValueError, "std", r"1e\+39", "the range of torch.float32"),
    ("normal_", {"mean": -1e39}, ValueError, "mean", r"-1e\+39", "the range of torch.float32"),
    ("normal_", {"mean": NAN}, ValueError, "mean", "nan", "not NaN"),
    ("normal_", {"mean": None}, TypeError, "mean", "None", "a real number"),
    ("normal_", {"std": True}, TypeError, "std", "True", "a real number"),
    ("normal_", {"std": 1j}, TypeError, "std", "1j", "a real number"),
    ("trunc_normal_", {"a": 2, "b": 1}, ValueError, "a, b", "a=2.0 > b=1.0", "a <= b"),
    ("trunc_normal_", {"a": NAN}, ValueError, "a", "nan", "not NaN"),
    ("trunc_normal_", {"a": INF, "b": INF}, ValueError, "a, b", "inf", "holds a value"),
    ("trunc_normal_", {"std": -0.1}, ValueError, "std", "-0.1", "a number >= 0"),
    ("trunc_normal_", {"std": 1e300}, ValueError, "std", r"1e\+300", "the range of torch.float32"),
    ("trunc_normal_", {"std": 0, "a": 1}, ValueError, "std", "0", "the mean 0.0 is outside"),
    ("trunc_normal_", {"mean": 1e300}, ValueError, "a, b", "-2.0, 2.0", "nearer to the mean"),
    ("trunc_normal_", {"a": 1e-50, "b": 2e-50}, ValueError, "a, b", "1e-50", "holds a value"),
    ("trunc_normal_", {"bounds": "std"}, ValueError, "bounds", "'std'", "'absolute', 'sigma'"),
    ("bernoulli_", {"p": -0.1}, ValueError, "p", "-0.1", r"a probability in \[0, 1\]"),
    ("bernoulli_", {"p": 1.5}, ValueError, "p", "1.5", r"a probability in \[0, 1\]"),
    ("bernoulli_", {"p": NAN}, ValueError, "p", "nan", "not NaN"),
    ("rademacher_", {"scale": INF}, ValueError, "scale", "inf", "a finite number"),
    ("rademacher_", {"scale": 1e39}, ValueError, "scale", r"1e\+39", "the range of torch.float32"),
    ("sparse_", {"sparsity": 1.1}, ValueError, "sparsity", "1.1", "a probability"),
    ("sparse_", {"sparsity": -0.1}, ValueError, "sparsity", "-0.1", "a probability"),
    ("sparse_", {"sparsity": NAN}, ValueError, "sparsity", "nan", "not NaN"),
    ("sparse_", {"sparsity": 0.1, "std": -1}, ValueError, "std", "-1.0", "a number >= 0"),
    ("orthogonal_", {"gain": NAN}, ValueError, "gain", "nan", "not NaN"),
    ("orthogonal_", {"gain": "relu"}, TypeError, "gain", "'relu'", "a real number"),
    ("xavier_", {"gain": INF}, ValueError, "gain", "inf", "a finite number"),
    ("xavier_uniform_", {"gain": 1e200}, ValueError, "gain", r"1e\+200", "whose square"),
    ("xavier_", {"mode": "fan"}, ValueError, "mode", "'fan'", "'fan_in', 'fan_out', 'fan_avg'"),
    ("xavier_", {"mode": None}, ValueError, "mode", "None", "'fan_geo_avg'"),
    ("he_", {"mode": "in"}, ValueError, "mode", "'in'", "'fan_in'"),
    ("kaiming_normal_", {"mode": "fan_avg"}, ValueError, "mode", "'fan_avg'", "'fan_out'"),
    ("kaiming_normal_", {"mode": 1}, ValueError, "mode", "1", "'fan_out'"),
    ("kaiming_uniform_", {"nonlinearity": "glu"}, ValueError, "nonlinearity", "'glu'", "'relu'"),
    ("kaiming_uniform_", {"nonlinearity": []}, ValueError, "nonlinearity", r"\[\]", "'relu'"),
    ("kaiming_uniform_", {"a": "x"}, ValueError, "a", "'x'", "a negative slope"),
    ("kaiming_uniform_", {"a": True}, ValueError, "a", "True", "a negative slope"),
    ("kaiming_uniform_", {"a": NAN}, ValueError, "a", "nan", "not NaN"),
    ("variance_scaling_", {"scale": -1}, ValueError, "scale", "-1.0", "a number >= 0"),
    ("variance_scaling_", {"mode": "avg"}, ValueError, "mode", "'avg'", "'fan_avg'"),
    ("variance_scaling_", {"distribution": "cauchy"}, ValueError, "distribution", "'cauchy'",
     "'uniform', 'normal', 'truncated_normal'"),
    ("xavier_", {"groups": 3}, ValueError, "groups", "3", "a divisor of .* 8"),
    ("xavier_", {"groups": 0}, ValueError, "groups", "0", "an int >= 1"),
    ("xavier_", {"groups": 2.0}, TypeError, "groups", "2.0", "an int"),
    ("xavier_", {"groups": True}, TypeError, "groups", "True", "an int"),
    ("xavier_", {"transposed": 1}, TypeError, "transposed", "1", "True or False"),
    ("xavier_", {"in_axis": 0}, ValueError, "in_axis, out_axis", "0, None", "both axes"),
    ("xavier_", {"in_axis": 0, "out_axis": 1, "groups": 2}, ValueError, "in_axis, out_axis",
     "groups=2", "without groups"),
    ("xavier_", {"in_axis": 2, "out_axis": 0}, ValueError, "in_axis", "2", r"axes in \[-2, 2\)"),
    ("xavier_", {"in_axis": 0, "out_axis": "1"}, TypeError, "out_axis", "'1'", "an int"),
    ("xavier_", {"in_axis": 0, "out_axis": -2}, ValueError, "in_axis, out_axis, batch_axes",
     "0, -2", "each axis once"),
    ("xavier_", {"batch_axes": 0}, ValueError, "batch_axes", r"axes \[0\] of 2", "two axes left"),
    ("xavier_", {"batch_axes": 1.5}, TypeError, "batch_axes", "1.5", "an int or a sequence"),
    ("xavier_", {"group": 2}, TypeError, "keyword argument", "'group'", "groups, transposed"),
    ("he_", {"function": "x"}, TypeError, "keyword argument", "'function'", "groups"),
]  # fmt: skip


def argument_id(value):
    return repr(value) if isinstance(value, dict) else None


@pytest.mark.parametrize(
    ("function", "arguments", "error", "argument", "got", "expected"), ARGUMENTS, ids=argument_id
)
def test_argument(function, arguments, error, argument, got, expected):
    def call(tensor):
        getattr(torch_init, function)(tensor, **arguments)

    refused_tensor(torch.ones(8, 6), call, error, function, argument, got, expected)


DIMENSIONS = [
    ("eye_", (3,), {}, "2 dimensions"),
    ("eye_", (3, 3, 3), {}, "2 dimensions"),
    ("sparse_", (3, 3, 3), {"sparsity": 0.1}, "2 dimensions"),
    ("dirac_", (3, 3), {}, "3 or 4 or 5 dimensions"),
    ("dirac_", (1,) * 6, {}, "3 or 4 or 5 dimensions"),
    ("delta_orthogonal_", (3, 3), {}, "3 or 4 or 5 dimensions"),
    ("orthogonal_", (3,), {}, "at least 2 dimensions"),
    ("orthogonal_", (), {}, "at least 2 dimensions"),
    ("zero_identity_", (3,), {}, "at least 2 dimensions"),
]


@pytest.mark.parametrize(("function", "shape", "arguments", "expected"), DIMENSIONS)
def test_number_of_dimensions(function, shape, arguments, expected):
    def call(tensor):
        getattr(torch_init, function)(tensor, **arguments)

    got = rf"{len(shape)} dimension\(s\)"
    refused_tensor(torch.ones(shape), call, ValueError, function, "tensor", got, expected)


def test_delta_orthogonal_needs_as_many_outputs_as_inputs():
    refused_tensor(
        torch.ones(3, 4, 1),
        torch_init.delta_orthogonal_,
        ValueError,
        "delta_orthogonal_",
        "tensor",
        "3 outputs from 4 inputs",
        "at least as many outputs",
    )


@pytest.mark.parametrize(("groups", "error"), [(3, ValueError), (0, ValueError), (1.0, TypeError)])
def test_dirac_groups(groups, error):
    refused_tensor(
        torch.ones(4, 3, 3),
        lambda t: torch_init.dirac_(t, groups),
        error,
        "dirac_",
        "groups",
        str(groups),
        "a divisor" if groups == 3 else "an int",
    )


@pytest.mark.parametrize(
    ("dtype", "function", "arguments", "argument"),
    [
        (torch.float16, "uniform_", {"b": 1e5}, "b"),
        (torch.float8_e4m3fn, "uniform_", {"a": -500}, "a"),
        (torch.float8_e5m2, "uniform_", {"b": 6e4}, "b"),
        (torch.bfloat16, "uniform_", {"b": 3.4e38}, "b"),
        (torch.float16, "normal_", {"mean": 1e5}, "mean"),
        (torch.float8_e4m3fn, "normal_", {"std": 449}, "std"),
        (torch.float16, "rademacher_", {"scale": 65505}, "scale"),
        (torch.float64, "uniform_", {"a": -1e308, "b": 1e308}, "a, b"),
        (torch.float16, "trunc_normal_", {"a": 1e5, "b": 2e5}, "a, b"),
        (torch.float16, "trunc_normal_", {"a": 1e5, "b": 1e5}, "a, b"),
        (torch.bfloat16, "uniform_", {"a": 1.001, "b": 1.002}, "a, b"),
        (torch.float8_e4m3fn, "trunc_normal_", {"a": 1.01, "b": 1.1}, "a, b"),
    ],
    ids=str,
)
def test_bounds_that_the_dtype_cannot_meet(dtype, function, arguments, argument):
    def call(tensor):
        getattr(torch_init, function)(tensor, **arguments)

    tensor = torch.ones(5).to(dtype)
    expected = "(range|value) of|b - a within"
    refused_tensor(tensor, call, ValueError, function, argument, "", f"({expected})")


# Seeds, names and generators


@every_random
@pytest.mark.parametrize(
    ("seed", "error", "expected"),
    [
        (1.0, TypeError, "an int"),
        ("0", TypeError, "an int"),
        (True, TypeError, "an int"),
        (np.array([3]), TypeError, "an int"),
        (2**64, ValueError, r"an int in \[-2\*\*63, 2\*\*64\)"),
        (-(2**63) - 1, ValueError, r"an int in \[-2\*\*63, 2\*\*64\)"),
        (torch.tensor([3]), ValueError, "a 0-d int64 CPU tensor"),
        (torch.tensor(3.0), ValueError, "a 0-d int64 CPU tensor"),
        (torch.tensor(3, device="meta"), ValueError, "a 0-d int64 CPU tensor"),
    ],
    ids=str,
)
def test_seed(case, seed, error, expected):
    def call(tensor):
        case(tensor, seed=seed)

    refused_tensor(torch.ones(case.shape), call, error, case.name, "seed", "", expected)


@every_random
@pytest.mark.parametrize(
    ("name", "error"),
    [(3, TypeError), (b"w", TypeError), (["w"], TypeError), ("\ud800", ValueError)],
)
def test_name(case, name, error):
    for key in ({"seed": 0}, {}):
        refused_tensor(
            torch.ones(case.shape),
            lambda t, key=key: case(t, name=name, **key),
            error,
            case.name,
            "name",
            re.escape(repr(name)),
            "a str",
        )


@every_random
@pytest.mark.parametrize("generator", [0, "cpu", np.random.default_rng(0)], ids=type)
def test_generator(case, generator):
    for key in ({"seed": 0}, {}):
        refused_tensor(
            torch.ones(case.shape),
            lambda t, key=key: case(t, generator=generator, **key),
            TypeError,
            case.name,
            "generator",
            "",
            "a torch.Generator",
        )


@every_random
def test_seed_and_generator_together(case):
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    refused_tensor(
        torch.ones(case.shape),
        lambda t: case(t, seed=0, generator=generator),
        ValueError,
        case.name,
        "seed, generator",
        "both",
        "one of them",
        "The generator would not be used",
    )
    assert torch.equal(generator.get_state(), state)


@every_random
def test_generator_given_is_not_consumed_by_a_refusal(case):
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    with pytest.raises(ValueError, match="do not share memory"):
        case(torch.ones(1, 6, *case.shape[2:]).expand(case.shape), generator=generator)
    with pytest.raises(TypeError, match="a str"):
        case(torch.ones(case.shape), generator=generator, name=3)
    assert torch.equal(generator.get_state(), state)


# What is not an initialiser


def test_calculate_gain():
    for nonlinearity in ("glu", "", None, []):
        refused(
            lambda n=nonlinearity: torch_init.calculate_gain(n),
            ValueError,
            "calculate_gain",
            "nonlinearity",
            re.escape(repr(nonlinearity)),
            "'gelu'",
        )
    for slope in (True, "1", [1], NAN, INF):
        refused(
            lambda s=slope: torch_init.calculate_gain("leaky_relu", s),
            ValueError,
            "calculate_gain",
            "param",
            "",
            "a (negative slope|number|finite number)",
        )


def test_stream_key():
    refused(lambda: torch_init.stream_key(1.5), TypeError, "stream_key", "seed", "1.5", "an int")
    refused(lambda: torch_init.stream_key(0, 3), TypeError, "stream_key", "name", "3", "a str")
