# SPDX-License-Identifier: Apache-2.0
"""The known answers of the stream version: what a release may never change."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import reference
import torch

import torch_init
from torch_init import _ops

ROOT = Path(__file__).parents[2]
PATH = ROOT / "tests" / "data" / f"stream_v{torch_init.STREAM_VERSION}.json"
GOLDEN = json.loads(PATH.read_text())
COMPLEX = {"complex64": "float32", "complex128": "float64"}


@pytest.fixture(scope="module")
def write_golden():
    spec = importlib.util.spec_from_file_location("write_golden", ROOT / "tools/write_golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_file_is_of_this_version():
    assert GOLDEN["stream_version"] == torch_init.STREAM_VERSION
    assert len(GOLDEN["fills"]) > 70


def test_every_tier_gives_the_answers(run_plan, write_golden):
    for answer in GOLDEN["fills"]:
        dtype = getattr(torch, COMPLEX.get(answer["dtype"], answer["dtype"]))
        shape = answer["shape"] + [2] * (answer["dtype"] in COMPLEX)
        tensor = torch.empty(shape, dtype=dtype)
        spec = answer["kind"], tuple(float(number) for number in answer["numbers"])
        run_plan([(tensor, spec, _ops.stream_key(answer["seed"], answer["name"]))])
        found = write_golden.answers(tensor)
        assert {key: answer[key] for key in found} == found, answer


def test_reference_gives_the_answers():
    """The file does not rest on the engine alone."""
    for answer in GOLDEN["fills"]:
        if answer["kind"] == "bits" or answer["shape"] != [61, 67] or answer["dtype"] in COMPLEX:
            continue
        numbers = [float(number) for number in answer["numbers"]]
        numbers = numbers[:2] if answer["kind"] == "normal" else numbers
        key = reference.fold_key(answer["seed"], answer["name"])
        dtype = getattr(torch, answer["dtype"])
        values = reference.sample((answer["kind"], *numbers), dtype, key, np.arange(4))
        size = dtype.itemsize
        bits = values.view(torch.uint8).view(-1, size).flip(1).numpy()
        assert [row.tobytes().hex() for row in bits] == answer["first"], answer


def test_reference_has_the_tables(write_golden):
    assert write_golden.table_answers() == GOLDEN["tables"]


def test_tool_reproduces_the_file(write_golden):
    previous = _ops.cpu_isa()
    assert write_golden.as_text(write_golden.golden()) == PATH.read_text()
    _ops.set_cpu_isa(previous)


def test_tool_refuses_a_changed_answer(write_golden):
    altered = json.loads(PATH.read_text())
    altered["fills"][3]["sha256"] = "0" * 64
    del altered["tables"][0]
    assert write_golden.changed(altered, GOLDEN) == [altered["fills"][3]]
    assert write_golden.changed(GOLDEN, altered) == [GOLDEN["fills"][3], GOLDEN["tables"][0]]
