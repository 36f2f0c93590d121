# SPDX-License-Identifier: Apache-2.0
"""Training on 1, 2 and 4 gloo processes; the checks are in parallel_checks.py."""

from pathlib import Path

import pytest
from ranks import run_on_ranks


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_data_parallel_training(ranks):
    run_on_ranks(ranks, Path(__file__).with_name("parallel_checks.py"))
