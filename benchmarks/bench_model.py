# SPDX-License-Identifier: Apache-2.0
"""Whole models: meta to memory, planning, many small tensors; against loops of torch.nn.init.

    python benchmarks/bench_model.py                        # all three; some 10 minutes
    python benchmarks/bench_model.py --parts plan,small
    python benchmarks/bench_model.py --quick                # does it run? figures mean little

materialize  A Llama-shaped model of 1.1 billion parameters, meta to bfloat16 in memory. Each sample
             is a fresh process, which the kernel hands fresh pages, the contenders taking turns.
             Peak is the most memory the process held beyond what it held before, over the model's
             bytes. torch's sides are to_empty and a loop over all parameters.
plan         Seconds and memory of the plan of a Llama-70B on the meta device.
small        500 tensors of 1 to 64 Ki elements: one init_, and a prepared plan run again, against
             a loop of torch.nn.init calls, in one process, rounds taking turns.

Prints tables of medians and writes bench_model.json to --output.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import _machine
import numpy as np
import torch
from _llama import SIZES, llama_on_meta
from torch import nn

import torch_init
from torch_init import rule

CUT = {"std": 0.02, "a": -0.04, "b": 0.04}
TORCH_LOOPS: dict[str, Callable[[torch.Tensor], Any]] = {
    "to_empty + normal_": partial(nn.init.normal_, std=0.02),
    "to_empty + trunc_normal_": partial(nn.init.trunc_normal_, **CUT),
}
OURS = {
    "materialize_, normal": rule("*", torch_init.normal_, std=0.02),
    "materialize_, truncated": rule("*", torch_init.trunc_normal_, **CUT),
}
SMALL: dict[str, dict[str, Any]] = {
    "normal_": {"std": 0.02},
    "xavier_uniform_": {},
    "kaiming_uniform_": {"a": 5**0.5},
    "trunc_normal_": CUT,
}


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    if args.sample:
        print(json.dumps(sample_materialize(args.sample, args.size, args.threads)))
        return 0
    torch.set_num_threads(args.threads)
    facts: dict[str, Any] = {
        "machine": _machine.describe(torch.device("cpu")),
        "versions": _machine.versions(),
        "threads": args.threads,
        "repeats": args.repeats,
    }
    load = facts["machine"]["load_average_1_min"]
    print(f"{facts['machine']['cpu']}, {args.threads} threads, load average {load}")
    parts = {"materialize": materialize, "plan": plan, "small": small}
    for part in args.parts:
        facts[part] = parts[part](args)
    facts["machine"]["load_average_1_min_at_end"] = _machine.load_average()
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / "bench_model.json"
    path.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    print(f"\nwrote {path}")
    return 0


def materialize(args: argparse.Namespace) -> dict[str, Any]:
    """Time contenders in processes of their own, in turns."""
    names = [*OURS, *TORCH_LOOPS]
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for round_ in range(args.repeats):
        for name in names if round_ % 2 == 0 else reversed(names):
            slow = "trunc_normal_" in name  # a minute each
            if not (slow and round_ >= 2):
                samples[name].append(_run_sample(name, args))
    seconds = {name: statistics.median(s["seconds"] for s in samples[name]) for name in names}
    peak = {name: statistics.median(s["peak"] for s in samples[name]) for name in names}
    print(f"\nmeta to bfloat16, {args.size}, medians of up to {args.repeats}")
    print(f"{'':28} {'seconds':>9} {'peak':>7}   times as fast as normal_, trunc_normal_")
    for name in names:
        ratios = [seconds[other] / seconds[name] for other in TORCH_LOOPS]
        print(
            f"{name:28} {seconds[name]:9.2f} {peak[name]:7.3f}  "
            + " ".join(f"{ratio:10.1f}" for ratio in ratios)
        )
    return samples


def _run_sample(name: str, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--sample", name, "--size", args.size]
    command += ["--threads", str(args.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    sample: dict[str, float] = json.loads(done.stdout)
    return sample


def sample_materialize(name: str, size: str, threads: int) -> dict[str, float]:
    """Materialise the model once, in this process."""
    torch.set_num_threads(threads)
    warm = nn.Linear(64, 64, bias=False, device="meta")
    model = llama_on_meta(SIZES[size])
    size_in_bytes = 2 * sum(parameter.numel() for parameter in model.parameters())
    _materialize(name, warm)
    before = _peak(reset=True)
    start = time.perf_counter()
    _materialize(name, model)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": (_peak() - before) / size_in_bytes}


def _materialize(name: str, model: nn.Module) -> None:
    if name in OURS:
        torch_init.materialize_(model, OURS[name], dtype=torch.bfloat16)
        return
    model.to(torch.bfloat16).to_empty(device="cpu")
    for parameter in model.parameters():
        TORCH_LOOPS[name](parameter)


def _peak(reset: bool = False) -> int:
    """Return the most bytes that the process has held, from now on if reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak becomes what is held now
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def plan(args: argparse.Namespace) -> dict[str, float]:
    """Time the plan of a large model on the meta device."""
    model = llama_on_meta(SIZES["tiny" if args.quick else "70B"])
    torch_init.plan(llama_on_meta(SIZES["tiny"]), "llama")
    before = _peak(reset=True)
    seconds = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        made = torch_init.plan(model, "llama")
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    text = made.to_text(fold=False)
    printing = time.perf_counter() - start
    megabytes = (_peak() - before) * 1e-6
    elements = sum(parameter.numel() for parameter in model.parameters())
    print(f"\nplan of {len(made)} parameters, {elements * 1e-9:.1f} billion elements, on meta")
    print(f"  {statistics.median(seconds) * 1e3:.1f} ms, and {printing * 1e3:.1f} ms to print")
    print(
        f"  {len(text.splitlines())} lines; {megabytes:.1f} MB more at most, {args.repeats} plans"
    )
    return {"seconds": statistics.median(seconds), "megabytes": megabytes}


