# SPDX-License-Identifier: Apache-2.0
"""A whole model is the same, however it is sharded, for any number of ranks."""

from pathlib import Path

import pytest
from ranks import run_on_ranks
from torch import nn

import torch_init


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_models_on_ranks(ranks):
    run_on_ranks(ranks, Path(__file__).with_name("model_checks.py"))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_lsuv_on_ranks(ranks):
    run_on_ranks(ranks, Path(__file__).with_name("lsuv_checks.py"))


def test_one_process_has_nothing_to_gather():
    report = torch_init.init_(nn.Linear(4, 4), "he", seed=0)
    assert report.gather() is report
