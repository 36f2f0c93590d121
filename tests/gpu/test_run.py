# SPDX-License-Identifier: Apache-2.0
"""tests/gpu/run.py itself: parts are bounded and independent, table and JSON say what happened."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PARTS = [
    "build",
    "known-answers",
    "cpu-tiers",
    "cpu-fill",
    "cuda-parity",
    "cuda-moments",
    "cuda-gibbs",
    "cuda-training",
    "cuda-flow",
    "cuda-launch",
    "sanitizer-memcheck",
    "sanitizer-racecheck",
    "benchmark-memory",
    "benchmark-llama",
    "benchmark-small",
    "benchmark-moments",
    "benchmark-gibbs",
    "benchmark-cuda",
    "benchmark-cpu",
]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    spec = importlib.util.spec_from_file_location("gpu_run", HERE / "run.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_run", module)
    spec.loader.exec_module(module)
    return module


def python(run, name, code, limit=60, **options):
    return run.Part(name, [sys.executable, "-c", code], limit, **options)


def test_parts_of_a_rehearsal(run, tmp_path):
    parts = run.parts(run.parse(["--rehearse", "--installed"]), tmp_path)
    assert [part.name for part in parts] == PARTS
    skipped = {part.name for part in parts if part.skip}
    sanitizers = {"sanitizer-memcheck", "sanitizer-racecheck"}
    assert skipped == {"build", "cuda-flow", "cuda-launch", *sanitizers, "benchmark-cuda"}
    assert not any(part.proves for part in parts if part.skip)
    stand_in = {p.name for p in parts if "TORCH_INIT_CUDA_STAND_IN" in p.environment and not p.skip}
    assert stand_in == {"cuda-parity", "cuda-moments", "cuda-training"}
    assert "--quick" in parts[-1].command


def test_parts_on_a_gpu(run, tmp_path):
    parts = {part.name: part for part in run.parts(run.parse([]), tmp_path)}
    assert list(parts) == PARTS
    for name in (
        "cuda-parity",
        "cuda-moments",
        "cuda-gibbs",
        "cuda-training",
        "cuda-flow",
        "cuda-launch",
    ):
        assert parts[name].environment["TORCH_INIT_REQUIRE_CUDA"] == "1"
        assert parts[name].proves
    assert str(tmp_path / "site") in parts["benchmark-cuda"].environment["PYTHONPATH"]
    assert all(part.limit > 0 for part in parts.values())


def test_files_that_parts_name_exist(run, tmp_path):
    for part in run.parts(run.parse([]), tmp_path):
        for word in map(str, part.command):
            if word.startswith(("tests/", "benchmarks/")):
                assert (run.ROOT / word).exists(), word


def test_outcomes(run, tmp_path):
    """One part of each fate; the later ones run all the same."""
    parts = [
        python(run, "good", "print('3 passed, 1 skipped in 0.1s')", figures=run.pytest_figures),
        python(run, "bad", "import sys; print('went wrong'); sys.exit(3)"),
        python(run, "empty", "print('no tests ran')", figures=run.pytest_figures),
        python(run, "slow", "import time; time.sleep(60)", limit=1),
        run.Part("absent", ["no-such-tool"], 1, skip="no-such-tool: not found", proves=False),
        python(run, "sanitizer-x", "print('Device not supported. 1 of 1')", proves=False),
    ]
    outcomes = [run.execute(part, tmp_path) for part in parts]
    statuses = [outcome.status for outcome in outcomes]
    assert statuses == ["ok", "failed", "failed", "timeout", "skipped", "unavailable"]
    assert outcomes[0].figures == {"passed": 3, "skipped": 1}
    assert outcomes[1].reason == "exit status 3: went wrong"
    assert [outcome.failed for outcome in outcomes] == [False, True, True, True, False, False]
    assert outcomes[3].seconds < 30

    lines = run.table(outcomes).splitlines()
    assert len(lines) == 1 + len(parts)
    assert lines[1].split()[:2] == ["good", "ok"]
    assert "passed 3" in lines[1]

    args = run.parse(["--rehearse"])
    result = json.loads(json.dumps(run.report(outcomes, args, {"before": run.machine.describe()})))
    assert result["passed"] is False
    assert result["rehearsal"] is True
    assert result["before"]["cpus"] >= 1
    assert [part["status"] for part in result["parts"]] == statuses
    assert {"part", "seconds", "figures", "reason", "command"} <= set(result["parts"][0])
    assert run.report(outcomes[:1], args, {})["passed"] is True


def test_benchmark_figures(run, tmp_path):
    path = tmp_path / "bench.json"
    row = {"case": "normal", "implementation": "torch_init", "tier": "cuda", "gb_per_s": 987.6}
    row |= {"share_of_fill_bandwidth": 0.93, "speedup_over_torch": 2.1}
    group = {"kind": "throughput", "dtype": "float32", "threads": None, "results": [row]}
    verdicts = [{"reached": True}, {"reached": False}, {"reached": None}]
    path.write_text(
        json.dumps({"groups": [group], "targets": {"tier": "cuda", "verdicts": verdicts}})
    )
    figures = run.benchmark_figures(path)("")
    assert figures == {
        "float32 normal": "988 GB/s, 93% of fill, 2.1x torch",
        "targets reached": "1 of 2",
    }


def test_target_figures(run, tmp_path):
    path = tmp_path / "bench.json"
    verdicts = [{"target": "normal >= 2", "measured": 2.25, "reached": True}]
    verdicts += [{"target": "sweep <= 3", "measured": None, "reached": None}]
    facts = {"groups": [{}], "failed": [], "targets": {"tier": "cuda", "verdicts": verdicts}}
    path.write_text(json.dumps(facts))
    assert run.target_figures(path)("") == {"groups": 1, "normal >= 2": "2.25, reached"}
    facts |= {"failed": ["llama: no memory"], "targets": {"tier": "cpu", "verdicts": verdicts}}
    path.write_text(json.dumps(facts))
    assert run.target_figures(path)("") == {"groups": 1, "failed": "llama: no memory"}


def test_benchmarks_of_a_rehearsal(run, tmp_path):
    """Every part of bench_gpu.py runs, at tiny sizes on the CPU, and writes what run.py reads."""
    parts = run.parts(run.parse(["--rehearse", "--installed"]), tmp_path)
    (first, *others) = [part for part in parts if "benchmarks/bench_gpu.py" in part.command]
    names = [part.name.removeprefix("benchmark-") for part in (first, *others)]
    at = first.command.index("--parts") + 1
    first.command[at] = ",".join(names)  # in one process, which is quicker
    outcome = run.execute(first, tmp_path)
    assert outcome.status == "ok", outcome.reason
    assert outcome.figures == {"groups": 7}


def test_whole_rehearsal_without_its_heavy_parts(run, tmp_path, capsys):
    options = ["--rehearse", "--installed", "--only", "build,cuda-launch,sanitizer-memcheck"]
    assert run.main([*options, "--output", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert result["passed"] is True
    assert result["versions"]["torch"]
    assert "CPU tier in use" in result["versions"]
    shown = capsys.readouterr().out
    assert "A rehearsal" in shown
    assert "sanitizer-memcheck" in shown


def test_unknown_part(run, tmp_path):
    with pytest.raises(SystemExit, match="unknown nonsense; known: build"):
        run.main(["--only", "nonsense", "--output", str(tmp_path)])
