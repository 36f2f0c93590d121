# SPDX-License-Identifier: Apache-2.0
"""`torch-init demo` from end to end: outputs, repeatability, errors, and the caller's torch."""

import importlib.util
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from torch_init import cli
from torch_init.demo.models import ACTIVATIONS, STARTS

TINY = ["--epochs", "1", "--depth", "3", "--width", "16", "--few-labels", "0"]
TINIER = [*TINY, "--activations", "relu", "--inits", "he"]


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_two_runs_are_the_same_and_leave_torch_alone(tmp_path, capsys):
    """Same seed: same text and same bytes, whatever the caller's random state and settings."""
    some = ["--activations", "relu", "--inits", "normal-1", "he", "--no-tensorboard"]
    outputs = []
    for seed, threads, dtype in ((1, 2, torch.float32), (2, 1, torch.float64)):
        before = torch.get_num_threads()
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        state = torch.get_rng_state()
        try:
            assert cli.main(["demo", *TINY, *some, "--output", "results"]) == 0
            assert torch.equal(torch.get_rng_state(), state)
            assert torch.get_num_threads() == threads
            assert torch.get_default_dtype() == dtype
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_num_threads(before)
        written = (tmp_path / "results" / "results.json").read_bytes()
        outputs.append((capsys.readouterr().out, written))
    assert outputs[0] == outputs[1]

    assert cli.main(["demo", *TINY, *some, "--output", "other", "--seed", "1"]) == 0
    results, other = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("results", "other")
    )
    for run, other_run in zip(results["runs"], other["runs"], strict=True):
        assert run["points"] != other_run["points"]


def test_results(tmp_path, capsys):
    """Every combination is in the table and in the JSON, with finite numbers and all claims."""
    assert cli.main(["demo", *TINY, "--no-tensorboard", "--output", "a/b"]) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "a" / "b" / "results.json").read_text())
    pairs = [(run["activation"], run["start"]) for run in results["runs"]]
    assert pairs == [(activation, start) for activation in ACTIVATIONS for start in STARTS]
    for start in STARTS.values():
        assert printed.count(f"\n  {start.label} ") == len(ACTIVATIONS), start.label
    assert len({claim["name"] for claim in results["claims"]}) == len(results["claims"]) == 10
    assert printed.count("Holds: ") == sum(claim["holds"] for claim in results["claims"])
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    for run in results["runs"]:
        points = run["points"]
        assert points[0]["update"] == 0
        assert points[-1]["update"] == 23 or run["diverged_at"] is not None
        assert all(len(point["gradient_rms"]) == 3 for point in points)
    assert not (tmp_path / "a" / "b" / "tensorboard").exists()


