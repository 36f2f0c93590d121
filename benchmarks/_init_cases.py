# SPDX-License-Identifier: Apache-2.0
"""What bench_init.py compares: each initialiser, torch's counterpart, and the groups of sides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from _timing import Clock, Group, Side, measure
from torch import Tensor

import torch_init
from torch_init import _ops
from torch_init.distributions import Normal

Fill = Callable[..., Any]
"""Fills the tensor that it is given."""


@dataclass(frozen=True)
class Case:
    """An initialiser of torch_init and what torch has for it.

    Args:
        stateless: name of the counterpart in torch.func._random, if there is one.
        engine: whether torch_init's engine fills, so that it has CPU tiers, seed= and name=.
    """

    ours: Fill
    torch: Fill
    stateless: str = ""
    engine: bool = True


CASES = {
    "uniform": Case(torch_init.uniform_, torch.nn.init.uniform_, "uniform_"),
    "normal": Case(torch_init.normal_, torch.nn.init.normal_, "normal_"),
    "truncated": Case(
        partial(torch_init.trunc_normal_, a=-2.0, b=2.0),
        partial(torch.nn.init.trunc_normal_, a=-2.0, b=2.0),
    ),
    "truncated_one_sided": Case(
        partial(torch_init.trunc_normal_, a=0.0, b=math.inf),
        partial(torch.nn.init.trunc_normal_, a=0.0, b=math.inf),
    ),
    "bernoulli": Case(torch_init.bernoulli_, lambda tensor: tensor.bernoulli_(0.5)),
    "constant": Case(
        partial(torch_init.constant_, val=0.5),
        partial(torch.nn.init.constant_, val=0.5),
        engine=False,
    ),
    "xavier_normal": Case(torch_init.xavier_normal_, torch.nn.init.xavier_normal_),
    "kaiming_uniform": Case(torch_init.kaiming_uniform_, torch.nn.init.kaiming_uniform_),
}
COUNTERPARTS = (
    "torch's counterpart is the function of torch.nn.init; of bernoulli, Tensor.bernoulli_. "
    "truncated: +-2 standard deviations; truncated_one_sided: the upper half."
)

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
}
COLUMNS = 1024
"""Columns of the matrix that is filled; a number of elements must be a multiple of it."""


@dataclass(frozen=True)
class Bench:
    """Where and how often: what all groups share.

    Args:
        tiers: CPU instruction sets, narrowest first; ("cuda",) on a GPU.
        calls: calls per sample of what takes microseconds.
    """

    device: torch.device
    clock: Clock
    tiers: Sequence[str]
    repeats: int
    calls: int


def _side(
    case: str,
    implementation: str,
    call: Callable[[], Any],
    tensor: Tensor,
    tier: str = "",
    **kwargs: Any,
) -> Side:
    prepare = (lambda: None) if tier in ("", "cuda") else partial(_ops.set_cpu_isa, tier)
    moved = tensor.numel() * tensor.element_size()
    facts: dict[str, Any] = {"tier": tier, "prepare": prepare, "moved": moved}
    return Side(case, implementation, call, tensor.numel(), **facts | kwargs)


def throughput(
    bench: Bench, dtype: str, elements: int, threads: int | None, cases: Iterable[str]
) -> Group:
    """Every case on one large matrix, with Tensor.fill_ and Tensor.copy_ as the memory's limits."""
    tensor = torch.zeros(elements // COLUMNS, COLUMNS, dtype=DTYPES[dtype], device=bench.device)
    source = torch.zeros_like(tensor)
    both = 2 * tensor.numel() * tensor.element_size()
    sides = [
        _side("fill", "torch", partial(tensor.fill_, 0.5), tensor),
        _side("copy", "torch", partial(tensor.copy_, source), tensor, moved=both),
    ]
    for name in cases:
        case = CASES[name]
        ours = partial(case.ours, tensor)
        tiers = bench.tiers if case.engine else [""]
        sides += [_side(name, "torch_init", ours, tensor, tier) for tier in tiers]
        sides.append(_side(name, "torch", partial(case.torch, tensor), tensor, optional=True))
        if case.stateless and (call := stateless(case.stateless, tensor)):
            sides.append(_side(name, "torch.func._random", call, tensor, optional=True))
    results = measure(sides, bench.clock, bench.repeats)
    return Group("throughput", f"{dtype}, {elements:,} elements", dtype, threads, results)


def stateless(function: str, tensor: Tensor) -> Callable[[], Any] | None:
    """Return a call of a function of torch.func._random on tensor; None where there is none."""
    try:
        from torch.func import _random
    except ImportError:  # experimental: not in every version of torch
        return None
    return partial(getattr(_random, function), _random.key(0, device=tensor.device), tensor)


def call_overhead(bench: Bench, threads: int | None, cases: Iterable[str]) -> Group:
    """Whole calls on a small matrix: drop-in, and with seed= and name=."""
    tensor = torch.zeros(64, 64, device=bench.device)
    sides = []
    for name in cases:
        case = CASES[name]
        many: dict[str, Any] = {"calls": bench.calls}
        tier = bench.tiers[-1] if case.engine else ""
        call = partial(case.ours, tensor)
        sides.append(_side(name, "torch_init", call, tensor, tier, **many))
        if case.engine:
            call = partial(case.ours, tensor, seed=0, name="fc.weight")
            sides.append(_side(name, "torch_init, seeded", call, tensor, tier, **many))
        sides.append(_side(name, "torch", partial(case.torch, tensor), tensor, **many))
    results = measure(sides, bench.clock, 5 * bench.repeats)
    return Group("call", "one call on a 64 x 64 tensor", "float32", threads, results)


def table_fit(bench: Bench, dtype: str, threads: int | None) -> Group:
    """The first call of trunc_normal_ with new bounds, which fits a table, and a later one."""
    tensor = torch.zeros(64, 64, dtype=DTYPES[dtype], device=bench.device)
    lower = (-2.0 - k * 2.0**-12 for k in itertools.count())
    calls = {
        "new bounds": lambda: torch_init.trunc_normal_(tensor, a=next(lower), b=2.0),
        "bounds seen before": lambda: torch_init.trunc_normal_(tensor, a=-2.0, b=2.0),
    }
    tier = bench.tiers[-1]
    sides = [_side(name, "torch_init", call, tensor, tier) for name, call in calls.items()]
    results = measure(sides, bench.clock, 5 * bench.repeats)
    return Group("table", f"truncated normal's {dtype} table", dtype, threads, results)


def orthogonal(bench: Bench, threads: int | None, shapes: Iterable[tuple[int, int]]) -> Group:
    """orthogonal_ against torch.nn.init's, which is not the same on every machine."""
    sides = []
    for rows, columns in shapes:
        tensor = torch.zeros(rows, columns, device=bench.device)
        name = f"{rows} x {columns}"
        ours = partial(torch_init.orthogonal_, tensor)
        sides += [_side(name, "torch_init", ours, tensor, tier) for tier in bench.tiers]
        sides.append(_side(name, "torch", partial(torch.nn.init.orthogonal_, tensor), tensor))
    results = measure(sides, bench.clock, bench.repeats)
    return Group("orthogonal", "orthogonal_", "float32", threads, results)


def many_tensors(bench: Bench, dtype: str, threads: int | None, widths: Iterable[int]) -> Group:
    """A GPT-2's 148 tensors, normal: one planned call, a call each, and one tensor of the size."""
    sides = []
    for width in widths:
        shapes = _gpt2_shapes(width)
        sizes = [math.prod(shape) for shape in shapes]
        flat = torch.zeros(sum(sizes), dtype=DTYPES[dtype], device=bench.device)
        parts = flat.split(sizes)
        tensors = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        plan = _ops.FillPlan(
            [
                (t, Normal(0.0, 0.02).spec(), _ops.stream_key(0, str(i)))
                for i, t in enumerate(tensors)
            ]
        )
        name = f"{len(tensors)} tensors, {flat.numel() / 1e6:.1f} M elements"
        tier = bench.tiers[-1]
        one = partial(torch_init.normal_, flat, std=0.02)
        each = partial(_for_each, torch_init.normal_, tensors)
        torchs = partial(_for_each, torch.nn.init.normal_, tensors)
        sides += [
            _side(name, "torch_init, one planned call", plan.run, flat, tier),
            _side(name, "torch_init, a call each", each, flat, tier),
            _side(name, "torch_init, one flat tensor", one, flat, tier),
            _side(name, "torch", torchs, flat),
        ]
    results = measure(sides, bench.clock, bench.repeats)
    return Group("many", f"a model's tensors, {dtype}", dtype, threads, results)


def _for_each(fill: Fill, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        fill(tensor, std=0.02)


def _gpt2_shapes(width: int) -> list[tuple[int, ...]]:
    """Return the parameters' shapes of a GPT-2 of 12 layers: GPT-2 small at width 768."""
    block = [
        *[(width,)] * 4,
        *[(3 * width, width), (3 * width,), (width, width), (width,)],
        *[(4 * width, width), (4 * width,), (width, 4 * width), (width,)],
    ]
    return [(50257, width), (1024, width), *12 * block, (width,), (width,)]
