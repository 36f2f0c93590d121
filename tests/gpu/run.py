# SPDX-License-Identifier: Apache-2.0
"""Prove torch_init on a machine with a GPU: build, parity, sanitizer, benchmarks. No network.

    python tests/gpu/run.py                # everything; half an hour, at most two
    python tests/gpu/run.py --only build,cuda-parity
    python tests/gpu/run.py --rehearse     # no GPU: the kernel's body, run by the host, stands in

Needs Python >= 3.10 with torch, numpy, scipy, mpmath, pytest and pybind11, CMake, a C++ compiler
and nvcc. Every part is a process of its own with a time limit, and runs whatever became of the one
before. Prints a table last; writes report.json, the benchmarks' results and a log of each part to
--output. The exit status is 1 if a part that proves correctness failed or did not run.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _gpu_build
import _gpu_machine as machine
from _gpu_figures import (
    Figures,
    benchmark_figures,
    pytest_figures,
    sanitizer_figures,
    target_figures,
    tier_figures,
)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclass
class Part:
    """One row of the table.

    Args:
        limit: seconds after which the part is ended.
        proves: whether the run fails if this part does.
        figures: reads key figures from the log; may raise, which fails the part.
        skip: why the part cannot run here, if it cannot.
        environment: added to that of this process.
    """

    name: str
    command: Sequence[str | Path]
    limit: int
    proves: bool = True
    figures: Callable[[str], Figures] = lambda log: {}
    skip: str = ""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """status: ok, failed, timeout, skipped, or unavailable (the tool does not work here)."""

    part: Part
    status: str
    seconds: float
    figures: Figures
    reason: str = ""

    @property
    def failed(self) -> bool:
        return self.part.proves and self.status != "ok"

    def as_json(self) -> dict[str, Any]:
        return {
            "part": self.part.name,
            "status": self.status,
            "seconds": round(self.seconds, 1),
            "proves_correctness": self.part.proves,
            "figures": self.figures,
            "reason": self.reason,
            "command": shlex.join(map(str, self.part.command)),
        }


def execute(part: Part, logs: Path) -> Outcome:
    """Run one part, its output to a log, and judge it."""
    if part.skip:
        return Outcome(part, "skipped", 0.0, {}, part.skip)
    path = logs / f"{part.name}.log"
    start = time.monotonic()
    status = _run_bounded(part, path)
    seconds = time.monotonic() - start
    log = path.read_text(encoding="utf-8", errors="replace")
    if status is None:
        return Outcome(part, "timeout", seconds, {}, f"ended after {part.limit} s")
    if unavailable := machine.tool_trouble(log) if "sanitizer" in part.name else "":
        return Outcome(part, "unavailable", seconds, {}, unavailable)
    try:
        figures = part.figures(log)
    except (OSError, ValueError, KeyError, LookupError) as error:
        return Outcome(part, "failed", seconds, {}, f"{_last_line(log)} ({error!r})")
    if status != 0:
        return Outcome(part, "failed", seconds, figures, f"exit status {status}: {_last_line(log)}")
    return Outcome(part, "ok", seconds, figures)


def _run_bounded(part: Part, log: Path) -> int | None:
    """Return the exit status, or None if the part had to be ended."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(word) for word in part.command],
            cwd=ROOT,
            env=os.environ | part.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(timeout=part.limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Its children too, which may hold the GPU.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _last_line(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1].strip()[:160] if lines else "no output"


def parts(args: argparse.Namespace, output: Path) -> list[Part]:
    """Every part, in the order in which they run."""
    python = sys.executable
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}
    if not args.installed:
        environment["PYTHONPATH"] = _gpu_build.python_path(output / "site")
    cuda = "TORCH_INIT_CUDA_STAND_IN" if args.rehearse else "TORCH_INIT_REQUIRE_CUDA"

    def tests(name: str, *paths: str, limit: int, **added: str) -> Part:
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
        return Part(name, command, limit, figures=pytest_figures, environment=environment | added)

    def sanitizer(tool: str) -> Part:
        subject = [python, HERE / "sanitized.py"]
        found = machine.find_tool("compute-sanitizer")
        skip = "rehearsal" if args.rehearse else "" if found else "compute-sanitizer: not found"
        # Without its own cache, torch's allocations have the bounds that the tool checks.
        added = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        command = [found or "compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *subject]
        return Part(
            f"sanitizer-{tool}",
            command,
            600,
            proves=False,
            figures=sanitizer_figures,
            skip=skip,
            environment=environment | added,
        )

    def benchmark(device: str, *options: str) -> Part:
        command = [python, "benchmarks/bench_init.py", "--device", device, *options]
        result = output / f"bench_init_{device}.json"
        return Part(
            f"benchmark-{device}",
            [*command, *(["--quick"] if args.rehearse else []), "--output", output],
            900,
            proves=False,
            figures=benchmark_figures(result),
            skip="rehearsal" if args.rehearse and device == "cuda" else "",
            environment=environment,
        )

    def whole_benchmark(part: str) -> Part:
        device = "cpu" if args.rehearse else "cuda"
        folder = output / part
        command = [python, "benchmarks/bench_gpu.py", "--device", device, "--parts", part]
        return Part(
            f"benchmark-{part}",
            [*command, *(["--quick"] if args.rehearse else []), "--output", folder],
            300,
            proves=False,
            figures=target_figures(folder / f"bench_gpu_{device}.json"),
            environment=environment | ({"OMP_NUM_THREADS": "1"} if args.rehearse else {}),
        )

    def only_on_a_gpu(part: Part, reason: str) -> Part:
        if args.rehearse:
            part.skip, part.proves = f"rehearsal: {reason}", False
        return part

    building = [
        python,
        HERE / "_gpu_build.py",
        "--output",
        output,
        *(["--rehearse"] * args.rehearse),
    ]
    skip = "--installed: the installed torch_init is used" if args.installed else ""
    elements = ["--elements", "200003"] if args.rehearse else []
    tiers = [python, HERE / "compare_tiers.py", *elements, "--require", machine.expected_tiers()]
    # Its failures could leave the process without a usable GPU: a process of its own.
    launch = tests("cuda-launch", "tests/cuda/test_launch_cuda.py", limit=300, **{cuda: "1"})
    flow = tests("cuda-flow", "tests/flow/test_cuda_flow.py", limit=300, **{cuda: "1"})
    chains = tests("cuda-gibbs", "tests/cuda/test_gibbs_cuda.py", limit=600, **{cuda: "1"})
    training = tests("cuda-training", "tests/cuda/test_training_cuda.py", limit=300, **{cuda: "1"})
    if args.rehearse:  # the kernels' bodies, run by the host
        chains = tests("cuda-gibbs", "tests/gibbs/test_cuda_body.py", limit=600)
    threads = ",".join(str(n) for n in sorted({1, 2, machine.cpus()}))
    return [
        Part("build", building, 1200, not skip, _gpu_build.figures(output), skip, environment),
        tests("known-answers", "tests/random", "tests/fill/test_golden.py", limit=300),
        Part("cpu-tiers", tiers, 300, figures=tier_figures, environment=environment),
        tests("cpu-fill", "tests/fill", "tests/distributions", "tests/orthogonal", limit=900),
        tests(
            "cuda-parity",
            *("tests/cuda/test_fill_cuda.py", "tests/cuda/test_functions_cuda.py"),
            "tests/cuda/test_models_cuda.py",
            limit=600,
            **{cuda: "1"},
        ),
        tests("cuda-moments", "tests/cuda/test_moments_cuda.py", limit=300, **{cuda: "1"}),
        chains,
        training,
        only_on_a_gpu(flow, "no activations on a GPU to watch"),
        only_on_a_gpu(launch, "no streams, graphs or second device"),
        sanitizer("memcheck"),
        sanitizer("racecheck"),
        *map(whole_benchmark, ("memory", "llama", "small", "moments", "gibbs")),
        benchmark("cuda"),
        benchmark("cpu", "--dtypes", "float32,bfloat16", "--threads", threads),
    ]


def table(outcomes: Sequence[Outcome]) -> str:
    rows = [("part", "status", "seconds", "figures")]
    for outcome in outcomes:
        shown = [
            f"{name} {value}" if name != "summary" else value
            for name, value in outcome.figures.items()
        ]
        words = [outcome.reason] if outcome.reason else []
        lines = [*words, *shown] if len(shown) > 4 else ["; ".join([*words, *map(str, shown)])]
        rows.append((outcome.part.name, outcome.status, f"{outcome.seconds:.0f}", lines[0]))
        rows += [("", "", "", line) for line in lines[1:]]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows
    )


