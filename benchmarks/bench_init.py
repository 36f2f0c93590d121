# SPDX-License-Identifier: Apache-2.0
"""Speed of the initialisers, against torch's and against a plain fill, in one run.

    python benchmarks/bench_init.py                   # 64 Mi elements, 1 and 2 threads, every tier
    python benchmarks/bench_init.py --quick           # does it run? figures mean little
    python benchmarks/bench_init.py --device cuda     # events, cold L2, 256 Mi elements

Prints tables and what was aimed at, and writes bench_init_DEVICE.json and .png to --output.
Everything in one table is timed in interleaved rounds by one clock (_timing.py).
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import _init_cases as cases
import _init_report as report
import _init_targets as targets
import _machine
import torch
from _timing import SLOW_BUDGET, CudaClock, Group, HostClock

from torch_init import _ops

ELEMENTS = {"cpu": 2**26, "cuda": 2**28}
QUICK_ELEMENTS = 2**18
ORTHOGONAL = "orthogonal"
ORTHOGONAL_SHAPES = ((1024, 1024), (4096, 1024))
QUICK_ORTHOGONAL_SHAPES = ((128, 128), (256, 64))
GPT2_WIDTHS = (128, 768)
QUICK_GPT2_WIDTHS = (16,)
BUSY = 0.5
"""Load average above which the terminal says that others were using the machine."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    args = _parse(arguments)
    facts: dict[str, Any] = {
        "benchmark": "bench_init",
        "command": shlex.join(["python", "benchmarks/bench_init.py", *arguments]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "quick": args.quick,
        "machine": _machine.describe(torch.device(args.device)),
        "versions": _machine.versions(),
        "method": {
            "repeats": args.repeats,
            "order": "rounds of all sides of a group, reversed in every other round",
            "slow_sides": f"those whose samples would take more than {SLOW_BUDGET:g} s have fewer",
            "counterparts": cases.COUNTERPARTS,
        },
    }
    machine = _in_a_line(facts["machine"])
    print(machine)
    load = facts["machine"]["load_average_1_min"]
    if load is not None and load > BUSY:
        print("Other programs are running: figures are noisy, multi-threaded ones most.")

    stem = args.output / f"bench_init_{args.device}"
    tier, stated_for = args.tiers[-1], targets.STATED_FOR[args.device]
    groups: list[Group] = []
    for group in _groups(args):
        report.print_group(group)
        groups.append(group)
        facts["machine"]["load_average_1_min_at_end"] = _machine.load_average()
        facts["groups"] = [group.as_json() for group in groups]
        verdicts = targets.judge(groups, tier)
        judged = [verdict.as_json() for verdict in verdicts]
        facts["targets"] = {"tier": tier, "stated_for": stated_for, "verdicts": judged}
        # After each group: a run that is ended keeps what it has measured.
        text = json.dumps(facts, indent=1, allow_nan=False) + "\n"
        stem.with_suffix(".json").write_text(text, encoding="utf-8")
    report.print_notes(args.quick)
    print(f"This run: {args.elements:,} elements. Targets are stated for {stated_for}.")
    report.print_verdicts(targets.judge(groups, tier), tier)
    print(f"Wrote {stem.with_suffix('.json')}")
    if report.plot(groups, stem.with_suffix(".png"), machine):
        print(f"Wrote {stem.with_suffix('.png')}")
    else:
        print("No plot: needs matplotlib and a distribution other than orthogonal")
    return 0


def _in_a_line(machine: dict[str, Any]) -> str:
    words = [f"{machine['cpu']}, {machine['cpus_usable']} CPUs"]
    words += [machine["gpu"]["name"]] if machine["gpu"] else []
    return "; ".join([*words, f"load average {machine['load_average_1_min']}"])


def _groups(args: argparse.Namespace) -> Iterator[Group]:
    device = torch.device(args.device)
    clock = CudaClock(device) if device.type == "cuda" else HostClock()
    bench = cases.Bench(device, clock, args.tiers, args.repeats, calls=20 if args.quick else 200)
    fills = [name for name in args.distributions if name != ORTHOGONAL]
    for threads in args.threads:
        if threads is not None:
            torch.set_num_threads(threads)
        for dtype in args.dtypes if fills else ():
            yield cases.throughput(bench, dtype, args.elements, threads, fills)
        if ORTHOGONAL in args.distributions:
            shapes = QUICK_ORTHOGONAL_SHAPES if args.quick else ORTHOGONAL_SHAPES
            yield cases.orthogonal(bench, threads, shapes)
        if "normal" in fills:
            widths = QUICK_GPT2_WIDTHS if args.quick else GPT2_WIDTHS
            for dtype in [name for name in ("float32", "bfloat16") if name in args.dtypes]:
                yield cases.many_tensors(bench, dtype, threads, widths)
    # Neither a small tensor nor a table is worth a second thread.
    if args.threads[0] is not None:
        torch.set_num_threads(args.threads[0])
    if fills:
        yield cases.call_overhead(bench, args.threads[0], fills)
    if "truncated" in fills:
        yield cases.table_fit(bench, "float32", args.threads[0])
        yield cases.table_fit(bench, "float64", args.threads[0])


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*cases.CASES, ORTHOGONAL]
    tiers = _ops.cpu_isas()
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--elements", type=int, help="per tensor, a multiple of 1024 (default: 2**26, GPU 2**28)")
    add("--threads", type=_list, help="numbers of threads, comma-separated (default: 1,2)")
    add("--dtypes", type=_list, default=list(cases.DTYPES), help=f"of {','.join(cases.DTYPES)}")
    add("--distributions", type=_list, default=known, help=f"of {','.join(known)}")
    add("--tiers", type=_list, help=f"CPU instruction sets, of {','.join(tiers)} (default: all)")
    add("--repeats", type=int, help="rounds (default: 7, with --quick 3)")
    add("--output", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    add("--quick", action="store_true", help="small sizes and few repeats")
    args = parser.parse_args(argv)

    _check_known(parser, "--dtypes", args.dtypes, list(cases.DTYPES))
    _check_known(parser, "--distributions", args.distributions, known)
    if args.elements is None:
        args.elements = QUICK_ELEMENTS if args.quick else ELEMENTS[args.device]
    if args.elements < cases.COLUMNS or args.elements % cases.COLUMNS:
        parser.error(f"--elements: expected a positive multiple of {cases.COLUMNS}")
    args.repeats = (3 if args.quick else 7) if args.repeats is None else args.repeats
    if args.repeats < 1:
        parser.error("--repeats: expected at least 1")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output: {error}")
    if args.device == "cuda":
        _check_cuda(parser, args)
        args.threads, args.tiers = [None], ["cuda"]
        return args
    args.threads = ["1", "2"] if args.threads is None else args.threads
    if not all(n.isdigit() and int(n) > 0 for n in args.threads):
        parser.error(f"--threads: expected positive integers, got {','.join(args.threads)}")
    args.threads = [int(n) for n in args.threads]
    _check_known(parser, "--tiers", args.tiers or tiers, tiers)
    args.tiers = [name for name in tiers if name in (args.tiers or tiers)]
    return args


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


def _check_known(
    parser: argparse.ArgumentParser, option: str, names: list[str], known: list[str]
) -> None:
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{option}: unknown {', '.join(unknown)}; known here: {', '.join(known)}")


def _check_cuda(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.threads or args.tiers:
        parser.error("--threads and --tiers are for --device cpu")
    if not torch.cuda.is_available():
        parser.error("--device cuda: this torch sees no GPU")
    if _ops.cuda_device_count() == 0:
        parser.error("--device cuda: torch_init was built without CUDA kernels, or sees no GPU")


if __name__ == "__main__":
    sys.exit(main())
