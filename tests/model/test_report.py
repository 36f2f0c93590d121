# SPDX-License-Identifier: Apache-2.0
"""Reports: fingerprints, comparison, and what is found to be wrong."""

import copy
import json
import math

import pytest
import torch
from torch import nn

import torch_init
from torch_init import rule


def body():
    return nn.Sequential(nn.Linear(6, 9), nn.LayerNorm(9), nn.Linear(9, 2))


def test_fingerprint_tells_any_change_of_a_bit():
    model = body()
    report = torch_init.init_(model, "he", seed=1)
    assert torch_init.fingerprint(model) == report.fingerprint
    assert len(report.fingerprint) == 32
    weight = model[2].weight.data
    for index in ((0, 0), (1, 8)):
        kept = weight[index].item()
        weight[index] = (
            math.nextafter(kept, 9.0) if weight.dtype == torch.float64 else kept * 1.0001
        )
        assert torch_init.fingerprint(model) != report.fingerprint
        weight[index] = kept
        assert torch_init.fingerprint(model) == report.fingerprint
    weight[[0, 1]] = weight[[1, 0]]
    assert torch_init.fingerprint(model) != report.fingerprint


def test_fingerprint_is_of_names_dtypes_and_shapes_too():
    class Two(nn.Module):
        def __init__(self, *names, shape=(2, 3), dtype=torch.float32):
            super().__init__()
            for name in names:
                self.register_parameter(name, nn.Parameter(torch.ones(shape, dtype=dtype)))

    same = torch_init.fingerprint(Two("a", "b"))
    assert torch_init.fingerprint(Two("b", "a")) == same  # of no order
    others = [
        Two("a", "c"),
        Two("a"),
        Two("a", "b", shape=(3, 2)),
        Two("a", "b", shape=(6,)),
        Two("a", "b", dtype=torch.bfloat16),
        Two("a", "b", dtype=torch.float64),
    ]
    assert len({torch_init.fingerprint(model) for model in others} | {same}) == len(others) + 1


def test_fingerprint_ignores_layout_and_wrappers():
    conv = nn.Conv2d(4, 6, 3)
    first = torch_init.fingerprint(conv)
    last = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    assert torch_init.fingerprint(last) == first
    assert torch_init.fingerprint(nn.DataParallel(conv)) == first


def test_diff_names_what_differs():
    one, two = body(), body()
    first = torch_init.init_(one, "he", seed=1)
    second = torch_init.init_(two, ["he", rule("2.weight", torch_init.ones_)], seed=1)
    assert first.diff(first) == []
    assert second.diff(first) == ["2.weight"]
    smaller = torch_init.init_(nn.Sequential(nn.Linear(6, 9)), "he", seed=1)
    assert smaller.diff(first) == ["1.weight", "1.bias", "2.weight", "2.bias"]
    with pytest.raises(TypeError, match=r"Report.diff: other: expected a Report, got str"):
        first.diff("x")


def test_rows_say_what_was_read():
    model = body()
    report = torch_init.init_(model, "he", seed=1)
    row = report["0.weight"]
    assert row.count == 54
    assert row.mean == pytest.approx(model[0].weight.double().mean().item(), abs=1e-12)
    assert row.std == pytest.approx(model[0].weight.double().std(correction=0).item(), rel=1e-9)
    found = json.loads(report.to_json())
    assert found["fingerprint"] == report.fingerprint
    assert [r["name"] for r in found["parameters"]] == [row.name for row in report.rows]
    text = str(report)
    assert "6 of 6 parameters initialised, 101 elements read back" in text
    assert report.fingerprint in text
    assert "all as planned" in text


def test_values_that_are_not_as_planned_are_a_problem(monkeypatch):
    """What init_ would say if the engine had failed, or somebody else's hook had written."""
    from torch_init.model.report import read_back

    model = body()
    plan = torch_init.plan(model, "he", seed=1)
    torch_init.init_(model, plan)
    assert read_back(plan).problems == []
    with torch.no_grad():
        model[0].weight[3, 2] = math.nan
        model[1].weight[0] = 1.5
        model[2].weight *= 30
    problems = read_back(plan).problems
    assert [problem.split(":")[0] for problem in problems] == ["0.weight", "1.weight", "2.weight"]
    assert "1 elements are not finite" in problems[0]
    assert "planned [1, 1]" in problems[1]
    assert "root mean square" in problems[2]
    assert "problem: 2.weight" in str(read_back(plan))


def test_parameters_of_integers_count_in_the_fingerprint():
    model = nn.Module()
    model.codes = nn.Parameter(torch.arange(6, dtype=torch.int8), requires_grad=False)
    model.mask = nn.Parameter(torch.tensor([True, False]), requires_grad=False)
    first = torch_init.fingerprint(model)
    model.codes[2] += 1
    assert torch_init.fingerprint(model) != first
    assert torch_init.init_(model, rule("*", torch_init.keep)).problems == []
