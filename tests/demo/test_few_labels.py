# SPDX-License-Identifier: Apache-2.0
"""The comparison of plain starts with RBM pre-training, where few examples have a label."""

import json

import pytest
import torch

from torch_init import cli
from torch_init.demo import data, few_labels
from torch_init.demo.training import Settings

SMALL = ["--activations", "relu", "--inits", "he", "--depth", "2", "--width", "8", "--epochs", "1"]


def test_rows_of_the_demo(tmp_path, monkeypatch, capsys):
    """Text, numbers and a picture; the same ones again, whatever torch's state is."""
    monkeypatch.chdir(tmp_path)
    written = []
    for seed, dtype in ((1, torch.float32), (2, torch.float64)):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        state = torch.get_rng_state()
        try:
            arguments = [*SMALL, "--few-labels", "30", "--no-tensorboard", "--output", "results"]
            assert cli.main(["demo", *arguments]) == 0
            assert torch.equal(torch.get_rng_state(), state)
        finally:
            torch.set_default_dtype(torch.float32)
        results = (tmp_path / "results" / "results.json").read_bytes()
        written.append((capsys.readouterr().out, results))
    assert written[0] == written[1]
    printed, results = written[0][0], json.loads(written[0][1])
    few = results["few_labels"]
    assert (few["labels"], few["unlabelled"], few["updates"]) == (30, 1438, 2)
    starts = ["LeCun", "Xavier", "He", "Xavier gain 4", few_labels.PRETRAINED]
    assert list(few["test_accuracy"]) == starts
    assert all(f"\n {start} " in printed for start in starts)
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    names = [claim["name"] for claim in results["claims"]]
    assert names[-2:] == ["pretraining-beats-textbook", "pretraining-beats-scaled"]
    png = (tmp_path / "results" / "few_labels.png").read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) < 300_000


def test_left_out_on_demand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [*SMALL, "--few-labels", "0", "--no-tensorboard", "--output", "results"]
    assert cli.main(["demo", *arguments]) == 0
    assert not (tmp_path / "results" / "few_labels.png").exists()
    assert json.loads((tmp_path / "results" / "results.json").read_text())["few_labels"] is None


def test_pretraining_beats_a_textbook_start(monkeypatch):
    """One draw of 100 labels, a short pre-training; the demo's three draws gain 13 to 19 points."""
    monkeypatch.setattr(few_labels, "_DRAWS", 1)
    monkeypatch.setattr(few_labels, "_PRETRAINING_UPDATES", 800)
    told = []
    settings = Settings(width=64)
    few = few_labels.compare(data.load(None, seed=0), settings, 100, told.append)
    assert sum(told) == few_labels.total_updates(settings, 100)
    assert few.mean(few_labels.PRETRAINED) > few.mean("LeCun") + 0.05
    # Before fine-tuning, its weights are far from the Xavier start that they replaced.
    learned, plain = (few.weights[name] for name in (few_labels.PRETRAINED, "Xavier"))
    assert not torch.allclose(learned, plain, atol=0.1)


def made_up(pretrained):
    accuracies = {"LeCun": [0.5, 0.7], "Xavier gain 4": [0.8, 0.8]}
    accuracies[few_labels.PRETRAINED] = pretrained
    return few_labels.FewLabels(10, 100, 5, 1, accuracies, {})


@pytest.mark.parametrize(
    ("pretrained", "holds"),
    [
        ([0.5, 0.6], [False, False]),
        ([0.7, 0.7], [True, False]),
        ([0.8, 0.815], [True, False]),
        ([0.8, 0.9], [True, True]),
    ],
)
def test_claims_can_fail(pretrained, holds):
    claims = made_up(pretrained).claims()
    assert [claim.holds for claim in claims] == holds
    assert "LeCun 60.0%" in claims[0].evidence and "Xavier gain 4 80.0%" in claims[1].evidence
