# SPDX-License-Identifier: Apache-2.0
"""The boxes of a DTensor's local shard, and what has none."""

from pathlib import Path

import pytest
import torch
from init_cases import refused
from ranks import run_on_ranks
from torch import nn

from torch_init import distributed

CHECKS = Path(__file__).with_name("boxes_checks.py")


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6])
def test_boxes_on_ranks(ranks):
    run_on_ranks(ranks, CHECKS)


def test_an_ordinary_tensor_is_one_box():
    tensor = torch.empty(3, 5)
    ((view, offset),) = distributed.boxes("normal_", tensor)
    assert view is tensor and offset == (0, 0)
    assert distributed.boxes("normal_", torch.empty(0, 5)) == []


def test_a_parameter_partitioned_by_zero3_is_refused():
    parameter = nn.Parameter(torch.empty(0))
    parameter.ds_id, parameter.ds_shape = 0, torch.Size((3, 5))
    assert distributed.logical_shape(parameter) == (3, 5)
    refused(
        lambda: distributed.boxes("normal_", parameter),
        ValueError,
        "normal_",
        "tensor",
        "shape \\(3, 5\\) that DeepSpeed ZeRO-3 partitioned",
        "holds values",
        "GatheredParameters",
    )
    parameter.data = torch.empty(3, 5)  # as inside GatheredParameters
    assert len(distributed.boxes("normal_", parameter)) == 1
