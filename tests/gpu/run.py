# SPDX-License-Identifier: Apache-2.0
"""Prove torch_init on a machine with a GPU: build, parity, sanitizer, benchmarks. No network.

    python tests/gpu/run.py                # everything, in 25 minutes at most
    python tests/gpu/run.py --resume       # what was not ok, or not reached, the last time
    python tests/gpu/run.py --only build,cuda-parity
    python tests/gpu/run.py --rehearse     # no GPU: the kernel's body, run by the host, stands in

Needs Python >= 3.10 with torch, numpy, mpmath (which torch brings), pytest and pybind11, CMake, a
C++ compiler and nvcc; draws plots where there is matplotlib. Every part is a process of its own
with a time limit, and runs whatever became of the one before. report.json is written anew after
each part, the benchmarks' results and a log of each part lie beside it in --output; a table comes
last. The exit status is 1 if a part that proves correctness failed or did not run.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import _gpu_machine as machine
from _gpu_figures import Figures
from _gpu_parts import Part, parts
from _gpu_report import Report, Row, digest_of_sources, table

ROOT = Path(__file__).resolve().parents[2]
LEAST = 5.0
"""Seconds that must be left for a part to begin."""


def execute(part: Part, logs: Path, left: float = float("inf")) -> Row:
    """Run one part, its output to a log, and judge it.

    Args:
        left: seconds until the whole run is to end.
    """
    start = time.monotonic()

    def row(status: str, figures: Figures, reason: str = "") -> Row:
        return {
            "part": part.name,
            "status": status,
            "seconds": round(time.monotonic() - start, 1),
            "proves_correctness": part.proves,
            "figures": figures,
            "reason": reason,
            "command": shlex.join(map(str, part.command)),
            "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "gpus": machine.gpu_state(),
        }

    if part.skip:
        return row("skipped", {}, part.skip)
    if left < LEAST:
        return row("skipped", {}, "no time was left (--minutes)")
    if part.needs is not None and not part.needs.exists():
        return row("failed", {}, "nothing was built: see build.log")
    path = logs / f"{part.name}.log"
    limit = min(part.limit, left)
    status = _run_bounded(part, path, limit)
    log = path.read_text(encoding="utf-8", errors="replace")
    unavailable = machine.tool_trouble(log) if "sanitizer" in part.name else ""
    if status is not None and unavailable:
        return row("unavailable", {}, unavailable)
    trouble = ""
    try:
        figures = part.figures(log)
    except (OSError, ValueError, KeyError, LookupError) as error:
        figures, trouble = {}, f" ({error!r})"
    if status is None:
        return row("timeout", figures, f"ended after {limit:.0f} s")
    if trouble:
        return row("failed", figures, f"{_last_line(log)}{trouble}")
    if status != 0:
        return row("failed", figures, f"exit status {status}: {_last_line(log)}")
    return row("ok", figures)


def _run_bounded(part: Part, log: Path, limit: float) -> int | None:
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
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        try:
            return process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Its children too, which may hold the GPU.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _end_with_parent() -> None:
    """Have the kernel end this process with its parent: it would hold the GPU without a limit."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _last_line(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1].strip()[:160] if lines else "no output"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rehearse", action="store_true", help="without a GPU, with a stand-in; quick benchmarks")
    add("--installed", action="store_true", help="do not build: use the torch_init of this Python")
    add("--only", default="", help="parts, comma-separated (build is not implied)")
    add("--resume", action="store_true", help="leave out what was ok before, of these sources")
    add("--minutes", type=float, default=25.0, help="for all together (default: %(default)g)")
    add("--output", type=Path, default=Path("results/gpu"), help="folder (default: %(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    deadline = time.monotonic() + 60 * args.minutes
    output = args.output.resolve()
    (output / "logs").mkdir(parents=True, exist_ok=True)
    every = parts(args, output)
    names = [part.name for part in every]
    chosen = args.only.split(",") if args.only else names
    if unknown := set(chosen) - set(names):
        sys.exit(f"--only: unknown {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    facts = {
        "report": "rehearsal without a GPU" if args.rehearse else "torch_init on a GPU",
        "rehearsal": args.rehearse,
        "installed": args.installed,
        "sources": digest_of_sources(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "before": machine.describe(),
    }
    report = Report(output / "report.json", facts, names, chosen, args.resume)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, which ends in the table
    interrupted = False
    try:
        for part in every:
            if part.name not in chosen or report.holds(part.name):
                continue
            print(f"{part.name} ...", flush=True)
            row = execute(part, output / "logs", deadline - time.monotonic())
            if "versions" not in facts:  # now that something is built
                facts["versions"] = machine.versions(every[1].environment)
            report.add(row)
            print(f"{part.name}: {row['status']}, {row['seconds']:.0f} s", flush=True)
    except KeyboardInterrupt:
        interrupted = True
    print(f"\n{machine.in_a_line(facts['before'])}\n\n{table(report.rows)}\n")
    if args.rehearse:
        print("A rehearsal: nothing here was measured or proven on a GPU.")
    passed = report.passed and not interrupted
    verdict = "interrupted" if interrupted else "passed" if passed else "FAILED"
    print(f"{verdict}; wrote {report.path}, logs beside it")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
