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
        weight, gradient, update, norm = parameters[wanted.name]
        assert norm == pytest.approx(wanted.gradient_norm, rel=1e-4)
        assert gradient == pytest.approx(wanted.gradient_rms, rel=1e-4)
        assert update == pytest.approx(wanted.update_rms, rel=1e-4)
        assert weight == pytest.approx(wanted.weight_rms, rel=1e-4)


def test_layers_are_added_by_name_in_whatever_order_they_were_called(results):
    (first, first_totals), (second, second_totals) = (result["order"] for result in results)
    assert second_totals > first_totals == 2  # and nobody waits for the other
    assert first == second
    assert first["small"] == (2, 8.0) and first["large"] == (2, 800.0)
    assert first["only_second"][0] == 1


def test_sharded_activations(results):
    model = make_model()
    with torch_init.watch(model) as flow:
        model(data()).square().mean().backward()
    wanted = flow.report().rows[0]
    for result in results:
        (samples, dead, batch_std), (calls, norm) = result["dtensor"]
        assert (samples, calls) == (16, 1)
        assert dead is None or dead < 0.5
        assert batch_std == pytest.approx(wanted.batch_std, rel=0.3)  # of half of its units
        assert norm == pytest.approx(wanted.gradient_norm, rel=1e-4)
