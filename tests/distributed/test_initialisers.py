# SPDX-License-Identifier: Apache-2.0
"""Every initialiser gives a DTensor the bits of the whole tensor, for any number of ranks."""

from pathlib import Path

import pytest
from ranks import run_on_ranks

CHECKS = Path(__file__).with_name("init_checks.py")


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_initialisers_on_ranks(ranks):
    run_on_ranks(ranks, CHECKS)
