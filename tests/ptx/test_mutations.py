# SPDX-License-Identifier: Apache-2.0
"""Kernels with a mistake: every barrier that is taken out, every wait, must be missed."""

import re

import pytest
import torch
from runs import KERNELS, NORMAL, fill, gibbs

# How many may be taken out unnoticed: what keeps a table from being replaced, where there is one
# table; and of two barriers in a row, between which one thread does something, either.
UNNOTICED = {"fill_one_kernel": 1, "measure_layer_kernelIf": 2, "measure_layer_kernelId": 2}
WAITS = re.compile(
    r"(?:bar\.(?:warp\.)?sync|barrier\.cluster\.\w+|cp\.async\.(?:wait|commit)"
    r"|griddepcontrol\.wait|membar)[^;]*;"
)
FOUND = "race|nothing was written|may not have started|does not wait"


@pytest.fixture
def edited(on_ptx):
    """A function that has one kernel's text replaced, for as long as the test runs."""
    changed = set()

    def edit(kernel, change):
        stem, _ = KERNELS[kernel]
        entry = entry_of(on_ptx.ptx(stem), kernel)
        assert change(entry) != entry
        changed.add(stem)
        on_ptx.load(on_ptx.ptx(stem).split(".entry")[0] + change(entry))

    yield edit
    for stem in changed:
        on_ptx.load(on_ptx.ptx(stem))


def entry_of(ptx, kernel):
    return re.search(rf"\.entry \w*{kernel}.*?^\}}", ptx, re.M | re.S)[0]


def without(text, pattern, number):
    hit = list(pattern.finditer(text))[number]
    return text[: hit.start()] + text[hit.end() :]


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k != "differences_kernel"])
def test_barriers_and_waits_that_are_taken_out_are_missed(edited, on_ptx, kernel):
    stem, run = KERNELS[kernel]
    found = WAITS.findall(entry_of(on_ptx.ptx(stem), kernel))
    count = len(found)
    assert count > 0
    if "griddepcontrol.wait;" in found:
        # As if it followed a half-step: those of grey levels never do, but wait all the same.
        on_ptx.launch_early(kernel)
    run()
    unnoticed = 0
    for number in range(count):
        edited(kernel, lambda text, number=number: without(text, WAITS, number))
        try:
            run()
        except RuntimeError as error:
            assert re.search(FOUND, str(error))
        else:
            unnoticed += 1
    assert unnoticed <= UNNOTICED.get(kernel, 0)


def test_a_contracted_sum_of_products_changes_bits(edited):
    """What -fmad=true would do to float64, whose products are rounded before they are added."""
    right = fill(NORMAL, dtype=torch.float64)[0]
    pair = re.compile(
        r"mul\.rn\.f64\s+(%fd\d+), ([^;]+);((?:[^;]*;){0,3}?)\s*add\.rn\.f64\s+(%fd\d+), \1, "
    )
    edited("fill_many_kernel", lambda text: pair.sub(r"\3 fma.rn.f64 \4, \2, ", text))
    assert (fill(NORMAL, dtype=torch.float64)[0] != right).any()


def test_a_fragment_in_other_registers_changes_states(edited):
    right = gibbs()
    rows = re.compile(r"(mma\.sync\S+ \{[^}]*\}, \{)(%r\d+), (%r\d+)")
    edited("16half_step_kernel", lambda text: rows.sub(r"\1\3, \2", text))
    assert any((a != b).any() for a, b in zip(gibbs(), right, strict=True))


def test_a_copy_waited_for_too_late(edited):
    """One group more may be pending: the step that is read may be on its way."""
    wait = re.compile(r"(?<=wait_group )\d+")
    edited("16half_step_kernel", lambda text: wait.sub(lambda n: str(int(n[0]) + 1), text))
    with pytest.raises(RuntimeError, match="race"):
        gibbs()


@pytest.mark.parametrize("size", [1, 4095, 4097, 8192])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
def test_memory_that_is_an_element_short(on_ptx, monkeypatch, dtype, size):
    fill(NORMAL, dtype=dtype, size=size)
    add = on_ptx.add_memory
    short = {size * dtype.itemsize: (size - 1) * dtype.itemsize}
    monkeypatch.setattr(
        on_ptx, "add_memory", lambda at, bytes, defined: add(at, short.get(bytes, bytes), defined)
    )
    with pytest.raises(RuntimeError, match="out of bounds"):
        fill(NORMAL, dtype=dtype, size=size)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_order_of_warps_and_blocks_does_not_matter(on_ptx, kernel):
    run = KERNELS[kernel][1]
    expected = run()
    for seed in (1, 2):
        on_ptx.configure(1, seed)
        assert all(map(torch.equal, run(), expected))
