# SPDX-License-Identifier: Apache-2.0
"""What bench_gpu.py compares. Everything runs on a CPU too, to try the script."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from _gibbs_sides import gibbs_sides
from _init_cases import stateless
from _llama import SIZES, llama_on_meta
from _rbm_peers import BATCH, HIDDEN, RATE, VISIBLE, plain_torch
from _timing import Clock, Group, HostClock, Side, captured, measure
from torch import Tensor, nn

import torch_init
from torch_init import _ops, rbm, rule
from torch_init.distributions import Normal


@dataclass(frozen=True)
class Bench:
    """Where, how often, and whether tiny sizes do."""

    device: torch.device
    clock: Clock
    repeats: int
    quick: bool

    def group(
        self,
        kind: str,
        title: str,
        dtype: str,
        sides: list[Side],
        counts: dict[str, int] | None = None,
    ) -> Group:
        results = measure(sides, self.clock, self.repeats)
        return Group(kind, f"{kind}: {title}", dtype, None, results, counts or {})


def memory(bench: Bench) -> Iterator[Group]:
    """Write-only and copy bandwidth beside the fills, on memory far larger than L2."""
    elements = 2**16 if bench.quick else 2**28
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.zeros(elements, dtype=dtype, device=bench.device)
        source = torch.zeros_like(x)
        size: dict[str, Any] = {"elements": elements, "moved": x.nbytes}
        copied = size | {"moved": 2 * x.nbytes}
        sides = [
            Side("fill", "torch", partial(x.fill_, 0.5), **size),
            Side("memset", "torch", x.zero_, **size),
            Side("copy", "torch", partial(x.copy_, source), **copied),
            Side("read", "torch", x.view(torch.float32).sum, **size),
        ]
        for case, ours, theirs in (
            ("uniform", torch_init.uniform_, x.uniform_),
            ("normal", torch_init.normal_, x.normal_),
        ):
            sides.append(Side(case, "torch_init", partial(ours, x, seed=0), **size))
            sides.append(Side(case, "torch", theirs, **size))
            if call := stateless(f"{case}_", x):
                sides.append(Side(case, "torch.func._random", call, **size, optional=True))
        cut = partial(torch_init.trunc_normal_, x, a=-2.0, b=2.0, seed=0)
        sides.append(Side("truncated", "torch_init", cut, **size))
        cut = partial(nn.init.trunc_normal_, x, a=-2.0, b=2.0)
        sides.append(Side("truncated", "torch", cut, **size))
        name = str(dtype).removeprefix("torch.")
        yield bench.group("memory", f"{name}, {elements:,} elements", name, sides)


def _fills(parameters: list[nn.Parameter], call: Callable[[Tensor], Any]) -> None:
    with torch.no_grad():
        for parameter in parameters:
            call(parameter)


def llama(bench: Bench) -> Iterator[Group]:
    """Every matrix of a Llama-7B, bfloat16."""
    model = llama_on_meta(SIZES["tiny" if bench.quick else "7B"]).to(torch.bfloat16)
    size = 2 * sum(parameter.numel() for parameter in model.parameters())
    if bench.device.type == "cuda" and torch.cuda.mem_get_info()[0] < size + 2**31:
        raise RuntimeError(f"needs {size / 2**30 + 2:.0f} GiB of free GPU memory")
    model.to_empty(device=bench.device)
    parameters = list(model.parameters())
    facts: dict[str, Any] = {"elements": size // 2, "moved": size}
    sides = []
    for case, distribution in (
        ("normal", rule("*", torch_init.normal_, std=0.02)),
        ("uniform", rule("*", torch_init.uniform_, a=-0.02, b=0.02)),
    ):
        run = torch_init.prepare(torch_init.plan(model, distribution)).run
        sides.append(Side(case, "torch_init", run, **facts))
    loops = {
        "normal": partial(nn.init.normal_, std=0.02),
        "uniform": partial(nn.init.uniform_, a=-0.02, b=0.02),
        "fill": partial(nn.init.constant_, val=0.5),
    }
    for case, call in loops.items():
        sides.append(Side(case, "torch", partial(_fills, parameters, call), **facts))
    counts = {}
    if bench.device.type == "cuda":
        counts["synchronisations"] = _synchronisations(sides[0].call)
    title = f"{len(parameters)} tensors, {size // 2:,} elements"
    yield bench.group("llama", title, "bfloat16", sides, counts)


def _synchronisations(call: Callable[[], Any]) -> int:
    """How often a call waits for the GPU, as far as torch knows."""
    call()  # loads the kernel
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _small_model(device: torch.device) -> nn.ParameterList:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(64, 66_000, (150,), generator=generator).tolist()
    return nn.ParameterList([nn.Parameter(torch.empty(n, device=device)) for n in sizes])


def small(bench: Bench) -> Iterator[Group]:
    """Overheads: the fill itself takes a few microseconds."""
    model = _small_model(bench.device)
    rules = rule("*", torch_init.normal_, std=0.02)
    prepared = torch_init.prepare(torch_init.plan(model, rules))
    loop = partial(_fills, list(model), partial(nn.init.normal_, std=0.02))
    total = sum(parameter.numel() for parameter in model)
    facts: dict[str, Any] = {"elements": total, "moved": 4 * total}
    facts["calls"] = 2 if bench.quick else 50
    unchecked = partial(prepared.run, check=False)
    sides = [
        Side("prepared plan", "torch_init", prepared.run, **facts),
        Side("prepared plan, unchecked", "torch_init", unchecked, **facts),
        Side("loop of normal_", "torch", loop, **facts),
    ]
    if bench.device.type == "cuda":
        sides.append(
            Side("prepared plan in a graph", "torch_init", captured(prepared.run), **facts)
        )
    yield bench.group("small", f"{len(model)} tensors, {total:,} elements", "float32", sides)


def launch(bench: Bench) -> Iterator[Group]:
    """What the host does for one prepared run, by the host's clock.

    On a GPU: everything up to the launch's return, while the GPU is busy. On a CPU the plan is
    left out: an element alone is filled in its place, through the same call of the module.
    """
    model = _small_model(bench.device)
    prepared = torch_init.prepare(torch_init.plan(model, rule("*", torch_init.normal_, std=0.02)))
    prepared.run()
    calls = 2 if bench.quick else 20  # a sample so short that others seldom interrupt it
    if bench.device.type == "cpu":
        one = (torch.empty(1), Normal(0.0, 1.0).spec(), 0)
        prepared.native = [_ops.FillPlan([one])]

    def settle() -> None:
        if bench.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda._sleep(50_000_000)  # some 30 ms

    x = torch.empty(64, 64, device=bench.device)
    cases = {
        "a run": ("torch_init", prepared.run),
        "a run, unchecked": ("torch_init", partial(prepared.run, check=False)),
        "its native part": ("torch_init", prepared.native[0].run),
        "xavier_normal_ of 64 x 64": ("torch_init", partial(torch_init.xavier_normal_, x, seed=0)),
        "nn.init.xavier_normal_ of 64 x 64": ("torch", partial(nn.init.xavier_normal_, x)),
    }
    facts: dict[str, Any] = {"elements": len(model), "moved": 0, "calls": calls, "prepare": settle}
    sides = [Side(case, who, call, **facts) for case, (who, call) in cases.items()]
    title = f"launch: {len(model)} tensors, the host's part"
    yield Group("launch", title, "float32", None, measure(sides, HostClock(), 5 * bench.repeats))


def moments(bench: Bench) -> Iterator[Group]:
    """Every statistic in one pass against a plain read."""
    rows = 64 if bench.quick else 2**18
    for dtype in (torch.float32, torch.bfloat16):
        x = torch_init.normal_(torch.empty(rows, 1024, dtype=dtype, device=bench.device), seed=0)
        plain = torch.zeros(1, 12, dtype=torch.float64, device=bench.device)
        binned = torch.zeros(1, 76, dtype=torch.float64, device=bench.device)
        features = torch.zeros(3, 1024, dtype=torch.float64, device=bench.device)
        flow = partial(_ops.accumulate_moments_, x)
        size: dict[str, Any] = {"elements": x.numel(), "moved": x.nbytes}
        calls: dict[str, Callable[[], Any]] = {
            "flow": partial(flow, plain, None, 0, -math.inf, math.inf, 1),
            "flow, histogram": partial(flow, binned, None, 0, -math.inf, math.inf, 1),
            "flow, everything": partial(flow, binned, features, 0, -1.0, 1.0, 1),
            "read-back, values on the host": partial(_ops.measure, [(x,)]),
        }
        sides = [Side("read", "torch", x.view(torch.float32).sum, **size)]
        sides += [Side(case, "torch_init", call, **size) for case, call in calls.items()]
        name = str(dtype).removeprefix("torch.")
        yield bench.group("moments", f"{name}, {x.numel():,} elements", name, sides)


GIBBS_SIZES = ((100, 784, 500), (4096, 784, 500), (4096, 4096, 4096))
QUICK_GIBBS_SIZES = ((20, 64, 40),)


def gibbs(bench: Bench) -> Iterator[Group]:
    """Sweeps of binary chains; the GEMMs alone are what no sampler can beat."""
    for chains, visible, hidden in QUICK_GIBBS_SIZES if bench.quick else GIBBS_SIZES:
        sweeps = 2 if bench.quick else 10 if visible > 1000 else 100
        sides = gibbs_sides(bench.device, chains, visible, hidden, sweeps)
        title = f"{chains} chains, {visible} x {hidden}, a sweep"
        yield bench.group("gibbs", title, "uint8", sides)


def training(bench: Bench) -> Iterator[Group]:
    """An epoch of CD-1 on rows in the GPU's memory, everything of fit counted."""
    updates = 2 if bench.quick else 100
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(updates * BATCH, VISIBLE, generator=generator) < 0.13
    rows = rows.float().to(bench.device)

    def ours(statistics: str) -> None:
        machine = rbm.RBM(VISIBLE, HIDDEN, seed=0).to(bench.device)
        options: dict[str, Any] = {"batch_size": BATCH, "learning_rate": RATE, "monitors": ()}
        options |= {"momentum": 0.0, "weight_decay": 0.0, "centered": False}
        machine.fit(rows, epochs=1, statistics=statistics, **options)

    calls: dict[tuple[str, str], Callable[[], Any]] = {
        ("CD-1", "torch_init"): partial(ours, "means"),
        ("CD-1, sampled statistics", "torch_init"): partial(ours, "samples"),
        ("CD-1", "torch"): partial(plain_torch(1), rows, 1),
    }
    facts: dict[str, Any] = {"elements": rows.numel(), "moved": 0, "units": updates}
    sides = [Side(case, who, call, **facts) for (case, who), call in calls.items()]
    title = f"{BATCH} rows, {VISIBLE} x {HIDDEN}, an update"
    yield bench.group("training", title, "float32", sides)
