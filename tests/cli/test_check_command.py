# SPDX-License-Identifier: Apache-2.0
"""`torch-init check`."""

import json

import pytest

from torch_init.cli import main

FACTORIES = """
import torch
from torch import nn

def good():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

def bad():
    layers = [m for _ in range(20) for m in (nn.Linear(16, 16), nn.Sigmoid())]
    return nn.Sequential(*layers, nn.Linear(16, 4)), torch.randn(32, 16), torch.arange(32) % 4

def conv():
    return nn.Conv2d(3, 8, 3)

def broken():
    raise RuntimeError("no such thing")
"""


@pytest.fixture
def factories(tmp_path):
    path = tmp_path / "my_models.py"
    path.write_text(FACTORIES)
    return path


def test_command_line_says_and_returns_the_verdict(factories, tmp_path, capsys):
    assert main(["check", f"{factories}:good"]) == 0
    assert "ok" in capsys.readouterr().out
    report = tmp_path / "report"
    arguments = ["--json", f"{report}.json", "--html", f"{report}.html"]
    assert main(["check", f"{factories}:bad", *arguments]) == 1
    assert "✗ vanishing" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["verdicts"][0]["kind"] == "vanishing"
    assert "<!doctype html>" in (tmp_path / "report.html").read_text()
    assert main(["check", f"{factories}:bad", "--ignore", "vanishing", "collapsed"]) == 0
    assert main(["check", f"{factories}:conv", "--shape", "4,3,8,8"]) == 0


@pytest.mark.parametrize("name", ["broken", "conv", "absent"])
def test_command_line_explains_what_it_cannot_do(factories, name, capsys):
    assert main(["check", f"{factories}:{name}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("torch-init check: error:") and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--html", "absent/report.html"], "--html: expected a file in a folder that exists"),
        (["--json", "."], "--json: expected a file in a folder that exists, got '.'"),
        (["--ignore", "vanishing", "foo"], "--ignore: expected one of 'non_finite', "),
        (["--shape", "64x20"], "--shape: expected sizes such as 64,20, got '64x20'"),
    ],
    ids=["no folder", "a folder", "ignored kind", "shape"],
)
def test_command_line_refuses_options_before_the_model_is_run(
    factories, arguments, text, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["check", f"{factories}:good", *arguments]) == 2
    printed = capsys.readouterr()
    assert text in printed.err and len(printed.err.splitlines()) == 1
    assert not printed.out
