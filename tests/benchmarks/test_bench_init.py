# SPDX-License-Identifier: Apache-2.0
"""benchmarks/bench_init.py runs and writes what it says; no test here looks at a time."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torch_init import _ops

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "bench_init.py"
DISTRIBUTIONS = [
    "uniform",
    "normal",
    "truncated",
    "truncated_one_sided",
    "bernoulli",
    "constant",
    "xavier_normal",
    "kaiming_uniform",
]
TINY = ["--quick", "--elements", "2048", "--repeats", "2"]


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture
def load(monkeypatch):
    """Import one of the modules beside the script."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def check_result(result):
    assert result["elements"] > 0
    if "unavailable" in result:
        assert result["unavailable"] and result["implementation"] != "torch_init"
        assert result["speedup_over_torch"] is None and "median_s" not in result
        return
    assert len(result["samples_s"]) == result["repeats"] >= 1
    assert 0 < result["min_s"] <= result["median_s"]
    assert result["ns_per_element"] == pytest.approx(1e9 * result["median_s"] / result["elements"])


def test_cpu_run(tmp_path):
    options = ["--dtypes", "float32,float8_e5m2", "--threads", "1,2", "--output", tmp_path]
    done = run(*TINY, *options)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "bench_init_cpu.json").read_text(encoding="utf-8"))
    assert facts["command"].startswith("python benchmarks/bench_init.py --quick")
    assert facts["machine"]["cpu"] and "load_average_1_min" in facts["machine"]
    assert facts["versions"]["torch"].startswith(torch.__version__)
    assert {"git revision", "git revision of the checkout"} <= facts["versions"].keys()

    groups = facts["groups"]
    for group in groups:
        assert group["results"]
        for result in group["results"]:
            check_result(result)
    counts = {}
    for group in groups:
        counts[group["kind"]] = counts.get(group["kind"], 0) + 1
    assert counts == {"throughput": 4, "orthogonal": 2, "many": 2, "call": 1, "table": 2}

    for group in (group for group in groups if group["kind"] == "throughput"):
        measured = {(r["case"], r["implementation"], r["tier"]): r for r in group["results"]}
        for name in DISTRIBUTIONS:
            assert (name, "torch", None) in measured and name in done.stdout
            for tier in _ops.cpu_isas() if name != "constant" else [None]:
                assert measured[name, "torch_init", tier]["share_of_fill_bandwidth"] > 0
        if group["dtype"] == "float8_e5m2":
            assert measured["normal", "torch", None]["unavailable"] in done.stdout

    tier = _ops.cpu_isas()[-1]
    assert facts["targets"]["tier"] == tier
    assert bool(facts["targets"]["verdicts"]) == (tier != "baseline")
    drawn = importlib.util.find_spec("matplotlib") is not None
    assert (tmp_path / "bench_init_cpu.png").exists() == drawn


