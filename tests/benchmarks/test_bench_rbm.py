# SPDX-License-Identifier: Apache-2.0
"""benchmarks/bench_rbm.py runs and writes what it says; no test here looks at a time."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_rbm.py"


def test_quick_run(tmp_path):
    arguments = ["--rows", "200", "--repeats", "1", "--quality", "1", "--output", str(tmp_path)]
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "bench_rbm.json").read_text(encoding="utf-8"))
    cases = {(row["case"], row["implementation"]) for row in facts["results"]}
    assert {("CD-1", "torch"), ("CD-10", "torch_init"), ("PCD-1", "scikit-learn")} <= cases
    assert all(row["log_likelihood"] < 0 for row in facts["quality"].values())
