# SPDX-License-Identifier: Apache-2.0
"""Speed of reading tensors: the read-back and flow mode, against a plain read and against torch.

    python benchmarks/bench_moments.py --threads 1 --mib 256

The plain read is torch's sum of the same memory as float32. "torch" is x.abs().max(), x.mean() and
x.std(), fewer statistics than any of ours. All sides take turns; medians and their spread, of wall
time, or, with one thread, of CPU time, which a busy machine disturbs less.
"""

import argparse
import math
from collections.abc import Callable

import torch
from _machine import describe, load_average
from _timing import CpuClock, HostClock, Side, measure

from torch_init import _ops

DTYPES = ["float32", "bfloat16", "float16", "float64"]
FEATURES = 1024


def sides(x: torch.Tensor) -> list[Side]:
    as_floats = x.view(torch.float32)
    size = {"elements": x.numel(), "moved": x.nbytes}
    calls = max(1, 2**20 // x.nbytes)
    found = [
        Side("plain read", "torch", lambda: as_floats.sum(), **size, calls=calls),
        Side("abs().max(), mean(), std()", "torch", lambda: _three(x), **size, calls=calls),
    ]
    for isa in _ops.cpu_isas():
        for case, call in ours(x).items():

            def on_tier(call: Callable[[], None] = call, isa: str = isa) -> None:
                _ops.set_cpu_isa(isa)
                call()

            found.append(Side(case, "torch_init", on_tier, **size, tier=isa, calls=calls))
    return found


def _three(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return x.abs().max(), x.mean(), x.std()


def ours(x: torch.Tensor) -> dict[str, Callable[[], None]]:
    totals = torch.zeros(1, 12, dtype=torch.float64)
    with_bins = torch.zeros(1, 76, dtype=torch.float64)
    features = torch.zeros(3, FEATURES, dtype=torch.float64)

    def flow(table: torch.Tensor, features: torch.Tensor | None, bound: float) -> None:
        _ops.accumulate_moments_(x, table, features, 0, -bound, bound, 1)

    return {
        "read-back": lambda: void(_ops.measure([(x,)])),
        "flow": lambda: flow(totals, None, math.inf),
        "flow, saturated": lambda: flow(totals, None, 1.0),
        "flow, histogram": lambda: flow(with_bins, None, math.inf),
        "flow, features": lambda: flow(totals, features, math.inf),
        "flow, everything": lambda: flow(with_bins, features, 1.0),
    }


def void(_: object) -> None:
    return None


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--mib", type=int, default=256, help="size of each tensor")
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=DTYPES)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    clock = CpuClock() if args.threads == 1 else HostClock()
    facts = describe(torch.device("cpu"))
    print(f"{facts['cpu']}, load {facts['load_average_1_min']}, torch {torch.__version__}")
    print(f"{args.mib} MiB, {args.threads} thread(s), median of {args.repeats}")
    best = _ops.cpu_isa()
    for name in args.dtype:
        dtype = getattr(torch, name)
        rows = args.mib * 2**20 // (FEATURES * dtype.itemsize)
        x = torch.randn(rows, FEATURES, generator=torch.Generator().manual_seed(0)).to(dtype)
        results = measure(sides(x), clock, args.repeats)
        plain, three = results[0].median or math.nan, results[1].median or math.nan
        for result in results:
            side, median = result.side, result.median or math.nan
            print(
                f"{name:9} {side.implementation:10} {side.case:27} {side.tier:8}"
                f" {result.gb_per_s:6.1f} GB/s, {plain / median:4.0%} of plain,"
                f" {three / median:5.1f} x torch, spread {result.spread:.0%}",
                flush=True,
            )
        _ops.set_cpu_isa(best)
    print(f"load at the end {load_average()}")


if __name__ == "__main__":
    main()