@pytest.mark.cuda
def test_cuda_run(tmp_path):
    if not torch.cuda.is_available() and os.environ.get("TORCH_INIT_REQUIRE_CUDA") != "1":
        pytest.skip("no GPU")
    done = run(*TINY, "--device", "cuda", "--dtypes", "float32,bfloat16", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "bench_init_cuda.json").read_text(encoding="utf-8"))
    assert facts["machine"]["gpu"]["l2_bytes"] > 0
    results = [result for group in facts["groups"] for result in group["results"]]
    for result in results:
        check_result(result)
    assert {r["tier"] for r in results if r["case"] == "normal"} == {"cuda", None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtypes", "int8"], "--dtypes: unknown int8"),
        (["--distributions", "gamma"], "--distributions: unknown gamma"),
        (["--tiers", "mmx"], "--tiers: unknown mmx"),
        (["--threads", "0"], "--threads: expected positive integers"),
        (["--elements", "1000"], "--elements: expected a positive multiple of 1024"),
        (["--device", "cuda", "--threads", "2"], "are for --device cpu"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments(load, monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        load("bench_init").main(arguments)
    assert message in capsys.readouterr().err


class ScriptedClock:
    """Calls, and says that it took the seconds that the call returns."""

    def sample(self, call, calls):
        return sum(call() for _ in range(calls)) / calls


def scripted_sides(timing, log, seconds):
    def side(name):
        def call():
            log.append(name)
            return seconds[name]

        return timing.Side(name, "test", call, elements=1, moved=4)

    return [side(name) for name in seconds]


def test_sides_take_turns(load):
    timing, log = load("_timing"), []
    sides = scripted_sides(timing, log, {"a": 1e-3, "b": 2e-3})
    results = timing.measure(sides, ScriptedClock(), repeats=3)
    warm_up, rounds = "ab", "ab" + "ba" + "ab"
    assert "".join(log) == warm_up + rounds
    assert [result.median for result in results] == [1e-3, 2e-3]


@pytest.mark.parametrize(("share", "samples"), [(1 / 7, 7), (1 / 3, 3), (0.9, 1), (5, 1)])
def test_slow_sides_take_fewer_turns(load, share, samples):
    timing = load("_timing")
    slow = share * timing.SLOW_BUDGET
    sides = scripted_sides(timing, [], {"fast": 1e-3, "slow": slow})
    fast, slow = timing.measure(sides, ScriptedClock(), repeats=7)
    assert (len(fast.samples), len(slow.samples)) == (7, samples)


def test_only_an_optional_side_may_be_missing(load):
    timing = load("_timing")

    def fails():
        raise NotImplementedError("not for this dtype. More.")

    missing = timing.Side("a", "torch", fails, 1, 4, optional=True)
    (result,) = timing.measure([missing], ScriptedClock(), repeats=1)
    assert (result.samples, result.unavailable) == ((), "not for this dtype")
    with pytest.raises(NotImplementedError):
        timing.measure([timing.Side("a", "ours", fails, 1, 4)], ScriptedClock(), repeats=1)


def verdicts(load, tier, seconds, kind="throughput", threads=1):
    """Judge float32 results given as {(case, implementation, tier): seconds per call}."""
    timing = load("_timing")
    results = [
        timing.Result(timing.Side(case, implementation, None, 1, 4, tier=its_tier), (time,))
        for (case, implementation, its_tier), time in seconds.items()
    ]
    group = timing.Group(kind, "", "float32", threads, results)
    judged = load("_init_targets").judge([group], tier)
    return {v.statement: (v.measured, v.reached) for v in judged if v.measured is not None}


def test_verdicts(load):
    ours, torchs = ("normal", "torch_init", "avx2"), ("normal", "torch", "")
    cut = ("truncated", "torch_init", "avx2")
    assert verdicts(load, "avx2", {ours: 1.0, torchs: 4.5, cut: 1.125}) == {
        "float32 normal, 1 thread: >= 4.5 times torch": (4.5, True),
        "float32 truncated, 1 thread: <= 1.05 times normal": (1.125, False),
    }
    fill, uniform = ("fill", "torch", ""), ("uniform", "torch_init", "avx2")
    assert verdicts(load, "avx2", {fill: 1.0, uniform: 2.0}, threads=2) == {
        "float32 uniform, 2 threads: >= 60% of fill": (0.5, False)
    }
    wide = ("normal", "torch_init", "avx512")
    assert verdicts(load, "avx512", {wide: 1.0, ours: 1.5}) == {
        "float32 normal, 1 thread: <= 1.7 times avx512": (1.5, True)
    }
    assert verdicts(load, "avx2", {ours: 2.0, torchs: 1.0}, kind="call") == {
        "call of normal on 64 x 64: <= 1 times torch's time": (2.0, False)
    }
    assert verdicts(load, "baseline", {("normal", "torch_init", "baseline"): 1.0}) == {}
