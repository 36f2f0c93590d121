# SPDX-License-Identifier: Apache-2.0
"""`torch-init` and `python -m torch_init`."""

import importlib.metadata
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
