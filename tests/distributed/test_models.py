# SPDX-License-Identifier: Apache-2.0
"""A whole model is the same, however it is sharded, for any number of ranks."""

from pathlib import Path

import pytest
from ranks import run_on_ranks

CHECKS = Path(__file__).with_name("model_checks.py")


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_models_on_ranks(ranks):
    run_on_ranks(ranks, CHECKS)
