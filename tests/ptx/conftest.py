# SPDX-License-Identifier: Apache-2.0
"""Tests of the kernels as nvcc compiled them, executed on the CPU. See machine.py."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent))

import machine as ptx_machine
from stand_in import stand_in

from torch_init import _ops

USERS = ["_ops", "_ops_device", "_ops_float_units", "_ops_flow", "_ops_gibbs", "_ops_measure"]


@pytest.fixture(scope="session")
def only_machine():
    reason = ptx_machine.missing()
    if reason is not None:
        pytest.skip(f"PTX is not executed: {reason}")
    machine = ptx_machine.Machine()
    yield machine
    if file := os.environ.get("TORCH_INIT_PTX_COVERAGE"):
        Path(file).write_text(machine.coverage())


@pytest.fixture
def machine(only_machine):
    only_machine.configure(1, 0)
    return only_machine


@pytest.fixture
def on_ptx(machine, monkeypatch):
    """CUDA bodies run on the host are PTX, executed."""
    native = stand_in(machine)
    for user in USERS:
        monkeypatch.setattr(f"torch_init.{user}._C", native)
    return machine


class Engine:
    """As tests/cuda has it."""

    device = torch.device("cpu")

    def plan(self, entries):
        plan = _ops.FillPlan(entries)
        return lambda: plan.run_cuda_body_on_host(0)

    def run(self, entries):
        self.plan(entries)()

    def measure(self, entries):
        return _ops.measure_with_cuda_body_on_host(entries, 0)

    def accumulate(self, *arguments):
        return _ops.accumulate_with_cuda_body_on_host(*arguments, blocks=0)


@pytest.fixture
def engine(on_ptx):
    return Engine()
