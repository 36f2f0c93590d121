# SPDX-License-Identifier: Apache-2.0
"""What a verdict says, and what a report does with its verdicts."""

import pytest
from flow_networks import Odd, kinds, mlp, observe, residual_stack, without
from torch import nn

import torch_init
from torch_init.flow import UnhealthyModelError


def test_every_sentence_is_whole():
    faults = [
        mlp(20, 64, nn.Sigmoid, 1.0),
        mlp(10, 128, nn.Tanh, 128.0),
        residual_stack(30, 64),
        without(mlp(6, 128, nn.ReLU, 2.0), 3),
        nn.Sequential(mlp(4, 64, nn.ReLU, 2.0)[:6], Odd(lambda x: x / 0), nn.Linear(64, 10)),
    ]
    for model in faults:
        for verdict in observe(model).verdicts:
            text = str(verdict)
            assert text.startswith(verdict.kind) and text.endswith(".")
            assert ".." not in text and "None" not in text and "  " not in text
            assert verdict.layer and verdict.measured and verdict.cause and verdict.suggestion
            assert verdict.expected


def test_no_forward_pass_is_not_healthy():
    with torch_init.watch(mlp(2, 8, nn.ReLU, 2.0)) as flow:
        pass
    report = flow.report()
    assert kinds(report) == ["no_data"]
    with pytest.raises(UnhealthyModelError, match="no forward pass"):
        report.assert_healthy()


def test_assert_healthy_can_ignore():
    report = observe(mlp(10, 256, nn.Tanh, 256.0))
    with pytest.raises(UnhealthyModelError, match="saturated"):
        report.assert_healthy(ignore=["exploding"])
    report.assert_healthy(ignore=("exploding", "saturated"))
    with pytest.raises(ValueError, match=r"Report\.assert_healthy: ignore"):
        report.assert_healthy(ignore=["sleeping"])
