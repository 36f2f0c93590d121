# SPDX-License-Identifier: Apache-2.0
"""The speeds that torch_init aims at, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from _timing import Group, Result

STATED_FOR = {"cpu": "64 Mi elements, avx512", "cuda": "2^28 elements or more, one Hopper GPU"}


@dataclass(frozen=True)
class Target:
    """The case's figure is to be at least or at most the bound.

    Args:
        figure: "times torch": the speed over torch's counterpart; "times torch.func._random";
            "of fill": the share of Tensor.fill_'s bandwidth; "times normal" and "times avx512":
            the time over that of another case or tier.
    """

    threads: int | None
    dtype: str
    case: str
    figure: str
    bound: float
    at_most: bool = False


CPU = (
    Target(1, "float32", "normal", "times torch", 4.5),
    Target(1, "float32", "uniform", "times torch", 5.5),
    Target(1, "float32", "truncated", "times torch", 60),
    Target(1, "float32", "truncated", "times normal", 1.05, at_most=True),
    Target(1, "bfloat16", "normal", "times torch", 5.5),
    Target(2, "float32", "normal", "times torch", 8),
    Target(2, "float32", "uniform", "times torch", 10),
    Target(2, "float32", "truncated", "times torch", 110),
    Target(2, "bfloat16", "normal", "times torch", 10),
    Target(2, "float32", "uniform", "of fill", 0.60),
    Target(1, "float32", "normal", "times avx512", 1.7, at_most=True),
)
CUDA = (
    Target(None, "float32", "uniform", "of fill", 0.92),
    Target(None, "float32", "normal", "of fill", 0.92),
    Target(None, "float32", "normal", "times torch", 2.0),
    Target(None, "float32", "normal", "times torch.func._random", 1.4),
    Target(None, "bfloat16", "normal", "times torch", 2.0),
    Target(None, "bfloat16", "normal", "times torch.func._random", 1.5),
    Target(None, "float32", "truncated", "times normal", 1.03, at_most=True),
    Target(None, "float32", "truncated", "times torch", 25),
)


@dataclass(frozen=True)
class Verdict:
    """A target with what was measured; None where the run did not measure it."""

    statement: str
    measured: float | None
    reached: bool | None

    def as_json(self) -> dict[str, Any]:
        return {"target": self.statement, "measured": self.measured, "reached": self.reached}


def judge(groups: Sequence[Group], tier: str) -> list[Verdict]:
    """Return a verdict on every target for the tier; none for one that has no targets."""
    if tier not in ("avx2", "avx512", "cuda"):
        return []
    targets = CUDA if tier == "cuda" else CPU
    if tier == "avx512":
        verdicts = [_judge(groups, t, _other_tier(t)) for t in targets]
    else:
        verdicts = [_judge(groups, t, tier) for t in targets if t.figure != "times avx512"]
    calls = [group for group in groups if group.kind == "call"]
    return verdicts + [v for group in calls for v in _judge_calls(group, tier)]


def _other_tier(target: Target) -> str:
    return "avx2" if target.figure == "times avx512" else "avx512"


def _judge(groups: Sequence[Group], target: Target, tier: str) -> Verdict:
    measured = None
    for group in groups:
        here = (group.kind, group.dtype, group.threads)
        if here == ("throughput", target.dtype, target.threads):
            result = group.find(target.case, "torch_init", tier)
            measured = None if result is None else _figure(group, result, target.figure)
    threads = {None: "", 1: ", 1 thread"}.get(target.threads, f", {target.threads} threads")
    sign = "<=" if target.at_most else ">="
    bound = f"{target.bound:.0%} " if target.figure == "of fill" else f"{target.bound:g} "
    statement = f"{target.dtype} {target.case}{threads}: {sign} {bound}{target.figure}"
    if measured is None:
        return Verdict(statement, None, None)
    reached = measured <= target.bound if target.at_most else measured >= target.bound
    return Verdict(statement, measured, reached)


def _figure(group: Group, result: Result, figure: str) -> float | None:
    if figure == "of fill":
        return group.share_of_fill(result)
    if figure == "times normal":
        return _time_over(result, group.find("normal", "torch_init", result.side.tier))
    if figure == "times avx512":
        return _time_over(result, group.find(result.side.case, "torch_init", "avx512"))
    return group.speedup(result, figure.removeprefix("times "))


def _time_over(result: Result, other: Result | None) -> float | None:
    if result.median is None or other is None or other.median is None:
        return None
    return result.median / other.median


def _judge_calls(group: Group, tier: str) -> list[Verdict]:
    verdicts = []
    for result in group.results:
        if result.side.implementation != "torch_init":
            continue
        theirs = group.find(result.side.case, "torch")
        measured = _time_over(result, theirs)
        statement = f"call of {result.side.case} on 64 x 64: <= 1 times torch's time"
        reached = None if measured is None else measured <= 1
        verdicts.append(Verdict(statement, measured, reached))
    return verdicts
