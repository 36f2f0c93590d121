# SPDX-License-Identifier: Apache-2.0
"""The measuring loop of every benchmark: sides of one comparison, timed round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

SLOW_BUDGET = 20.0
"""Seconds of samples that one side may take; a slower side gets fewer samples, at least one."""


@dataclass(frozen=True)
class Side:
    """One of the things compared: who (implementation, tier) does what (case), and how.

    Args:
        call: does it once; on a GPU, on the current stream.
        elements, moved: tensor elements written and bytes read or written by one call.
        prepare: runs before each sample, untimed.
        calls: calls per sample; many for what takes microseconds.
        units: what one call does so many of, such as sweeps; shown is the time of one.
        optional: an error in the first call makes the side unavailable instead of ending the run.
    """

    case: str
    implementation: str
    call: Callable[[], Any]
    elements: int
    moved: int
    tier: str = ""
    prepare: Callable[[], Any] = lambda: None
    calls: int = 1
    optional: bool = False
    units: int = 1


@dataclass(frozen=True)
class Result:
    """Seconds per call of one side, sample by sample; none, and the reason, if unavailable."""

    side: Side
    samples: tuple[float, ...]
    unavailable: str = ""

    @property
    def median(self) -> float | None:
        return float(np.median(self.samples)) if self.samples else None

    @property
    def ns_per_element(self) -> float | None:
        return None if self.median is None else self.median / self.side.elements * 1e9

    @property
    def gb_per_s(self) -> float | None:
        return None if self.median is None else self.side.moved / self.median * 1e-9

    @property
    def spread(self) -> float | None:
        """Interquartile range over median, of two samples or more."""
        if self.median is None or len(self.samples) < 2:
            return None
        q1, q3 = np.percentile(self.samples, (25, 75))
        return float((q3 - q1) / self.median)

    def as_json(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "case": self.side.case,
            "implementation": self.side.implementation,
            "tier": self.side.tier or None,
            "elements": self.side.elements,
        }
        if not self.samples:
            return facts | {"unavailable": self.unavailable}
        return facts | {
            "calls_per_sample": self.side.calls,
            "units_per_call": self.side.units,
            "repeats": len(self.samples),
            "samples_s": list(self.samples),
            "median_s": self.median,
            "min_s": min(self.samples),
            "interquartile_range_over_median": self.spread,
            "ns_per_element": self.ns_per_element,
            "gb_per_s": self.gb_per_s,
        }


@dataclass(frozen=True)
class Group:
    """Results measured together, so that they may be compared."""

    kind: str
    title: str
    dtype: str
    threads: int | None
    results: Sequence[Result] = field(repr=False)
    counts: dict[str, int] = field(default_factory=dict)
    """What was counted, not timed, by name."""

    def heading(self, text: str) -> str:
        """Return text with the number of threads, if there is one."""
        if self.threads is None:
            return text
        return f"{text}, {self.threads} thread{'' if self.threads == 1 else 's'}"

    def find(self, case: str, implementation: str, tier: str = "") -> Result | None:
        for result in self.results:
            side = result.side
            if (side.case, side.implementation, side.tier) == (case, implementation, tier):
                return result
        return None

    def speedup(self, result: Result, over: str) -> float | None:
        """Return how many times faster result is than the implementation named, in its case."""
        return _quotient(self.find(result.side.case, over), result)

    def share_of_fill(self, result: Result) -> float | None:
        """Return result's bandwidth over that of Tensor.fill_ on the same tensor."""
        return _quotient(self.find("fill", "torch"), result)

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "title": self.title,
            "dtype": self.dtype,
            "threads": self.threads,
            "counts": self.counts,
            "results": [
                result.as_json()
                | {
                    "speedup_over_torch": self.speedup(result, "torch"),
                    "share_of_fill_bandwidth": self.share_of_fill(result),
                }
                for result in self.results
            ],
        }


def _quotient(slow: Result | None, fast: Result) -> float | None:
    if slow is None or slow.median is None or fast.median is None:
        return None
    return slow.median / fast.median


class Clock(Protocol):
    def sample(self, call: Callable[[], Any], calls: int) -> float:
        """Return the seconds that one of so many calls in a row takes."""


class HostClock:
    """Wall time of calls that return when their work is done."""

    def sample(self, call: Callable[[], Any], calls: int) -> float:
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        return (time.perf_counter_ns() - start) * 1e-9 / calls


class CpuClock:
    """The process's CPU time, which other programs on the machine disturb less than wall time."""

    def sample(self, call: Callable[[], Any], calls: int) -> float:
        start = time.process_time_ns()
        for _ in range(calls):
            call()
        return (time.process_time_ns() - start) * 1e-9 / calls


class CudaClock:
    """Time between two events on the current stream, starting with a cold L2 cache.

    The cache is flushed by reading, not writing: dirty lines would be written back at the expense
    of what is timed. Reading the buffer also keeps the GPU busy while the host enqueues the call,
    so that a single launch is timed without its latency.
    """

    _LEAST_FLUSH = 256 * 2**20  # bytes: some 0.1 ms of reading, longer than a call's host time

    def __init__(self, device: torch.device) -> None:
        l2 = torch.cuda.get_device_properties(device).L2_cache_size
        size = max(4 * l2, self._LEAST_FLUSH)
        self._flushed_by = torch.zeros(size // 4, dtype=torch.float32, device=device)
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    def sample(self, call: Callable[[], Any], calls: int) -> float:
        torch.cuda.synchronize(self._flushed_by.device)
        self._flushed_by.sum()
        self._start.record()
        for _ in range(calls):
            call()
        self._end.record()
        self._end.synchronize()
        return self._start.elapsed_time(self._end) * 1e-3 / calls


def captured(call: Callable[[], Any]) -> Callable[[], None]:
    """Return the replay of a CUDA graph of the call, captured when it is first replayed."""
    graphs: list[torch.cuda.CUDAGraph] = []

    def replay() -> None:
        if not graphs:
            graphs.append(_capture(call))
        graphs[0].replay()

    return replay


def _capture(call: Callable[[], Any]) -> torch.cuda.CUDAGraph:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


def measure(sides: Sequence[Side], clock: Clock, repeats: int) -> list[Result]:
    """Time the sides in rounds, each side once a round, so that drift meets all alike.

    One untimed sample of each side comes first; the order is reversed in every other round. A side
    whose first sample says that its samples would exceed SLOW_BUDGET sits rounds out.
    """
    samples: list[list[float]] = [[] for _ in sides]
    unavailable = [""] * len(sides)
    step = [1] * len(sides)
    for i, side in enumerate(sides):
        side.prepare()
        try:
            seconds = clock.sample(side.call, side.calls) * side.calls
        except RuntimeError as error:
            if not side.optional:
                raise
            unavailable[i] = str(error).split(". ")[0].splitlines()[0]
        else:
            affordable = max(1, int(SLOW_BUDGET / max(seconds, 1e-9)))
            step[i] = -(-repeats // affordable)
    present = [i for i in range(len(sides)) if not unavailable[i]]
    for round_ in range(repeats):
        for i in present if round_ % 2 == 0 else reversed(present):
            if round_ % step[i] == 0:
                sides[i].prepare()
                samples[i].append(clock.sample(sides[i].call, sides[i].calls))
    return [
        Result(side, tuple(times), reason)
        for side, times, reason in zip(sides, samples, unavailable, strict=True)
    ]