def test_figure_and_event_files(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # The second comparison, shorter, must hide the first one's events in the same folder.
    for epochs in ("2", "1"):
        assert cli.main(["demo", *TINIER, "--epochs", epochs, "--output", "results"]) == 0
    output = tmp_path / "results"
    png = (output / "demo.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(png) < 300_000

    (run,) = json.loads((output / "results.json").read_text())["runs"]
    points = run["points"]
    events = EventAccumulator(str(output / "tensorboard" / "relu-he"))
    events.Reload()
    for tag, values in (
        ("loss/train", [point["train_loss"] for point in points]),
        ("gradient_rms/layer_01", [point["gradient_rms"][0] for point in points]),
        ("gradient_rms/layer_03", [point["gradient_rms"][2] for point in points]),
    ):
        scalars = events.Scalars(tag)
        assert [s.step for s in scalars] == [point["update"] for point in points]
        assert [s.value for s in scalars] == pytest.approx(values, rel=1e-6)  # stored as float32
    (accuracy,) = events.Scalars("accuracy/test")
    assert accuracy.step == 23
    assert accuracy.value == pytest.approx(run["test_accuracy"], rel=1e-6)
    figure = EventAccumulator(str(output / "tensorboard" / "figure"))
    figure.Reload()
    (image,) = figure.Images("comparison")
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_overflow_at_the_start_is_reported(tmp_path, capsys):
    """N(0, 1) with ReLU grows by sqrt(width / 2) per layer: 60 layers overflow float32."""
    arguments = ["--epochs", "1", "--depth", "60", "--width", "64", "--activations", "relu"]
    arguments += [
        "--inits",
        "normal-1",
        "--output",
        "results",
        "--no-tensorboard",
        "--few-labels",
        "0",
    ]
    assert cli.main(["demo", *arguments]) == 0
    (run,) = json.loads((tmp_path / "results" / "results.json").read_text())["runs"]
    assert run["diverged_at"] == 0
    assert run["points"] == []
    printed = capsys.readouterr().out
    assert "overflow" in printed
    assert "Runs that reached 90% test accuracy: none." in printed


def test_a_registered_start_joins_the_comparison(tmp_path, monkeypatch, capsys):
    """A start is a label and a function of (model, seed); nothing else knows the list of starts."""
    from torch_init.demo.models import Start

    seeds = []

    def initialise(model, seed):
        seeds.append(seed)
        STARTS["he"].initialise(model, seed)

    monkeypatch.setitem(STARTS, "mine", Start("my start", initialise))
    arguments = [*TINY, "--activations", "relu", "--inits", "mine", "he", "--seed", "7"]
    assert cli.main(["demo", *arguments, "--output", "results"]) == 0
    assert seeds == [7]
    assert "my start" in capsys.readouterr().out
    he, mine = json.loads((tmp_path / "results" / "results.json").read_text())["runs"]
    assert he["points"] == mine["points"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--epochs", "0"], "--epochs: got 0; expected at least 1"),
        (["--depth", "1"], "--depth: got 1; expected at least 2"),
        (["--width", "-4"], "--width: got -4; expected at least 1"),
        (["--batch-size", "0"], "--batch-size: got 0; expected at least 1"),
        (["--lr", "0"], "--lr: got 0.0; expected a positive number"),
        (["--lr", "nan"], "--lr: got nan; expected a positive number"),
        (["--seed", "-1"], "--seed: got -1; expected 0 <= seed < 2**63"),
        (["--activations", "relu", "gelu"], "--activations: unknown gelu; expected any of sigmoid"),
        (["--few-labels", "-1"], "--few-labels: got -1; expected 0 to 1438"),
        (["--few-labels", "1439"], "--few-labels: got 1439; expected 0 to 1438"),
        (["--inits", "glorot"], "--inits: unknown glorot; expected any of zero normal-1"),
        (["--device", "toaster"], "--device: cannot use 'toaster'"),
        (["--device", "meta"], "--device: cannot use 'meta': expected cpu or cuda"),
        (["--data", "absent.npz"], "--data: no such file or folder: absent.npz"),
        (["--data", "file"], "--data: file: not a readable .npz"),
        (["--data", "partial.npz"], "--data: partial.npz: no key Xt, yt"),
        (["--data", "."], "--data: .: no train-images-idx3-ubyte[.gz]"),
        (["--output", "file"], "--output: cannot write to file"),
        (["--output", "file/below"], "--output: cannot write to file/below"),
    ],
)
def test_bad_input(tmp_path, capsys, arguments, complaint):
    (tmp_path / "file").write_text("not a folder, not an archive")
    np.savez(tmp_path / "partial.npz", X=np.zeros((2, 4), np.uint8), y=np.zeros(2, np.uint8))
    assert cli.main(["demo", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"torch-init demo: error: {complaint}")
    assert captured.err.count("\n") == 1


def test_output_that_cannot_be_replaced(tmp_path, capsys):
    (tmp_path / "results" / "demo.png").mkdir(parents=True)
    assert cli.main(["demo", *TINIER, "--no-tensorboard", "--output", "results"]) == 2
    assert "--output: cannot write to results" in capsys.readouterr().err


def test_missing_extra_names_the_command(monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "rich" else find_spec(name)
    )
    assert cli.main(["demo", *TINIER]) == 2
    assert "needs rich; install with: pip install 'torch_init[demo]'" in capsys.readouterr().err


def test_default_updates_do_not_depend_on_the_size_of_the_set():
    from torch_init.demo.data import Digits
    from torch_init.demo.training import Settings

    for count in (1437, 60000):
        x, y = torch.zeros(count, 1), torch.zeros(count, dtype=torch.int64)
        updates = Settings().updates_for(Digits("", x, y, x, y, 2))
        # Whole epochs: 17 of 23 updates, or one of 938.
        assert updates == {1437: 17 * 23, 60000: math.ceil(60000 / 64)}[count]


def test_importing_the_demo_imports_no_extra():
    """`torch-init --help` works without the extras and does not wait for them."""
    extras = ["matplotlib", "rich", "sklearn", "tensorboard"]  # torch itself imports tqdm
    code = f"import sys, torch_init.demo; print([m for m in {extras} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