def small(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Time 500 small tensors: a loop of calls, one init_, a prepared plan."""
    count = 20 if args.quick else 500
    sizes = 2 ** np.random.default_rng(0).uniform(10, 16, count)
    shapes = [(int(size**0.5), int(size**0.5)) for size in sizes]
    tensors = [nn.Parameter(torch.empty(shape)) for shape in shapes]
    model = nn.ParameterList(tensors)
    elements = sum(tensor.numel() for tensor in tensors)
    print(f"\n{count} tensors of 1 to 64 Ki elements, {elements:,} in all; milliseconds")
    print(f"{'':18} {'torch loop':>11} {'init_':>8} {'prepared':>9}   times as fast")
    found = {}
    for name, arguments in SMALL.items():
        rules = rule("*", getattr(torch_init, name), **arguments)
        prepared = torch_init.prepare(torch_init.plan(model, rules))
        loop = partial(_loop, partial(getattr(nn.init, name), **arguments), tensors)
        sides = [loop, partial(torch_init.init_, model, rules), prepared.run]
        times = [statistics.median(side) * 1e3 for side in _rounds(sides, args.repeats)]
        found[name] = dict(zip(("torch", "init_", "prepared"), times, strict=True))
    found["all four"] = {
        side: sum(of_one[side] for of_one in found.values())
        for side in ("torch", "init_", "prepared")
    }
    for name, times in found.items():
        ratios = [times["torch"] / times[side] for side in ("init_", "prepared")]
        print(
            f"{name:18} {times['torch']:11.2f} {times['init_']:8.2f} {times['prepared']:9.2f}"
            f"   {ratios[0]:6.1f} {ratios[1]:6.1f}"
        )
    return found


def _loop(call: Callable[[torch.Tensor], Any], tensors: Sequence[torch.Tensor]) -> None:
    for tensor in tensors:
        call(tensor)


def _rounds(sides: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    samples: list[list[float]] = [[] for _ in sides]
    for round_ in range(repeats + 1):
        for side, times in zip(sides, samples, strict=True):
            start = time.perf_counter()
            side()
            if round_ > 0:
                times.append(time.perf_counter() - start)
    return samples


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", default="materialize,plan,small", help="default: %(default)s")
    parser.add_argument("--size", choices=list(SIZES), default="1B", help="of materialize")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--sample", choices=[*OURS, *TORCH_LOOPS], help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.parts = args.parts.split(",")
    unknown = set(args.parts) - {"materialize", "plan", "small"}
    if unknown:
        parser.error(f"--parts: unknown {', '.join(sorted(unknown))}")
    if args.quick:
        args.size, args.repeats = "tiny", 2
    return args


if __name__ == "__main__":
    sys.exit(main())
