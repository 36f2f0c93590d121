# SPDX-License-Identifier: Apache-2.0
"""The words of a stream: known answers, and every implementation against the reference."""

from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from cases import Bits, bits_tensor, entry, same_bits

from torch_init import _ops, _ops_keys

KAT = Path(__file__).parents[1] / "data" / "philox4x32_10.kat"
VECTORS = [
    [int(word, 16) for word in line.split()]
    for line in KAT.read_text().splitlines()
    if not line.startswith("#")
]

KEYS = [0, 1, 2**32, 2**63, 2**64 - 1, 0xA4093822299F31D0]
BLOCKS = [0, 1, 2**31, 2**32 - 1, 2**32, 2**33 + 5, 0x05A308D3243F6A88]


def stream(run_plan, key, first_word, count):
    words = bits_tensor(count)
    run_plan([entry(words, Bits(), key, first_word, (1,))])
    return words


def specified(key, first_word, count):
    index = np.arange(first_word, first_word + count, dtype=np.uint64)
    return torch.from_numpy(reference.words(key, index).astype(np.uint32))


def test_three_vectors_are_read():
    assert len(VECTORS) == 3


@pytest.mark.parametrize("vector", VECTORS, ids=["zeros", "ones", "pi"])
def test_reference_gives_known_answers(vector):
    words = reference.philox(vector[:4], vector[4:6])
    assert [int(w) for w in words] == vector[6:]


@pytest.mark.parametrize("vector", VECTORS, ids=["zeros", "ones", "pi"])
def test_folded_key_is_the_known_answers_first_half(vector, monkeypatch):
    """A key is one Philox call on any counter; tests/cpp sees all four words of the answer."""
    counter, key, answer = vector[:4], vector[4:6], vector[6:]
    monkeypatch.setattr(_ops_keys.keys, "digest", lambda name: np.array(counter, "<u4").tobytes())
    assert _ops.stream_key(key[0] + (key[1] << 32)) == answer[0] + (answer[1] << 32)


def test_stream_zero_starts_with_the_known_answer(run_plan):
    assert stream(run_plan, 0, 0, 4).tolist() == VECTORS[0][6:]


@pytest.mark.parametrize("key", KEYS, ids=hex)
def test_words_follow_the_reference(run_plan, key):
    """1001 words from inside a block on: whole registers, the rest of one, two cut blocks."""
    for block in BLOCKS:
        first = 4 * block + 3
        assert same_bits(stream(run_plan, key, first, 1001), specified(key, first, 1001)), hex(
            block
        )


def test_block_number_carries_into_its_high_half(run_plan):
    """A fill that crosses block 2**32, where the vector tiers change their key schedule."""
    for blocks_before in (1, 3, 8, 100):
        first = 4 * (2**32 - blocks_before)
        assert same_bits(stream(run_plan, 7, first, 1000), specified(7, first, 1000))


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63, 2**64 - 1, -(2**63)])
@pytest.mark.parametrize("name", ["", "fc.weight", "μ.weight", "fc.weight\0mask", "x" * 1000])
def test_keys_follow_the_reference(seed, name):
    assert _ops.stream_key(seed, name) == reference.fold_key(seed, name)


def test_pairs_of_seed_and_name_have_distinct_keys():
    """Chance that 10^4 random 64-bit keys collide: 3e-12."""
    pairs = [(seed, f"layers.{i}.weight") for seed in range(100) for i in range(100)]
    assert len({_ops.stream_key(seed, name) for seed, name in pairs}) == len(pairs)
