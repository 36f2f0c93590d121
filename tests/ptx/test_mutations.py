# SPDX-License-Identifier: Apache-2.0
"""Kernels with a mistake: every barrier that is taken out, every wait, must be missed."""

import re

import pytest
import torch

from torch_init import _ops, _ops_gibbs_cuda, _ops_statistics
from torch_init.distributions import Normal, TruncatedNormal

NORMAL = Normal(0.0, 1.0).spec()
SKEWED = TruncatedNormal.in_sigmas(0.0, 1.0, -1.0, 3.0).spec()


def fill(*specs, dtype=torch.float32, size=9001, count=1):
    tensors = [(torch.zeros(size, dtype=dtype), spec, 3) for spec in specs for _ in range(count)]
    _ops.FillPlan(tensors).run_cuda_body_on_host(0)
    return [tensor for tensor, *_ in tensors]


def measure():
    entries = [(torch.ones(70_003),) for _ in range(9)]
    _ops.measure_with_cuda_body_on_host(entries, 0)


def flow():
    x = torch.ones(3000, 97)
    totals, features = (torch.zeros(n, dtype=torch.float64) for n in ((2, 76), (3, 97)))
    _ops.accumulate_with_cuda_body_on_host(x, totals, features, 1, -1.0, 0.5, 9, None, None)


def gibbs(**path):
    """As many sources as four stages and one have, chains for two tiles."""
    generator = torch.Generator().manual_seed(0)
    numbers = [torch.randn(n, generator=generator) for n in ((150, 40), 150, 40, (130, 150))]
    weights = _ops.quantize(*numbers[:3])
    visible, hidden = (numbers[3] > 0).to(torch.uint8), torch.ones(130, 40, dtype=torch.uint8)
    how = {"key": 1, "half_steps": path.pop("half_steps", 3), **path}
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(weights, visible, hidden, **how)
    return visible, hidden


def statistics(dtype):
    v, h = torch.ones(100, 70, dtype=torch.uint8), torch.ones(100, 130, dtype=dtype)
    out = torch.zeros(70, 130, dtype=torch.int64)
    _ops_statistics.statistics_with_cuda_body_on_host(_ops.Term(v, h), out=out)


# Each kernel's file, and what runs it.
KERNELS = {
    "fill_one_kernel": ("fill_cuda", lambda: fill(NORMAL)),
    "fill_many_kernel": ("fill_cuda", lambda: fill(NORMAL, SKEWED, NORMAL, count=9)),
    "measure_chunks_kernel": ("measure_cuda", measure),
    "add_up_chunks_kernel": ("measure_cuda", measure),
    "read_flow_kernel": ("flow_cuda", flow),
    "add_up_flow_kernel": ("flow_cuda", flow),
    "statistics_kernelIh": ("statistics_cuda", lambda: statistics(torch.uint8)),
    "statistics_kernelIs": ("statistics_cuda", lambda: statistics(torch.int16)),
    "16half_step_kernel": ("gibbs_cuda", gibbs),
    "grey_half_step_kernel": ("gibbs_cuda", lambda: gibbs(half_steps=1, levels=255)),
    "split_half_step_kernel": ("gibbs_cuda", lambda: gibbs(split=True)),
    "cluster_kernelILi8E": ("gibbs_cluster_cuda", lambda: gibbs(clusters=(1, 8))),
    "cluster_kernelILi16E": ("gibbs_cluster_cuda", lambda: gibbs(clusters=(1, 16))),
    "cluster_kernelILi32E": ("gibbs_cluster_cuda", lambda: gibbs(clusters=(2, 32))),
}
# Of one kernel, as some are there for what these runs do not: a second table, a launch before.
MOST_UNNOTICED = 2
WAITS = re.compile(
    r"(?:bar\.(?:warp\.)?sync|barrier\.cluster\.\w+|cp\.async\.(?:wait|commit)"
    r"|griddepcontrol\.wait)[^;]*;"
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


@pytest.mark.parametrize("kernel", KERNELS)
def test_barriers_and_waits_that_are_taken_out_are_missed(edited, on_ptx, kernel):
    stem, run = KERNELS[kernel]
    run()
    count = len(WAITS.findall(entry_of(on_ptx.ptx(stem), kernel)))
    assert count > 0
    unnoticed = 0
    for number in range(count):
        edited(kernel, lambda text, number=number: without(text, WAITS, number))
        try:
            run()
        except RuntimeError as error:
            assert re.search(FOUND, str(error))
        else:
            unnoticed += 1
    assert unnoticed <= min(MOST_UNNOTICED, count - 1)


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
@pytest.mark.parametrize("seed", range(2))
def test_the_order_of_warps_does_not_matter(on_ptx, kernel, seed):
    on_ptx.configure(1, seed)
    KERNELS[kernel][1]()
