# SPDX-License-Identifier: Apache-2.0
"""The statistics of flow as an operator: threads, bad arguments, compilation, hooks."""

import math

import pytest
import torch
from flow_rows import (
    INF,
    check,
    check_features,
    new_totals,
    normal,
)

from torch_init import _ops


def large():
    x = normal(1200 * 1031, torch.bfloat16).view(1200, 1031)
    x[7, 9] = math.nan
    return x


def run(x, accumulate=None):
    totals, features = new_totals(), torch.zeros(3, x.shape[-1], dtype=torch.float64)
    (accumulate or _ops.accumulate_moments_)(x, totals, features, 0, -1.0, 1.0, 1)
    return totals.numpy().tobytes() + features.numpy().tobytes()


@pytest.mark.parametrize("x", [large(), large().t()], ids=["rows", "columns"])
def test_threads_and_tiers_do_not_matter(x):
    previous = torch.get_num_threads(), _ops.cpu_isa()
    found = set()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.add(run(x))
        for isa in _ops.cpu_isas():
            _ops.set_cpu_isa(isa)
            found.add(run(x))
    finally:
        torch.set_num_threads(previous[0])
        _ops.set_cpu_isa(previous[1])
    assert len(found) == 1


def test_blocks_do_not_matter():
    body = _ops.accumulate_with_cuda_body_on_host
    found = {run(large(), lambda *a, n=n: body(*a, blocks=n)) for n in (1, 2, 50)}
    assert len(found) == 1


def test_more_dimensions_than_the_engine_has(accumulate):
    x = normal(2**9, torch.float32).view((2,) * 9).permute(3, 1, 0, 2, 8, 7, 6, 5, 4)
    totals, features = new_totals(), torch.zeros(3, 2, dtype=torch.float64)
    accumulate(x, totals, features, 0, -1.0, 1.0, 1)
    check(totals[0], x, low=-1.0, high=1.0)
    check_features(features, x)


X, TOTALS = torch.zeros(4, 5), new_totals(2)
REFUSED = {
    "x": [{"x": torch.zeros(3, dtype=torch.int32)}, {"x": torch.zeros(3, dtype=torch.cfloat)}],
    "totals": [
        {"totals": TOTALS.float()}, {"totals": TOTALS[0]}, {"totals": TOTALS[:, :13]},
        {"totals": new_totals(76).t()}, {"row": 2}, {"row": -1}, {"totals": TOTALS.to("meta")},
    ],
    "features": [{"features": torch.zeros(3, 5)}, {"features": new_totals(3)[:, :5]}],
    "scale": [{"scale": torch.ones(2)}, {"scale": torch.ones((), dtype=torch.float64)}],
    "gate": [{"gate": torch.ones(())}, {"gate": torch.ones(2, dtype=torch.bool)}],
}  # fmt: skip


@pytest.mark.parametrize("argument", REFUSED)
def test_bad_arguments_are_refused_before_anything_changes(argument):
    for bad in REFUSED[argument]:
        arguments = {
            "x": X,
            "totals": TOTALS,
            "features": None,
            "row": 0,
            "low": -1.0,
            "high": 1.0,
            "order": 1,
        }
        with pytest.raises((TypeError, ValueError), match=argument):
            _ops.accumulate_moments_(**arguments | bad)
    assert (TOTALS == 0).all()


def test_operator_is_well_defined():
    x, totals = normal(60, torch.float32).view(6, 10), new_totals(2)
    features = torch.zeros(3, 10, dtype=torch.float64)
    gate, scale = torch.ones((), dtype=torch.bool), torch.tensor(2.0)
    operator = torch.ops.torch_init.accumulate_moments_.default
    for optional in ((features, 1, -1.0, 1.0, 5, scale, gate), (None, 0, -1.0, 1.0, 5)):
        torch.library.opcheck(operator, (x, totals, *optional))


def test_compiles_without_a_break():
    totals, features = new_totals(2), torch.zeros(3, 16, dtype=torch.float64)
    gate = torch.ones((), dtype=torch.bool)

    def step(x, gate):
        y = torch.relu(x * 2)
        _ops.accumulate_moments_(y, totals, features, 1, -INF, 1.0, 4, None, gate)
        return y.sum()

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    x = normal(8 * 16, torch.float32).view(8, 16)
    compiled(x, gate)
    y = torch.relu(x * 2)
    check(totals[1], y, high=1.0)
    check_features(features, y)
    compiled(x, torch.zeros((), dtype=torch.bool))
    assert totals[1, 0] == 1


def test_a_hook_sees_gradients():
    totals = new_totals()
    x = normal(100, torch.float32).requires_grad_()
    y = x * 3
    y.register_hook(lambda g: _ops.accumulate_moments_(g.detach(), totals, None, 0, -1, 1, 1))
    (y * y).sum().backward()
    check(totals[0], 2 * y.detach(), low=-1, high=1)