def report(
    outcomes: Sequence[Outcome], args: argparse.Namespace, facts: dict[str, Any]
) -> dict[str, Any]:
    return {
        "report": "torch_init on a GPU" if not args.rehearse else "rehearsal without a GPU",
        "rehearsal": args.rehearse,
        "passed": not any(outcome.failed for outcome in outcomes),
        **facts,
        "parts": [outcome.as_json() for outcome in outcomes],
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rehearse", action="store_true", help="without a GPU, with a stand-in; quick benchmarks")
    add("--installed", action="store_true", help="do not build: use the torch_init of this Python")
    add("--only", default="", help="parts, comma-separated (build is not implied)")
    add("--output", type=Path, default=Path("results/gpu"), help="folder (default: %(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    output = args.output.resolve()
    (output / "logs").mkdir(parents=True, exist_ok=True)
    chosen = parts(args, output)
    if args.only:
        names = args.only.split(",")
        if unknown := set(names) - {part.name for part in chosen}:
            known = ", ".join(part.name for part in chosen)
            sys.exit(f"--only: unknown {', '.join(sorted(unknown))}; known: {known}")
        chosen = [part for part in chosen if part.name in names]
    facts = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "before": machine.describe()}
    outcomes = []
    for part in chosen:
        print(f"{part.name} ...", flush=True)
        outcomes.append(execute(part, output / "logs"))
        print(f"{part.name}: {outcomes[-1].status}, {outcomes[-1].seconds:.0f} s", flush=True)
    facts |= {"versions": machine.versions(parts(args, output)[1].environment)}
    facts |= {"after": machine.gpu_state()}
    result = report(outcomes, args, facts)
    path = output / "report.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{machine.in_a_line(facts['before'])}\n\n{table(outcomes)}\n")
    if args.rehearse:
        print("A rehearsal: nothing here was measured or proven on a GPU.")
    print(f"{'passed' if result['passed'] else 'FAILED'}; wrote {path}, logs beside it")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
