# SPDX-License-Identifier: Apache-2.0
"""Kernels with a mistake: every barrier that is taken out, every wait, must be missed."""

import re

import pytest
import torch

from torch_init import _ops, _ops_gibbs_cuda, _ops_statistics
from torch_init.distributions import Normal, TruncatedNormal

# Each kernel with a name of its own: what runs it, and in which file it is.
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
    weights = _ops.quantize(torch.ones(150, 40), torch.ones(150), torch.ones(40))
    visible, hidden = (torch.ones(n, dtype=torch.uint8) for n in ((130, 150), (130, 40)))
    how = {"key": 1, "half_steps": path.pop("half_steps", 3), **path}
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(weights, visible, hidden, **how)
    return visible, hidden


def statistics(dtype):
    v, h = torch.ones(100, 70, dtype=torch.uint8), torch.ones(100, 130, dtype=dtype)
    out = torch.zeros(70, 130, dtype=torch.int64)
    _ops_statistics.statistics_with_cuda_body_on_host(_ops.Term(v, h), out=out)


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
# One table is staged, and nobody has read another one before.
NEEDLESS = {"fill_one_kernel": 1}
WAITS = re.compile(r"(?:bar\.sync|barrier\.cluster\.\w+|cp\.async\.(?:wait|commit))[^;]*;")


@pytest.fixture
def edited(on_ptx):
    """A function that has one kernel's text replaced, for as long as the test runs."""
    changed = []

    def edit(kernel, change):
        stem, _ = KERNELS[kernel]
        text = on_ptx.ptx(stem)
        begin = re.search(rf"\.entry \w*{kernel}", text).start()
        end = text.find(".entry", begin + 1)
        end = len(text) if end < 0 else end
        new = change(text[begin:end])
        assert new != text[begin:end]
        changed.append(stem)
        on_ptx.load(text[:begin] + new + text[end:])

    yield edit
    for stem in changed:
        on_ptx.load(on_ptx.ptx(stem))


def without(text, pattern, number):
    hit = list(pattern.finditer(text))[number]
    return text[: hit.start()] + text[hit.end() :]


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_barrier_and_every_wait_is_needed(edited, on_ptx, kernel):
    stem, run = KERNELS[kernel]
    run()
    body = re.search(rf"\.entry \w*{kernel}.*?^\}}", on_ptx.ptx(stem), re.M | re.S)[0]
    count = len(WAITS.findall(body))
    assert count > 0
    unnoticed = 0
    for number in range(count):
        edited(kernel, lambda text, number=number: without(text, WAITS, number))
        try:
            run()
        except RuntimeError as error:
            assert re.search("race|nothing was written|may not have started", str(error))
        else:
            unnoticed += 1
    assert unnoticed == NEEDLESS.get(kernel, 0)
