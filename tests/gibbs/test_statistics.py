# SPDX-License-Identifier: Apache-2.0
"""v^T h of binary states, grey levels and means in fixed point."""

import pytest
import torch

from torch_init import _ops, _ops_device


def cuda_body(*terms, **how):
    with _ops_device.cuda_bodies_on_host():
        return _ops.statistics(*terms, **how)


def states(chains, units, seed):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(chains, units, generator=generator) < 0.9).to(torch.uint8)


def levels(chains, units, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (chains, units), generator=generator, dtype=torch.uint8)


def means(chains, units, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 32768, (chains, units), generator=generator).to(torch.int16)


def expected(visible, hidden):
    return visible.T.double() @ hidden.double()


def sums(visible, hidden):
    return torch.cat([states.sum(0, dtype=torch.int64) for states in (visible, hidden)])


def check(found, visible, hidden):
    assert torch.equal(found.pairs.double(), expected(visible, hidden))
    assert torch.equal(found.sums, sums(visible, hidden)[None])


@pytest.mark.parametrize("chains", [0, 1, 100, 255, 256, 700])
@pytest.mark.parametrize(("visible", "hidden"), [(0, 5), (5, 0), (1, 1), (70, 130), (129, 600)])
def test_statistics(isa, chains, visible, hidden):
    v = states(chains, visible, 0)
    for h in (states(chains, hidden, 1), means(chains, hidden, 1)):
        check(_ops.statistics(_ops.Term(v, h)), v, h)


@pytest.mark.parametrize("chains", [1, 255, 256, 257, 700])
def test_grey_levels(isa, chains):
    """At 257 chains a sum can exceed 32 bits."""
    v = levels(chains, 30, 0)
    v[:, 0] = 255
    for h in (states(chains, 70, 1), means(chains, 70, 1).fill_(32767)):
        out = torch.empty(30, 70, dtype=torch.int64)
        check(_ops.statistics(_ops.Term(v, h, 255), out=out, accumulate=False), v, h)


def test_means_of_many_chains_need_64_bits(isa):
    v = torch.ones(70_000, 2, dtype=torch.uint8)
    h = torch.full((70_000, 3), 32767, dtype=torch.int16)
    out = torch.zeros(2, 3, dtype=torch.int64)
    check(_ops.statistics(_ops.Term(v, h), out=out), v, h)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("hidden", [states, means])
def test_parts_add_up(isa, dtype, hidden):
    v, h = states(600, 40, 0), hidden(600, 90, 1)
    out = torch.zeros(40, 90, dtype=dtype)
    _ops.statistics(_ops.Term(v[:37], h[:37]), out=out)
    _ops.statistics(_ops.Term(v[37:], h[37:]), out=out)
    assert torch.equal(out.double(), expected(v, h))
    _ops.statistics(_ops.Term(v, h, weight=-1), out=out)
    assert not out.any()
    _ops.statistics(_ops.Term(v, h, weight=7), out=out)
    _ops.statistics(_ops.Term(v[:5], h[:5], weight=-3), out=out, accumulate=False)
    assert torch.equal(out.double(), -3 * expected(v[:5], h[:5]))


def test_two_terms_are_added_up(isa):
    """A data phase of grey levels less a model's of states."""
    grey, v = levels(90, 40, 0), states(70, 40, 1)
    h, last = means(90, 130, 2), means(70, 130, 3)
    out = torch.empty(40, 130, dtype=torch.int64)
    terms = _ops.Term(grey, h, 255, 7), _ops.Term(v, last, 1, -255 * 9)
    found = _ops.statistics(*terms, out=out, accumulate=False)
    assert torch.equal(out.double(), 7 * expected(grey, h) - 255 * 9 * expected(v, last))
    assert torch.equal(found.sums, torch.stack([sums(grey, h), sums(v, last)]))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("kind", [states, means])
@pytest.mark.parametrize("chains", [0, 1, 33, 100])
@pytest.mark.parametrize(("visible", "hidden"), [(0, 5), (5, 0), (1, 1), (70, 130), (129, 257)])
def test_cuda_body(dtype, kind, chains, visible, hidden):
    v, h = states(chains, visible, 0), kind(chains, hidden, 1)
    out = torch.full((visible, hidden), 7, dtype=dtype)
    found = cuda_body(_ops.Term(v, h, weight=-3), out=out)
    assert torch.equal(out.double(), 7 - 3 * expected(v, h))
    assert torch.equal(found.sums[0, : len(found.pairs)], v.sum(0, dtype=torch.int64))
    assert torch.equal(found.sums[0, len(found.pairs) :], h.sum(0, dtype=torch.int64))
    few = _ops.Term(v[:7], h[:7], weight=-5)
    found = cuda_body(_ops.Term(v, h, weight=7), few, out=out, accumulate=False)
    assert torch.equal(out.double(), 7 * expected(v, h) - 5 * expected(v[:7], h[:7]))
    assert torch.equal(found.sums[1, : len(found.pairs)], v[:7].sum(0, dtype=torch.int64))
    assert torch.equal(found.sums[1, len(found.pairs) :], h[:7].sum(0, dtype=torch.int64))


def test_cuda_body_of_terms_of_two_kinds():
    grey, v = levels(90, 40, 0), states(70, 40, 1)
    terms = _ops.Term(grey, means(90, 130, 2), 255, 7), _ops.Term(v, states(70, 130, 3), 1, -5)
    found, want = (f(*terms, out=torch.ones(40, 130).long()) for f in (cuda_body, _ops.statistics))
    assert torch.equal(found.pairs, want.pairs)
    assert torch.equal(found.sums, want.sums)


def test_cuda_body_of_more_chains_than_32_bits_hold():
    """Of the greatest levels and means: 40000 * 255 * 255 > 2^31."""
    v = torch.full((40_000, 2), 255, dtype=torch.uint8)
    h = torch.full((40_000, 3), 32767, dtype=torch.int16)
    out = torch.empty(2, 3, dtype=torch.int64)
    term = _ops.Term(v, h, 255)
    cuda_body(term, out=out, accumulate=False)
    assert torch.equal(out.double(), expected(v, h))


@pytest.mark.parametrize(
    ("terms", "argument"),
    [
        ([_ops.Term(states(5, 7, 0), means(4, 3, 0))], "hidden"),
        ([_ops.Term(states(5, 7, 0), means(5, 3, 0)[0])], "hidden"),
        ([_ops.Term(states(5, 7, 0), states(5, 3, 0)), _ops.Term(states(5, 6, 0), states(5, 3, 0))],
         "terms"),
        ([_ops.Term(states(5, 7, 0), states(5, 3, 0)), _ops.Term(states(5, 7, 0), means(5, 2, 0))],
         "terms"),
    ],
    ids=["too few chains", "one chain", "fewer visible units", "fewer hidden units"],
)  # fmt: skip
def test_terms_that_do_not_fit_are_refused_before_memory_is_read(terms, argument):
    with pytest.raises(ValueError, match=f"statistics: {argument}"):
        _ops.statistics(*terms)
