# SPDX-License-Identifier: Apache-2.0
"""Two processes with gloo: DistributedDataParallel, FSDP2 and tensor parallel models."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from flow_processes import KINDS, data, make_model, run, step

import torch_init

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each of two processes found, by kind."""
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(run, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_together_are_one(kind, results):
    assert results[0][kind] == results[1][kind]  # both have the sums of both
    together, parameters = results[0][kind]

    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer) as flow:
        step(model, optimizer, data())
    report = flow.report()
    # DDP and FSDP average over processes: the loss of a process is the mean over its half.
    factor = 1.0 if kind == "tp" else 2.0
    for row in report.rows:
        calls, rms, gradient_rms = together[row.layer]
        assert calls == 2
        assert rms == pytest.approx(row.rms, rel=1e-4)
        assert gradient_rms == pytest.approx(factor * row.gradient_rms, rel=1e-4)
    for wanted in report.parameters:
        weight, gradient, update = parameters[wanted.name]
        assert gradient == pytest.approx(wanted.gradient_rms, rel=1e-4)
        assert update == pytest.approx(wanted.update_rms, rel=1e-4)
        assert weight == pytest.approx(wanted.weight_rms, rel=1e-4)
