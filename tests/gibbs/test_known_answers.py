# SPDX-License-Identifier: Apache-2.0
"""Gibbs version 1, pinned: a change of these bits breaks everybody's seeds.

    python tests/gibbs/test_known_answers.py > tests/data/gibbs_v1.json

writes the file anew from the NumPy reference.
"""

import json
import sys
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
FILE = TESTS / "data" / "gibbs_v1.json"
if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))

import gibbs_reference as reference  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from torch_init import _ops  # noqa: E402

KEY = {"seed": 2026, "name": "layer 1"}
CASES = {
    "plain": {},
    "spins": {"units": ["spin", "spin"]},
    "mixed": {"units": ["bernoulli", "spin"], "start": "hidden"},
    "cold": {"beta": 2.5},
    "late": {"first_step": 2**33, "first_chain": 4_000_000_000},
    "clamped": {"clamp": [1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0]},
}
VISIBLE, HIDDEN, CHAINS, SWEEPS = 11, 6, 8, 5


def layer():
    """Numbers that every language writes alike."""
    i, j = np.arange(VISIBLE)[:, None], np.arange(HIDDEN)
    weight = ((7 * i + 3 * j) % 11 - 5) / 3.0
    return weight, (np.arange(VISIBLE) % 5 - 2) / 7.0, (np.arange(HIDDEN) % 3 - 1) / 9.0


def first_states():
    c = np.arange(CHAINS)[:, None]
    visible = (c + np.arange(VISIBLE)) % 3 == 0
    hidden = (c + np.arange(HIDDEN)) % 2 == 0
    return visible.astype(np.uint8), hidden.astype(np.uint8)


def as_text(states):
    return ["".join(map(str, row)) for row in np.asarray(states).tolist()]


def with_reference(start="visible", units=("bernoulli", "bernoulli"), first_chain=0, **how):
    how.setdefault("first_step", 0)
    if "clamp" in how:
        how["clamp"] = np.array(how["clamp"])
    return reference.gibbs(
        reference.quantize(*layer()),
        *first_states(),
        sweeps=SWEEPS,
        start=["visible", "hidden"].index(start),
        units=tuple(unit == "spin" for unit in units),
        chain=first_chain + np.arange(CHAINS),
        **KEY,
        **how,
    )


def with_torch_init(**how):
    if "clamp" in how:
        how["clamp"] = torch.tensor(how["clamp"], dtype=torch.uint8)
    weights = _ops.quantize(*map(torch.from_numpy, layer()))
    visible, hidden = map(torch.from_numpy, first_states())
    return _ops.gibbs(weights, visible, hidden, sweeps=SWEEPS, **KEY, **how)


def known_answers():
    """What the reference says."""
    weight, _, _, shift = reference.quantize(*layer())
    words = reference.words(**KEY, chain=np.arange(2), step=1, side=1, units=HIDDEN)
    answers = {
        "gibbs_version": 1,
        "shift": shift,
        "first_weights": weight[0].tolist(),
        "words": [f"{w:08x}" for w in words.ravel()],
        "thresholds": reference.thresholds(words, shift).ravel().tolist(),
        "cases": {},
    }
    for name, how in CASES.items():
        visible, hidden = with_reference(**how)
        answers["cases"][name] = {"visible": as_text(visible), "hidden": as_text(hidden)}
    return answers


def test_reference_gives_the_known_answers():
    assert known_answers() == json.loads(FILE.read_text())


@pytest.mark.parametrize("case", CASES)
def test_torch_init_gives_the_known_answers(isa, case):
    visible, hidden = with_torch_init(**CASES[case])
    answers = json.loads(FILE.read_text())["cases"][case]
    assert as_text(visible) == answers["visible"]
    assert as_text(hidden) == answers["hidden"]


if __name__ == "__main__":
    print(json.dumps(known_answers(), indent=1))
