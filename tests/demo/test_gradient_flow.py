# SPDX-License-Identifier: Apache-2.0
"""The demo's gradient-flow figure and pages: the lecture's cases, each with its verdict."""

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from torch_init import cli
from torch_init.demo import data, flow
from torch_init.demo.models import ACTIVATIONS, MLP, STARTS


@pytest.fixture(scope="module")
def reports():
    digits = data.load(None, 0)
    pairs = [
        *[(a, s) for a in ("tanh", "relu") for s in ("zero", "normal-1", "xavier", "he")],
        ("sigmoid", "xavier"),
    ]
    found = {}
    for activation, start in pairs:
        model = MLP(64, 128, 12, 10, ACTIVATIONS[activation], torch.device("cpu"))
        STARTS[start].initialise(model, 0)
        found[activation, start] = flow.measure(model, digits)
    return found


def test_verdicts_are_the_lectures(reports):
    kinds = {pair: report.verdict.kind for pair, report in reports.items()}
    assert kinds["tanh", "zero"] == kinds["relu", "zero"] == "zero_signal"
    assert kinds["tanh", "normal-1"] == kinds["relu", "normal-1"] == "exploding"
    assert kinds["sigmoid", "xavier"] == "vanishing"
    assert kinds["tanh", "xavier"] == kinds["relu", "he"] == "ok"
    saturated = [v.kind for v in reports["tanh", "normal-1"].verdicts]
    assert "saturated" in saturated


def test_figure_shows_measured_and_expected(reports):
    figure = flow.draw(reports)
    axes = figure.axes
    assert len(axes) == 2 * 3
    relu = reports["relu", "he"]
    wanted = [row.gradient_norm for row in relu.hidden]
    assert any(list(line.get_ydata()) == wanted for ax in axes for line in ax.lines)


def test_demo_writes_figure_and_pages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--epochs", "1", "--depth", "3", "--width", "16", "--no-tensorboard"]
    options += ["--few-labels", "0"]
    chosen = ["--activations", "relu", "--inits", "zero", "he", "--output", "out"]
    assert cli.main(["demo", *options, *chosen]) == 0
    assert (tmp_path / "out" / "gradient_flow.png").stat().st_size > 10_000
    pages = sorted(p.name for p in (tmp_path / "out" / "gradient_flow").iterdir())
    assert pages == ["relu-he.html", "relu-zero.html"]
    assert "zero signal" in (tmp_path / "out" / "gradient_flow" / "relu-zero.html").read_text()
