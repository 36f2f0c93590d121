# SPDX-License-Identifier: Apache-2.0
"""tests/ranks.py itself: what goes wrong on a rank must not pass, and must end."""

import time

import pytest
from ranks import run_on_ranks


def test_a_failing_rank_fails_the_test(tmp_path):
    file = tmp_path / "checks.py"
    file.write_text("def check_one(rank, ranks):\n    assert rank != 1, 'of rank one'\n")
    with pytest.raises(AssertionError) as caught:
        run_on_ranks(2, file)
    assert "rank 1 ended with 1\n" in str(caught.value)
    assert "AssertionError: of rank one" in str(caught.value)


def test_a_rank_that_waits_in_vain_is_ended(tmp_path):
    file = tmp_path / "checks.py"
    file.write_text(
        "import time\ndef check_one(rank, ranks):\n    time.sleep(100 * rank)  # rank 0 is done\n"
    )
    start = time.monotonic()
    with pytest.raises(AssertionError, match="2 ranks took over 5 s"):
        run_on_ranks(2, file, limit=5)
    assert time.monotonic() - start < 50  # ends only when all ranks have
