# SPDX-License-Identifier: Apache-2.0
"""`torch-init` and `python -m torch_init`."""

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


def test_module_and_program_are_one_command(tmp_path):
    module = [sys.executable, "-m", "torch_init"]
    program = [sys.executable, "-c", "from torch_init.cli import main; main()"]
    outputs = [
        subprocess.run([*command, "info"], cwd=tmp_path, capture_output=True, text=True, check=True)
        for command in (module, program)
    ]
    assert outputs[0].stdout == outputs[1].stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"), [([], "COMMAND"), (["inof"], "invalid choice: 'inof'")]
)
def test_bad_arguments(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err
