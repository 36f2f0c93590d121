# SPDX-License-Identifier: Apache-2.0
"""tests/gpu/run.py itself: parts are bounded and independent, table and JSON say what happened."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import _gpu_build
import _gpu_figures as figures
import _gpu_report as report
import pytest

HERE = Path(__file__).parent
PARTS = [
    "build",
    "known-answers",
    "cpu-tiers",
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
    "benchmark-launch",
    "benchmark-moments",
    "benchmark-gibbs",
    "benchmark-training",
    "benchmark-cuda",
    "cpu-fill",
    "benchmark-cpu",
]


@pytest.fixture
def run(monkeypatch):
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
        python(run, "good", "print('3 passed, 1 skipped in 0.1s')", figures=figures.pytest_figures),
        python(run, "bad", "import sys; print('went wrong'); sys.exit(3)"),
        python(run, "empty", "print('no tests ran')", figures=figures.pytest_figures),
        python(run, "slow", "import time; time.sleep(60)", limit=1),
        run.Part("absent", ["no-such-tool"], 1, skip="no-such-tool: not found", proves=False),
        python(run, "sanitizer-x", "print('Device not supported. 1 of 1')", proves=False),
    ]
    rows = [run.execute(part, tmp_path) for part in parts]
    statuses = [row["status"] for row in rows]
    assert statuses == ["ok", "failed", "failed", "timeout", "skipped", "unavailable"]
    assert rows[0]["figures"] == {"passed": 3, "skipped": 1}
    assert rows[1]["reason"] == "exit status 3: went wrong"
    assert [report.failed(row) for row in rows] == [False, True, True, True, False, False]
    assert rows[3]["seconds"] < 30

    lines = run.table(rows).splitlines()
    assert len(lines) == 1 + len(parts)
    assert lines[1].split()[:2] == ["good", "ok"]
    assert "passed 3" in lines[1]


def test_a_part_that_is_ended_keeps_its_figures(run, tmp_path):
    code = "import time; print('2 passed, 1 failed', flush=True); time.sleep(60)"
    row = run.execute(python(run, "slow", code, figures=figures.pytest_figures), tmp_path, left=6.0)
    assert (row["status"], row["reason"]) == ("timeout", "ended after 6 s")
    assert row["figures"] == {"passed": 2, "failed": 1}


def test_no_other_torch_init_is_tested(run, tmp_path):
    """Where nothing was built, an older one may be installed."""
    parts = run.parts(run.parse([]), tmp_path)
    assert {part.needs for part in parts[1:]} == {tmp_path / "site" / "torch_init"}
    assert not any(part.needs for part in run.parts(run.parse(["--installed"]), tmp_path))
    row = run.execute(parts[1], tmp_path)
    assert (row["status"], row["reason"]) == ("failed", "nothing was built: see build.log")


def test_what_a_build_lacks_is_named(monkeypatch):
    monkeypatch.setattr(_gpu_build, "find_spec", lambda name: None if name == "pybind11" else name)
    monkeypatch.setattr(_gpu_build.machine, "find_tool", lambda name: None)
    assert _gpu_build.missing_here() == "pybind11, cmake, c++, nvcc"


def test_no_part_begins_without_time(run, tmp_path):
    row = run.execute(python(run, "late", "print('1 passed')"), tmp_path, left=1.0)
    assert row["status"] == "skipped"
    assert "--minutes" in row["reason"]
    assert report.failed(row)  # it proves something, and did not run


def facts(**changed):
    machine = {"cpu": "a", "gpus": [{"name": "b", "driver_version": "1"}]}
    kept = {"rehearsal": False, "installed": False, "sources": "0", "before": machine}
    return kept | changed


def row(part, status, proves=True):
    kept = {"part": part, "status": status, "proves_correctness": proves}
    return kept | {"seconds": 1.0, "figures": {}, "reason": ""}


def test_other_sources_have_another_digest(monkeypatch, tmp_path):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    (tmp_path / "csrc").mkdir()
    for name in ("CMakeLists.txt", "setup.py", "csrc/a.cpp"):
        (tmp_path / name).write_text("one")
    first = report.digest_of_sources()
    (tmp_path / "csrc" / "a.so").write_text("what was built")
    assert report.digest_of_sources() == first
    (tmp_path / "csrc" / "a.cpp").write_text("two")
    assert report.digest_of_sources() != first


def test_report_outlives_its_run(tmp_path):
    """It is whole after each part, and another run of the same sources and machine goes on."""
    path, names = tmp_path / "report.json", ["one", "two", "three"]
    first = report.Report(path, facts(), names, names, resume=False)
    first.add(row("one", "ok"))
    assert json.loads(path.read_text())["passed"] is False  # two are to come
    first.add(row("two", "failed"))
    assert [kept["part"] for kept in json.loads(path.read_text())["parts"]] == ["one", "two"]
    assert not first.passed

    resumed = report.Report(path, facts(), names, names, resume=True)
    assert [resumed.holds(name) for name in names] == [True, False, False]
    resumed.add(row("three", "ok"))
    assert not resumed.passed
    resumed.add(row("two", "ok"))
    assert [kept["part"] for kept in resumed.rows] == names
    assert resumed.passed
    assert json.loads(path.read_text())["passed"] is True
    assert "ok, earlier" in report.table(resumed.rows)

    only = report.Report(path, facts(), names, ["two"], resume=False)
    assert [only.holds(name) for name in names] == [True, False, True]
    anew = report.Report(path, facts(), names, names, resume=False)
    assert anew.rows == []
    for other in (
        facts(sources="1"),
        facts(rehearsal=True),
        facts(installed=True),
        facts(before={"cpu": "c", "gpus": []}),
    ):
        assert report.Report(path, other, names, names, resume=True).rows == []


def test_half_a_report_is_no_report(tmp_path):
    path = tmp_path / "report.json"
    path.write_text('{"rehearsal": false, "par')
    assert report.Report(path, facts(), ["one"], ["one"], resume=True).rows == []


KILLED = """
import sys
sys.path.insert(0, {here!r})
import _gpu_parts, run
code = "import os, time; open({pid!r}, 'w').write(str(os.getpid())); time.sleep(60)"
both = [_gpu_parts.Part("one", [sys.executable, "-c", "print(1)"], 60)]
both += [_gpu_parts.Part("two", [sys.executable, "-c", code], 60)]
run.parts = lambda args, output: both
run.machine.versions = lambda environment: {{}}
run.main(["--output", {output!r}])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere children outlive a killed parent")
def test_a_killed_run_leaves_results_and_no_process(tmp_path):
    pid = tmp_path / "pid"
    code = KILLED.format(here=str(HERE), pid=str(pid), output=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) as process:
        wait_for(lambda: pid.is_file() and pid.read_text())
        process.kill()
    kept = json.loads((tmp_path / "report.json").read_text())
    assert [part["status"] for part in kept["parts"]] == ["ok"]
    assert kept["passed"] is False
    wait_for(lambda: not is_alive(int(pid.read_text())))


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid):
    """Whether a process runs; one that has ended and was not waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.is_file() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_benchmark_figures(tmp_path):
    path = tmp_path / "bench.json"
    row = {"case": "normal", "implementation": "torch_init", "tier": "cuda", "gb_per_s": 987.6}
    row |= {"share_of_fill_bandwidth": 0.93, "speedup_over_torch": 2.1}
    group = {"kind": "throughput", "dtype": "float32", "threads": None, "results": [row]}
    verdicts = [{"reached": True}, {"reached": False}, {"reached": None}]
    path.write_text(
        json.dumps({"groups": [group], "targets": {"tier": "cuda", "verdicts": verdicts}})
    )
    assert figures.benchmark_figures(path)("") == {
        "float32 normal": "988 GB/s, 93% of fill, 2.1x torch",
        "targets reached": "1 of 2",
    }


def test_target_figures(tmp_path):
    path = tmp_path / "bench.json"
    verdicts = [{"target": "normal >= 2", "measured": 2.25, "reached": True}]
    verdicts += [{"target": "sweep <= 3", "measured": None, "reached": None}]
    facts = {"groups": [{}], "failed": [], "targets": {"tier": "cuda", "verdicts": verdicts}}
    path.write_text(json.dumps(facts))
    assert figures.target_figures(path)("") == {"groups": 1, "normal >= 2": "2.25, reached"}
    facts |= {"failed": ["llama: no memory"], "targets": {"tier": "cpu", "verdicts": verdicts}}
    path.write_text(json.dumps(facts))
    assert figures.target_figures(path)("") == {"groups": 1, "failed": "llama: no memory"}


def test_benchmarks_of_a_rehearsal(run, tmp_path):
    """Every part of bench_gpu.py runs, at tiny sizes on the CPU, and writes what run.py reads."""
    parts = run.parts(run.parse(["--rehearse", "--installed"]), tmp_path)
    (first, *others) = [part for part in parts if "benchmarks/bench_gpu.py" in part.command]
    names = [part.name.removeprefix("benchmark-") for part in (first, *others)]
    at = first.command.index("--parts") + 1
    first.command[at] = ",".join(names)  # in one process, which is quicker
    row = run.execute(first, tmp_path)
    assert row["status"] == "ok", row["reason"]
    assert row["figures"] == {"groups": 9}


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


def test_a_run_with_nothing_left_leaves_the_report_as_it_is(run, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "parts", lambda args, output: [python(run, "one", "print(1)")] * 2)
    monkeypatch.setattr(run.machine, "versions", lambda environment: {"torch": "1"})
    assert run.main(["--output", str(tmp_path)]) == 0
    before = (tmp_path / "report.json").read_bytes()
    assert run.main(["--output", str(tmp_path), "--resume"]) == 0
    assert (tmp_path / "report.json").read_bytes() == before


def test_unknown_part(run, tmp_path):
    with pytest.raises(SystemExit, match="unknown nonsense; known: build"):
        run.main(["--only", "nonsense", "--output", str(tmp_path)])
