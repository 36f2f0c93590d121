# SPDX-License-Identifier: Apache-2.0
"""benchmarks/bench_model.py runs and writes what it says; no test here looks at a time."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_model.py"


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_quick_run(tmp_path):
    done = run("--quick", "--parts", "materialize,plan,small", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "bench_model.json").read_text(encoding="utf-8"))
    assert set(facts["small"]) == {
        "normal_",
        "xavier_uniform_",
        "kaiming_uniform_",
        "trunc_normal_",
        "all four",
    }
    assert all(len(samples) >= 1 for samples in facts["materialize"].values())
    assert facts["plan"]["seconds"] > 0


def test_unknown_parts_are_refused():
    done = run("--parts", "plans")
    assert done.returncode == 2
    assert "--parts: unknown plans" in done.stderr
