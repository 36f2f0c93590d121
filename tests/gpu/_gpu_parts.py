# SPDX-License-Identifier: Apache-2.0
"""What run.py runs: every part, in order, with its time limit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass
class Part:
    """One row of the table.

    Args:
        limit: seconds after which the part is ended.
        proves: whether the run fails if this part does.
        figures: reads key figures from the log; may raise, which fails the part.
        skip: why the part cannot run here, if it cannot.
        environment: added to that of this process.
        needs: what must be there: another torch_init, installed here, must not be tested instead.
    """

    name: str
    command: Sequence[str | Path]
    limit: int
    proves: bool = True
    figures: Callable[[str], Figures] = lambda log: {}
    skip: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    needs: Path | None = None


ON_A_GPU = ("memory", "llama", "small", "launch", "moments", "gibbs", "training")
"""Parts of benchmarks/bench_gpu.py: a process each."""


def parts(args: argparse.Namespace, output: Path) -> list[Part]:
    """Every part, in the order in which they run: what proves most first, the CPU's own last."""
    of = _Parts(args, output)
    elements = ["--elements", "200003"] if args.rehearse else []
    tiers = [sys.executable, HERE / "compare_tiers.py", *elements]
    tiers += ["--require", machine.expected_tiers()]
    if args.rehearse:  # the kernels' bodies, run by the host
        chains = of.tests("cuda-gibbs", "tests/gibbs/test_cuda_body.py", limit=600)
    else:
        chains = of.on_cuda("cuda-gibbs", "tests/cuda/test_gibbs_cuda.py", limit=240)
    fills = ("test_fill_cuda.py", "test_functions_cuda.py", "test_models_cuda.py")
    flow = of.on_cuda("cuda-flow", "tests/flow/test_cuda_flow.py", limit=120)
    # Its failures could leave the process without a usable GPU: a process of its own.
    launch = of.on_cuda("cuda-launch", "tests/cuda/test_launch_cuda.py", limit=120)
    if args.rehearse:
        for part, reason in (
            (flow, "no activations on a GPU to watch"),
            (launch, "no streams, graphs or second device"),
        ):
            part.skip, part.proves = f"rehearsal: {reason}", False
    # test_tables.py judges the reference, and wants SciPy.
    tables = "--ignore=tests/distributions/test_tables.py"
    engine = ("tests/fill", "tests/distributions", "tests/orthogonal")
    threads = ",".join(str(n) for n in sorted({1, 2, machine.cpus()}))
    built = [
        of.tests("known-answers", "tests/random", "tests/fill/test_golden.py", limit=180),
        Part("cpu-tiers", tiers, 120, figures=tier_figures, environment=of.environment),
        of.on_cuda("cuda-parity", *(f"tests/cuda/{name}" for name in fills), limit=300),
        of.on_cuda("cuda-moments", "tests/cuda/test_moments_cuda.py", limit=120),
        chains,
        of.on_cuda("cuda-training", "tests/cuda/test_training_cuda.py", limit=120),
        flow,
        launch,
        of.sanitizer("memcheck"),
        of.sanitizer("racecheck"),
        *(of.benchmark_on_a_gpu(name) for name in ON_A_GPU),
        of.benchmark("cuda", "--distributions", FILLS, limit=300),
        of.tests("cpu-fill", *engine, tables, limit=600 if args.rehearse else 300),
        of.benchmark("cpu", *ON_A_CPU, "--threads", threads, limit=240),
    ]
    for part in built:
        part.needs = None if args.installed else output / "site" / "torch_init"
    return [of.building(), *built]


FILLS = (
    "uniform,normal,truncated,truncated_one_sided,bernoulli,constant,xavier_normal,kaiming_uniform"
)
ON_A_CPU = ("--dtypes", "float32,bfloat16", "--distributions", "uniform,normal,truncated")


class _Parts:
    """Makes parts of one kind each.

    Attributes:
        environment: in which the torch_init that was built is found.
    """

    def __init__(self, args: argparse.Namespace, output: Path) -> None:
        self.args, self.output = args, output
        self.environment = {"PYTHONDONTWRITEBYTECODE": "1"}
        if not args.installed:
            self.environment["PYTHONPATH"] = _gpu_build.python_path(output / "site")

    def building(self) -> Part:
        command = [sys.executable, HERE / "_gpu_build.py", "--output", self.output]
        command += ["--rehearse"] * self.args.rehearse
        skip = "--installed: the installed torch_init is used" if self.args.installed else ""
        figures = _gpu_build.figures(self.output)
        # Two processors take some minutes for one architecture.
        return Part("build", command, 600, not skip, figures, skip, self.environment)

    def tests(self, name: str, *paths: str, limit: int, **added: str) -> Part:
        # A test that hangs shows where, in the log, before the part is ended.
        hung = ["-o", f"faulthandler_timeout={limit // 2}"]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *hung, *paths]
        environment = self.environment | added
        return Part(name, command, limit, figures=pytest_figures, environment=environment)

    def on_cuda(self, name: str, *paths: str, limit: int) -> Part:
        """Tests on the GPU, or on its stand-in."""
        stand_in = "TORCH_INIT_CUDA_STAND_IN" if self.args.rehearse else "TORCH_INIT_REQUIRE_CUDA"
        return self.tests(name, *paths, limit=limit, **{stand_in: "1"})

    def sanitizer(self, tool: str) -> Part:
        found = machine.find_tool("compute-sanitizer")
        skip = "" if found else "compute-sanitizer: not found"
        skip = "rehearsal" if self.args.rehearse else skip
        command = [found or "compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
        # Without its own cache, torch's allocations have the bounds that the tool checks.
        environment = self.environment | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        return Part(
            f"sanitizer-{tool}",
            [*command, sys.executable, HERE / "sanitized.py"],
            180,
            proves=False,
            figures=sanitizer_figures,
            skip=skip,
            environment=environment,
        )

    def benchmark(self, device: str, *options: str, limit: int) -> Part:
        command = [sys.executable, "benchmarks/bench_init.py", "--device", device, *options]
        command += ["--quick"] * self.args.rehearse
        return Part(
            f"benchmark-{device}",
            [*command, "--output", self.output],
            limit,
            proves=False,
            figures=benchmark_figures(self.output / f"bench_init_{device}.json"),
            skip="rehearsal" if self.args.rehearse and device == "cuda" else "",
            environment=self.environment,
        )

    def benchmark_on_a_gpu(self, name: str) -> Part:
        rehearse = self.args.rehearse
        device = "cpu" if rehearse else "cuda"
        folder = self.output / name
        command = [sys.executable, "benchmarks/bench_gpu.py", "--device", device, "--parts", name]
        command += ["--quick"] * rehearse
        return Part(
            f"benchmark-{name}",
            [*command, "--output", folder],
            150,
            proves=False,
            figures=target_figures(folder / f"bench_gpu_{device}.json"),
            environment=self.environment | ({"OMP_NUM_THREADS": "1"} if rehearse else {}),
        )
