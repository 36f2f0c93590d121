# SPDX-License-Identifier: Apache-2.0
"""Reports: fingerprints, comparison, and what is found to be wrong."""

import copy
import json
import math
import subprocess
import sys

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
    assert second.diff(first.to_json()) == ["2.weight"]
    assert torch_init.report(two).diff(second) == []
    for wrong in ("x", "{}", two, None):
        with pytest.raises(TypeError, match=r"Report.diff: other: expected a Report, or the JSON"):
            first.diff(wrong)


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
    assert "moments as planned" in text


def test_values_that_are_not_as_planned_are_a_problem(monkeypatch):
    """What init_ would say if the engine had failed, or somebody else's hook had written."""
    from torch_init.model.read_back import read_back

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


def test_departures_of_any_size_are_judged_by_chance():
    """At 5 standard errors nothing is said, at 9 something is, whatever the dtype's rounding."""
    from torch_init.distributions import Normal
    from torch_init.model.expectations import expect
    from torch_init.model.report import Reading, ReportRow, departure

    n, e = 10_000, expect(Normal(0.0, 0.5), (100, 100), torch.float32)
    for errors, found in ((5, False), (-5, False), (9, True), (-9, True)):
        square = e.square_sum + errors * math.sqrt(e.square_sum_variance)
        row = ReportRow("w", (100, 100), "float32", expectation=e, elements=n)
        row.readings = {(0, (0, 0), (100, 100)): Reading(n, 0.0, square, -2.0, 2.0, 0, 0)}
        assert bool(departure(row)) == found, errors
        total = errors * math.sqrt(e.sum_variance)
        reading = Reading(n, total, e.square_sum, -2.0, 2.0, 0, 0)
        row.readings = {(0, (0, 0), (100, 100)): reading}
        assert bool(departure(row)) == found, errors


def test_reports_of_renamed_models_agree():
    def rename(name):
        return "stage." + name

    model = body()
    report = torch_init.init_(model, "he", rename=rename)
    assert torch_init.fingerprint(model, rename) == report.fingerprint
    assert torch_init.fingerprint(model) != report.fingerprint
    assert torch_init.report(model, rename).diff(report) == []


def test_originals_of_a_parametrised_tensor_are_told_apart():
    class Sum(nn.Module):
        def forward(self, a, b):
            return a + 2 * b

        def right_inverse(self, w):
            return w / 3, w / 3

    layer = nn.Linear(3, 3)
    nn.utils.parametrize.register_parametrization(layer, "weight", Sum())
    originals = layer.parametrizations.weight
    originals.original0.data = torch.randn(3, 3)
    first = torch_init.fingerprint(layer)
    kept = originals.original0.data.clone()
    originals.original0.data = originals.original1.data.clone()
    originals.original1.data = kept
    assert torch_init.fingerprint(layer) != first


CRASHES = {
    "meta": "nn.Linear(4, 4, device='meta')",
    "partly meta": "nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, device='meta'))",
    "fake": "fake()",
    "wrapper": "wrapped()",
}
PRELUDE = """
import torch, torch_init
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

def fake():
    with FakeTensorMode():
        return nn.Linear(4, 4)

def wrapped():
    model = nn.Linear(4, 4)
    model.weight = nn.Parameter(TwoTensor(torch.zeros(4, 4), torch.zeros(4, 4)))
    return model

rule = torch_init.rule
keep_weights = [rule("*", torch_init.zeros_), rule("*weight", torch_init.keep)]
for call in (
    torch_init.fingerprint,
    lambda model: torch_init.init_(model, torch_init.rule("*", torch_init.zeros_)),
    lambda model: torch_init.init_(model, torch_init.rule("*", torch_init.normal_)),
    lambda model: torch_init.init_(model, keep_weights).problems,
):
    try:
        print("gave", call(MODEL))
    except (TypeError, ValueError) as error:
        print("refused", error)
"""


@pytest.mark.parametrize("kind", CRASHES)
def test_memory_that_cannot_be_reached_is_never_touched(kind, tmp_path):
    """In a process of its own: a null or foreign pointer would end this one."""
    script = PRELUDE.replace("MODEL", CRASHES[kind])
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stdout
    assert all(line.startswith("refused torch_init.") for line in lines[:3]), done.stdout


def test_kept_parameters_that_cannot_be_read_are_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, device="meta"))
    report = torch_init.init_(model, [rule("*", torch_init.zeros_), rule("1.*", torch_init.keep)])
    assert report["1.weight"].unread == "on the meta device"
    assert not report.complete
    assert "not read: 1.weight (on the meta device), 1.bias (on the meta device)" in str(report)
    assert "left alone: 1.weight (keep), 1.bias (keep)" in str(report)


def test_floats_without_kernels_are_read_by_their_bits():
    model = nn.Linear(4, 4, bias=False)
    model.codes = nn.Parameter(torch.zeros(8).to(torch.float8_e4m3fnuz), requires_grad=False)
    report = torch_init.init_(
        model, [rule("*", torch_init.normal_), rule("codes", torch_init.keep)]
    )
    assert report.problems == []
    model.codes.data.view(torch.uint8)[3] = 7
    assert torch_init.report(model).diff(report) == ["codes"]


def test_rules_that_match_nothing_are_warned_about_and_noted():
    model = nn.Linear(4, 4)
    rules = ["he", rule("*.wieght", torch_init.zeros_)]
    with pytest.warns(UserWarning, match=r"init_: rule \*.wieght: matches no parameter"):
        report = torch_init.init_(model, rules)
    assert "note: rule *.wieght: matches no parameter" in str(report)
    assert report.problems == []


def test_misspelt_rows_are_suggested():
    model = nn.Linear(4, 4)
    for rows in (torch_init.plan(model, "he"), torch_init.init_(model, "he")):
        with pytest.raises(KeyError, match="did you mean 'weight'"):
            rows["wieght"]


def test_parameters_of_integers_count_in_the_fingerprint():
    model = nn.Module()
    model.codes = nn.Parameter(torch.arange(6, dtype=torch.int8), requires_grad=False)
    model.mask = nn.Parameter(torch.tensor([True, False]), requires_grad=False)
    first = torch_init.fingerprint(model)
    model.codes[2] += 1
    assert torch_init.fingerprint(model) != first
    assert torch_init.init_(model, rule("*", torch_init.keep)).problems == []


def test_json_of_a_parameter_without_elements_has_no_nan():
    report = torch_init.init_(nn.Linear(0, 3), rule("*", torch_init.zeros_))
    assert "NaN" not in report.to_json()
    assert report["weight"].as_dict()["mean"] is None


def test_freed_memory_is_an_error_and_no_crash():
    model = nn.Linear(400, 400)
    model.weight.untyped_storage().resize_(0)
    for call in (
        lambda: torch_init.fingerprint(model),
        lambda: torch_init.init_(model, rule("*", torch_init.zeros_)),
        lambda: torch_init.init_(model, "he"),
        lambda: torch_init.normal_(model.weight, seed=0),
    ):
        with pytest.raises(ValueError, match="whose memory has been freed"):
            call()
