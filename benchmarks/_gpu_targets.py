# SPDX-License-Identifier: Apache-2.0
"""The speeds that bench_gpu.py is held against: stated for an H200, ratios for any GPU.

There is no row for uniforms of 16 bits an element: a bfloat16 uniform is the float32 one, rounded
(docs/stream.md), so that it takes a word of 32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from _init_targets import Verdict
from _timing import Group


def judge(groups: Sequence[Group]) -> list[Verdict]:
    """Return a verdict on every target; one that nothing was measured for says so."""
    verdicts = []
    for kind, dtype, title, statement, bound, at_most, figure in _TARGETS:
        measured = None
        for group in groups:
            here = group.kind == kind and title in group.title
            if here and dtype in ("", group.dtype):
                measured = figure(group)
        reached = None
        if measured is not None:
            reached = measured <= bound if at_most else measured >= bound
        sign = "<=" if at_most else ">="
        verdicts.append(Verdict(f"{statement} {sign} {bound:g}", measured, reached))
    return verdicts


def _seconds(group: Group, case: str, who: str) -> float | None:
    result = group.find(case, who)
    return None if result is None or result.median is None else result.median / result.side.units


def _ratio(case: str, who: str, over: str, whose: str) -> Callable[[Group], float | None]:
    """The first one's time over the second's."""

    def figure(group: Group) -> float | None:
        one, other = _seconds(group, case, who), _seconds(group, over, whose)
        return None if one is None or other is None else one / other

    return figure


def _time(case: str, scale: float) -> Callable[[Group], float | None]:
    def figure(group: Group) -> float | None:
        seconds = _seconds(group, case, "torch_init")
        return None if seconds is None else seconds * scale

    return figure


def _rate(case: str) -> Callable[[Group], float | None]:
    def figure(group: Group) -> float | None:
        result = group.find(case, "torch_init")
        ns = None if result is None else result.ns_per_element
        return None if ns is None else 1 / ns

    return figure


def _count(name: str) -> Callable[[Group], float | None]:
    return lambda group: group.counts.get(name)


OURS, TORCH = "torch_init", "torch"
_TARGETS: tuple[tuple[str, str, str, str, float, bool, Callable[[Group], float | None]], ...] = (
    ("memory", "float32", "", "float32 uniform, of fill's bandwidth", 0.9, False,
     _ratio("fill", TORCH, "uniform", OURS)),
    ("memory", "float32", "", "float32 normal, of fill's bandwidth", 0.9, False,
     _ratio("fill", TORCH, "normal", OURS)),
    ("memory", "float32", "", "float32 normal, times as fast as Tensor.normal_", 2.0, False,
     _ratio("normal", TORCH, "normal", OURS)),
    ("memory", "bfloat16", "", "bfloat16 normal, 10^9 elements/s (H200)", 1000.0, False,
     _rate("normal")),
    ("memory", "bfloat16", "", "bfloat16 normal, times as fast as Tensor.normal_", 2.0, False,
     _ratio("normal", TORCH, "normal", OURS)),
    ("memory", "float32", "", "float32 truncated, of normal's time", 1.03, True,
     _ratio("truncated", OURS, "normal", OURS)),
    ("memory", "float32", "", "float32 truncated, times as fast as torch's", 7.0, False,
     _ratio("truncated", TORCH, "truncated", OURS)),
    ("memory", "bfloat16", "", "bfloat16 truncated, of normal's time", 1.03, True,
     _ratio("truncated", OURS, "normal", OURS)),
    ("memory", "bfloat16", "", "bfloat16 truncated, times as fast as torch's", 7.0, False,
     _ratio("truncated", TORCH, "truncated", OURS)),
    ("llama", "", "", "Llama-7B, normal, ms (H200)", 7.0, True, _time("normal", 1e3)),
    ("llama", "", "", "Llama-7B, synchronisations", 0.0, True, _count("synchronisations")),
    ("llama", "", "", "Llama-7B, normal, times as fast as torch's loop", 2.0, False,
     _ratio("normal", TORCH, "normal", OURS)),
    ("small", "", "", "150 tensors, prepared plan, us", 15.0, True, _time("prepared plan", 1e6)),
    ("small", "", "", "150 tensors, unchecked, us", 15.0, True,
     _time("prepared plan, unchecked", 1e6)),
    ("small", "", "", "150 tensors, in a graph, us", 15.0, True,
     _time("prepared plan in a graph", 1e6)),
    ("small", "", "", "150 tensors, times as fast as torch's loop", 40.0, False,
     _ratio("loop of normal_", TORCH, "prepared plan", OURS)),
    ("moments", "float32", "", "float32 flow mode, of a read's bandwidth", 0.85, False,
     _ratio("read", TORCH, "flow", OURS)),
    ("moments", "bfloat16", "", "bfloat16 flow mode, of a read's bandwidth", 0.85, False,
     _ratio("read", TORCH, "flow", OURS)),
    ("gibbs", "", "100 chains", "100 chains, 784 x 500, us a sweep (H200)", 3.0, True,
     _time("sweep", 1e6)),
    ("gibbs", "", "100 chains", "100 chains, times as fast as eager float32 torch", 10.0, False,
     _ratio("sweep, float32", TORCH, "sweep", OURS)),
    ("gibbs", "", "100 chains", "100 chains, times as fast as float32 torch in a graph", 4.0, False,
     _ratio("sweep, float32, in a graph", TORCH, "sweep", OURS)),
    ("gibbs", "", "4096 chains, 784", "4096 chains, 784 x 500, us a sweep (H200)", 11.0, True,
     _time("sweep", 1e6)),
    ("gibbs", "", "4096 x 4096", "4096 x 4096, of the bfloat16 GEMMs' time alone", 1.05, True,
     _ratio("sweep", OURS, "GEMMs alone, bfloat16", TORCH)),
    ("gibbs", "", "4096 x 4096", "4096 x 4096, of one int8 limb's GEMMs' time alone", 1.05, True,
     _ratio("sweep", OURS, "GEMMs alone, int8, one limb", TORCH)),
    ("gibbs", "", "4096 x 4096", "4096 x 4096, of the exact int8 GEMMs' time alone", 1.05, True,
     _ratio("sweep", OURS, "GEMMs alone, int8, every limb", TORCH)),
    ("training", "", "", "CD-1 update, times as fast as eager torch", 1.0, False,
     _ratio("CD-1", TORCH, "CD-1", OURS)),
)  # fmt: skip
