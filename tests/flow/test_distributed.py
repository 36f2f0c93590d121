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
        assert calls == (1 if kind == "tp" and row.layer in "01" else 2)  # two shards: one call
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


def features(row):
    return row.samples, row.units, row.dead, row.batch_std, row.calls, row.gradient_norm


def whole(passes):
    model = make_model()
    with torch_init.watch(model) as flow:
        for _ in range(passes):
            model(data()).square().mean().backward()
    return flow.report().rows


def test_sharded_activations(results):
    """Features are divided: each process has some of the units, both together have all."""
    wanted = whole(1)[0]
    for result in results:
        (samples, dead, batch_std), together = result["dtensor"]
        assert samples == 16
        assert dead is None or dead < 0.5
        assert batch_std == pytest.approx(wanted.batch_std, rel=0.3)  # of half of its units
        expected = (features(wanted)[:2], features(wanted)[3:])
        assert together[:2] == expected[0] and together[3:] == pytest.approx(expected[1], rel=1e-4)


def test_shards_that_are_plain_tensors(results):
    for result in results:
        together, alone, none = result["plain shards"]
        for found, row in zip(together, whole(2), strict=True):
            wanted = features(row)
            # The last layer's output is whole, in both processes.
            factor = 2 if row.layer == "2" else 1
            assert found[0] == factor * wanted[0] and found[4] == factor * wanted[4]
            assert found[1] == wanted[1]
            assert found[3] == pytest.approx(wanted[3], rel=1e-4)
            assert found[5] == pytest.approx(wanted[5], rel=1e-4)
        assert together[1][2] == whole(2)[1].dead
        assert set(alone) == {"0", "1"} and "1 of 2 shards" in alone["0"]
        assert none == {}


def test_partial_sums_are_refused_in_words(results):
    for result in results:
        for layers, unsupported in result["partial"]:
            assert layers == ["net.0", "net.1", "net.2"]
            assert "partial sum" in unsupported["loss"]
