# SPDX-License-Identifier: Apache-2.0
"""Healthy networks get no verdict, and stay away from the limits of all of them.

benchmarks/flow_false_alarms.py does the same from more seeds, and has the figures.
"""

import importlib.util
from pathlib import Path

import pytest
from flow_zoo import HEALTHY, healthy

import torch_init

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "flow_false_alarms.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("flow_false_alarms", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", HEALTHY)
def test_no_limit_is_near(script, name):
    closest, alarms, runs = script.measure([name], seeds=1)
    assert not alarms and runs == 1
    # The spectrum of untrained weights is the one quantity whose values lie near their limit.
    near = {limit: found for limit, found in closest.items() if found[0] > 0.8}
    assert set(near) <= {"largest singular value"}, near
    assert len(closest) >= 4


@pytest.mark.parametrize("name", ["he-relu", "resnet", "vit"])
def test_the_report_says_ok_and_nothing_else(name):
    model, inputs, loss = healthy(name, 1)
    report = torch_init.check(model, inputs, loss, verbose=False)
    assert [v.kind for v in report.verdicts] == ["ok"], str(report)
    report.assert_healthy()
