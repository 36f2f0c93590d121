# SPDX-License-Identifier: Apache-2.0
"""What run.py says about the machine; plain Python, nothing is changed on the GPU."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

GPU_FIELDS = (
    "name",
    "driver_version",
    "compute_cap",
    "memory.total",
    "memory.used",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "power.draw",
    "power.limit",
    "temperature.gpu",
    "utilization.gpu",
)
PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "mpmath",
    "pytest",
    "pybind11",
    "cmake",
    "ninja",
    "setuptools",
)


def output_of(*command: str, env: dict[str, str] | None = None) -> str:
    """What a command prints, empty if it does not run or fails."""
    try:
        done = subprocess.run(
            command,
            cwd=Path(__file__).parent,  # not the checkout, whose package would be found first
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def find_tool(name: str) -> str | None:
    """The path of a tool of the CUDA toolkit, which need not be on PATH."""
    homes = [os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_PATH", ""), "/usr/local/cuda"]
    for home in ("", *homes):
        folders = os.pathsep.join(f"{home}/{part}" for part in ("bin", "compute-sanitizer"))
        if found := shutil.which(name, path=folders if home else None):
            return found
    return None


def gpu_state() -> list[dict[str, str]]:
    """One dict for each GPU that nvidia-smi knows of; empty without it."""
    query = f"--query-gpu={','.join(GPU_FIELDS)}"
    rows = output_of("nvidia-smi", query, "--format=csv,noheader").splitlines()
    return [
        dict(zip(GPU_FIELDS, map(str.strip, row.split(",")), strict=False)) for row in rows if row
    ]


def cpu_flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    flags = next((line for line in lines if line.startswith("flags")), ":")
    return set(flags.split(":", 1)[1].split())


def expected_tiers() -> str:
    """The CPU tiers that must exist here, judged without torch_init."""
    flags = cpu_flags()
    tiers = ["baseline"]
    if {"avx2", "fma", "f16c"} <= flags:
        tiers.append("avx2")
        if {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= flags:
            tiers.append("avx512")
    return ",".join(tiers)


def cpus() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")
    return {
        "cpu": model or platform.processor() or platform.machine(),
        "cpus": cpus(),
        "cpu_tiers": expected_tiers(),
        "load_average_1_min": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "gpus": gpu_state(),
    }


def versions(environment: dict[str, str]) -> dict[str, str]:
    """Of this Python's packages, the compilers, and torch_init itself as it says."""
    code = (
        "import json, importlib.metadata as m\n"
        "def of(name):\n"
        "    try: return m.version(name)\n"
        "    except m.PackageNotFoundError: return 'none'\n"
        f"print(json.dumps({{name: of(name) for name in {PACKAGES!r}}}))"
    )
    found: dict[str, str] = {"python": platform.python_version()}
    found |= json.loads(output_of(sys.executable, "-c", code) or "{}")
    for tool in ("nvcc", "g++", "cmake", "compute-sanitizer"):
        text = output_of(find_tool(tool) or tool, "--version").splitlines()
        release = [line for line in text if "release" in line or "Version" in line] or text
        found[f"{tool} --version"] = release[0] if release else "none"
    code = "import json; from torch_init import info; print(json.dumps(info.collect()))"
    return found | json.loads(output_of(sys.executable, "-c", code, env=environment) or "{}")


def in_a_line(facts: dict[str, Any]) -> str:
    gpus = [f"{g['name']}, driver {g['driver_version']}" for g in facts["gpus"]] or ["no GPU seen"]
    return f"{facts['cpu']}, {facts['cpus']} CPUs ({facts['cpu_tiers']}); {'; '.join(gpus)}"


TROUBLE = (
    "Device not supported",
    "LibraryNotLoaded",
    "Target application terminated before first instrumented API call",
    "Unable to find injection library",
)


def tool_trouble(log: str) -> str:
    """Why compute-sanitizer itself does not work here, empty if it does."""
    return next((line.strip() for line in log.splitlines() if any(t in line for t in TROUBLE)), "")
