# SPDX-License-Identifier: Apache-2.0
"""What run.py shows of a part: figures read from its log or from the files that it wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Figures = dict[str, Any]


def pytest_figures(log: str) -> Figures:
    """How many tests passed, failed and were skipped; a part without a passing test fails."""
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", log)}
    if not counts.get("passed"):
        raise ValueError("no test passed")
    return counts


def tier_figures(log: str) -> Figures:
    facts = json.loads(_last_line_of_json(log))
    return {
        "tiers": " = ".join(facts["tiers"]),
        **({"MISSING": m} if (m := facts["missing"]) else {}),
    }


def _last_line_of_json(log: str) -> str:
    return next(line for line in reversed(log.splitlines()) if line.startswith("{"))


def sanitizer_figures(log: str) -> Figures:
    found = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (.*)", log)
    if not found:
        raise ValueError("no summary")
    return {"summary": found[-1]}


def benchmark_figures(path: Path) -> Callable[[str], Figures]:
    """Throughput of the widest tier, float32 and bfloat16, as the benchmark's JSON has it."""

    def read(log: str) -> Figures:
        facts = json.loads(path.read_text(encoding="utf-8"))
        found: Figures = {}
        for group in facts["groups"]:
            if group["kind"] != "throughput" or group["dtype"] not in ("float32", "bfloat16"):
                continue
            for result in group["results"]:
                shown = result["case"] in ("uniform", "normal", "truncated")
                if not shown or result["tier"] != facts["targets"]["tier"]:
                    continue
                threads = f", {group['threads']} threads" if group["threads"] else ""
                found[f"{group['dtype']} {result['case']}{threads}"] = _speed(result)
        judged = [v["reached"] for v in facts["targets"]["verdicts"] if v["reached"] is not None]
        return {**found, "targets reached": f"{sum(judged)} of {len(judged)}"}

    return read


def _speed(result: dict[str, Any]) -> str:
    words = [f"{result['gb_per_s']:.{0 if result['gb_per_s'] >= 100 else 1}f} GB/s"]
    if (share := result["share_of_fill_bandwidth"]) is not None:
        words.append(f"{share:.0%} of fill")
    if (speedup := result["speedup_over_torch"]) is not None:
        words.append(f"{speedup:.3g}x torch")
    return ", ".join(words)


def target_figures(path: Path) -> Callable[[str], Figures]:
    """The verdicts of bench_gpu.py that this run measured, and what failed."""

    def read(log: str) -> Figures:
        facts = json.loads(path.read_text(encoding="utf-8"))
        measured = [v for v in facts["targets"]["verdicts"] if v["reached"] is not None]
        found: Figures = {"groups": len(facts["groups"])}
        if facts["targets"]["tier"] == "cuda":
            for verdict in measured:
                word = "reached" if verdict["reached"] else "MISSED"
                found[verdict["target"]] = f"{verdict['measured']:.3g}, {word}"
        return found | ({"failed": "; ".join(facts["failed"])} if facts["failed"] else {})

    return read
