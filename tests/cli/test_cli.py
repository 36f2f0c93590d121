# SPDX-License-Identifier: Apache-2.0
"""`torch-init` and `python -m torch_init`."""

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest
import torch

import torch_init
from torch_init import cli, info


def test_info_prints_every_fact(capsys):
    assert cli.main(["info"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == list(info.collect())


def test_info_facts():
    facts = info.collect()
    assert all(facts.values())
    assert facts["torch_init"] == torch_init.__version__
    assert facts["torch"].startswith(torch.__version__)
    assert facts["CPU tier in use"] in {"baseline", "avx2", "avx512"}


def test_module_is_the_same_command(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-m", "torch_init", "info"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.split()[:2] == ["torch_init:", torch_init.__version__]


@pytest.mark.parametrize(
    ("name", "complaint"), [("", ""), ("sse", "TORCH_INIT_CPU_ISA: got 'sse'")]
)
def test_tier_from_the_environment(name, complaint, tmp_path):
    """An empty variable counts as none."""
    finished = subprocess.run(
        [sys.executable, "-c", "import torch_init"],
        cwd=tmp_path,
        env=os.environ | {"TORCH_INIT_CPU_ISA": name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode == 0) == (complaint == "")
    assert complaint in finished.stderr


def test_installed_program_runs_main():
    (program,) = importlib.metadata.entry_points(group="console_scripts", name="torch-init")
    assert program.load() is cli.main


@pytest.mark.parametrize(
    ("arguments", "complaint"), [([], "COMMAND"), (["inof"], "invalid choice: 'inof'")]
)
def test_bad_arguments(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


FACTORY = """
from torch import nn

def small():
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8))

def with_inputs():
    return small(), __import__("torch").zeros(2, 4), None

def huge():
    return nn.Linear(2**22, 2**22)

def odd():
    model = nn.Module()
    model.own = nn.Parameter(__import__("torch").empty(3))
    return model

not_a_model = dict
number = 3
instance = nn.Linear(2, 2)

import torch_init
own = [torch_init.rule("own", torch_init.ones_)]
"""


@pytest.fixture
def factories(tmp_path):
    path = tmp_path / "factories.py"
    path.write_text(FACTORY)
    return path


def test_plan_of_a_file(factories, capsys):
    assert cli.main(["plan", f"{factories}:small", "--recipe", "he", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("name ")
    assert "he@1: " in printed
    assert "4 parameters, 56 elements; seed 3" in printed


def test_plan_of_the_model_that_comes_with_inputs(factories, capsys):
    """One factory serves plan and check."""
    assert cli.main(["plan", f"{factories}:with_inputs"]) == 0
    assert "4 parameters, 56 elements" in capsys.readouterr().out


def test_plan_allocates_nothing(factories, capsys):
    assert cli.main(["plan", f"{factories}:huge"]) == 0
    assert "17,592,190,238,720 elements" in capsys.readouterr().out


def test_plan_of_a_module_as_json_in_a_dtype(capsys):
    arguments = ["--json", "--dtype", "bfloat16", "--recipe", "xavier@1"]
    assert cli.main(["plan", "torch.nn:Transformer", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["parameters"]) > 100
    assert {row["dtype"] for row in found["parameters"]} == {"bfloat16"}


def test_plan_with_a_line_for_each_layer(capsys):
    assert cli.main(["plan", "torch.nn:Transformer", "--all"]) == 0
    assert "decoder.layers.3.linear1.weight " in capsys.readouterr().out


def test_plan_that_is_not_strict(factories, capsys):
    assert cli.main(["plan", f"{factories}:odd", "--recipe", "he"]) == 2
    assert "own  (3,)  of a Module" in capsys.readouterr().err
    assert cli.main(["plan", f"{factories}:odd", "--recipe", "he", "--no-strict"]) == 0
    assert "left alone: no rule" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["small"], "MODULE:NAME: expected package.module:attribute"),
        (["nowhere.py:small"], "MODULE: expected a file that exists, got 'nowhere.py'"),
        (["no_such_module:small"], "No module named 'no_such_module'"),
        (["torch.nn:Transfomer"], "NAME: expected a name in torch.nn, got 'Transfomer'"),
        (["torch.nn:Linear"], "missing 2 required positional arguments"),
        (["torch.nn:Transformer", "--recipe", "gtp2"], "Did you mean 'gpt2'"),
        (["torch.nn:Transformer", "--dtype", "half2"], "--dtype: expected a dtype's name"),
    ],
)
def test_plan_errors_are_one_message(arguments, text, capsys):
    assert cli.main(["plan", *arguments]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("name", ["not_a_model", "number", "instance"])
def test_plan_of_what_makes_no_model(factories, name, capsys):
    assert cli.main(["plan", f"{factories}:{name}"]) == 2
    assert "plan: FACTORY: expected" in capsys.readouterr().err


def test_plan_with_rules_of_ones_own(factories, capsys):
    arguments = ["plan", f"{factories}:odd", "--recipe", "he", "--rules", f"{factories}:own"]
    assert cli.main(arguments) == 0
    assert "ones_()" in capsys.readouterr().out


def test_a_reader_may_stop_early(tmp_path):
    """As head does."""
    command = [sys.executable, "-m", "torch_init", "plan", "torch.nn:Transformer", "--all"]
    pipe = subprocess.PIPE
    started = subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)
    started.stdout.close()
    assert "Traceback" not in started.communicate()[1]


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"torch_init {torch_init.__version__}\n"


def test_recipes_are_listed(capsys):
    assert cli.main(["recipes"]) == 0
    printed = capsys.readouterr().out
    for name in torch_init.recipes.available():
        assert f"{name}\n  " in printed


def test_a_file_may_define_dataclasses(tmp_path, capsys):
    path = tmp_path / "configured.py"
    path.write_text(
        "from __future__ import annotations\n"
        "import dataclasses, torch\n"
        "@dataclasses.dataclass\nclass Config:\n    width: int = 4\n"
        "def make():\n    return torch.nn.Linear(Config().width, 2)\n"
    )
    assert cli.main(["plan", f"{path}:make"]) == 0
    assert "2 parameters, 10 elements" in capsys.readouterr().out


def test_a_terminal_that_knows_no_exponents(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-m", "torch_init", "recipes"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "N(0, std?)" in finished.stdout
