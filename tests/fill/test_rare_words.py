# SPDX-License-Identifier: Apache-2.0
"""Words that a random fill would hardly meet: every segment of the tables, and the extremes."""

from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from cases import DISTRIBUTIONS, Bits, bits_tensor, entry, in_reference_terms, same_bits

from torch_init import _ops

FILE = Path(__file__).parents[1] / "data" / "rare_words.txt"
LINES = [line.split() for line in FILE.read_text().splitlines() if not line.startswith("#")]
INDEX = [int(index) for index, _ in LINES]
WORD = [int(word, 16) for _, word in LINES]
KEY = _ops.stream_key(0, "")


def fill_one_by_one(run_plan, tensor, distribution, index):
    parts = tensor.split(1)
    run_plan([entry(p, distribution, KEY, i, (1,)) for p, i in zip(parts, index, strict=True)])


def segment(word):
    """(half, segment), as section 5 of the specification has them."""
    x = np.float32(word & 0x7FFFFFFF) + np.float32(0.5)
    return word >> 31, (int(x.view(np.int32)) >> 21) - 504


def test_every_segment_is_there():
    without_words = (1, 2, 3, 4, 5, 7, 8, 10)
    inhabited = [s for s in range(129) if s not in without_words]
    assert {segment(word) for word in WORD} == {(half, s) for half in (0, 1) for s in inhabited}
    assert {0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF} <= set(WORD)


def test_words(run_plan):
    words = bits_tensor(len(WORD))
    fill_one_by_one(run_plan, words, Bits(), INDEX)
    assert words.tolist() == WORD


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
def test_values_follow_the_reference(run_plan, distribution):
    """In float64 the words are the upper or the lower half of the 64 bits."""
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        index = [i // 2 for i in INDEX] if dtype == torch.float64 else INDEX
        values = torch.empty(len(index), dtype=dtype)
        fill_one_by_one(run_plan, values, distribution, index)
        terms = in_reference_terms(distribution)
        assert same_bits(values, reference.sample(terms, dtype, KEY, index)), dtype
