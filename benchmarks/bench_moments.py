# SPDX-License-Identifier: Apache-2.0
"""Speed of reading tensors back (_ops.measure) against a plain read and against torch.

    python benchmarks/bench_moments.py --threads 1 --mib 256

The plain read is torch's sum of the same memory as float32. "torch" is x.abs().max(), x.mean() and
x.std(): fewer statistics, no fingerprint. All sides take turns; medians and their spread.
"""

import argparse

import torch
from _machine import describe
from _timing import HostClock, Side, measure

from torch_init import _ops

DTYPES = ["float32", "bfloat16", "float16", "float64"]


def sides(dtype: torch.dtype, mib: int) -> list[Side]:
    size = mib * 2**20
    x = torch.randn(size // dtype.itemsize, dtype=torch.float32).to(dtype)
    as_floats = x.view(torch.float32)
    everything = {"elements": x.numel(), "moved": size}
    found = [
        Side("plain read", "torch", lambda: as_floats.sum(), **everything),
        Side("abs().max(), mean(), std()", "torch", lambda: _three(x), **everything),
    ]
    for isa in _ops.cpu_isas():

        def fingerprint(isa: str = isa) -> None:
            _ops.set_cpu_isa(isa)
            _ops.measure([(x,)])

        found.append(Side("fingerprint", "torch_init", fingerprint, tier=isa, **everything))
    return found


def _three(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return x.abs().max(), x.mean(), x.std()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--mib", type=int, default=256, help="size of each tensor")
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=DTYPES)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    facts = describe(torch.device("cpu"))
    print(f"{facts['cpu']}, load {facts['load_average_1_min']}, torch {torch.__version__}")
    print(f"{args.mib} MiB, {args.threads} thread(s), median of {args.repeats}")
    best = _ops.cpu_isa()
    for name in args.dtype:
        results = measure(sides(getattr(torch, name), args.mib), HostClock(), args.repeats)
        plain = results[0].gb_per_s
        for result in results:
            side = result.side
            share = result.gb_per_s / plain
            print(
                f"{name:9} {side.implementation:10} {side.case:27} {side.tier:8}"
                f" {result.gb_per_s:6.1f} GB/s, {share:4.0%} of plain, spread {result.spread:.0%}",
                flush=True,
            )
        _ops.set_cpu_isa(best)


if __name__ == "__main__":
    main()
