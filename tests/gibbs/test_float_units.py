# SPDX-License-Identifier: Apache-2.0
"""Units with floating-point fields: against NumPy, the float law, and the CUDA body."""

import gibbs_reference as reference
import numpy as np
import pytest
import torch
from reference import fma32, quantile32
from scipy import stats

from torch_init import _ops, _ops_float_units, _ops_gibbs

KEY = {"seed": 9, "name": "rbm", "first_chain": 3, "step": 5}
SIZES = [(0, 4), (4, 0), (1, 1), (7, 13), (300, 50)]
INF = float("inf")


def fields(*size, scale=3.0):
    return scale * torch.randn(size, generator=torch.Generator().manual_seed(0))


def words(chains, units, side):
    chain = 3 + np.arange(chains)
    return reference.words(9, "rbm", chain, 5, ("visible", "hidden").index(side), units)


def quantile(w, bounds):
    return quantile32(w.ravel(), bounds).reshape(w.shape)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", ["visible", "hidden"])
def test_bernoulli(isa, size, side):
    x = fields(*size)
    found = _ops.sample_bernoulli(x, side=side, **KEY)
    np.testing.assert_array_equal(
        found.numpy(), x.numpy() > quantile(words(*size, side), "logistic")
    )


@pytest.mark.parametrize("size", SIZES)
def test_gaussian(isa, size):
    x, std = fields(*size), torch.rand(size[1]) + 0.1
    found = _ops.sample_gaussian(x, std, **KEY)
    q = quantile(words(*size, "visible"), (-INF, INF))
    np.testing.assert_array_equal(found.numpy(), fma32(q, std.numpy(), x.numpy()))


@pytest.mark.parametrize("size", SIZES)
def test_nrelu(isa, size):
    x = fields(*size)
    found = _ops.sample_nrelu(x, **KEY).numpy()
    q = quantile(words(*size, "hidden"), (-INF, INF))
    std = torch.sigmoid(x.double()).sqrt().float().numpy()
    expected = np.maximum(fma32(q, std, x.numpy()), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("categories", [1, 2, 5, 300])
def test_softmax(isa, categories):
    x = fields(40, 6, categories)
    found = _ops.sample_softmax(x, **KEY)
    assert (found.sum(2) == 1).all()
    u = (words(40, 6, "visible").astype(np.float64) + 0.5) / 2**32
    p = torch.softmax(x.double(), 2).numpy().cumsum(2)
    np.testing.assert_array_equal(found.argmax(2).numpy(), (p <= u[..., None]).sum(2))


def test_bernoulli_is_what_exact_chains_sample():
    """The float path of a field that fixed point holds exactly."""
    bias = torch.arange(-20, 20) / 8
    weights = _ops.quantize(torch.zeros(3, 40), torch.zeros(3), bias)
    exact = _ops.sample_hidden(weights, torch.zeros(50, 3, dtype=torch.uint8), **KEY)
    assert torch.equal(_ops.sample_bernoulli(bias.expand(50, 40), **KEY), exact)


def test_laws():
    n = 20_000
    key = {"seed": 4}
    x = torch.tensor([-0.5, 0.0, 1.5])
    many = x.expand(n, 3)
    relu = _ops.sample_nrelu(many, **key).numpy()
    gauss = _ops.sample_gaussian(many, 0.5, **key).numpy()
    for i, field in enumerate(x.tolist()):
        std = 1 / np.sqrt(1 + np.exp(-field))
        off = stats.norm.cdf(-field / std)
        assert abs((relu[:, i] == 0).mean() - off) < 4.5 * np.sqrt(off * (1 - off) / n)
        on = relu[relu[:, i] > 0, i]
        law = stats.truncnorm(-field / std, np.inf, field, std)
        assert stats.kstest(on, law.cdf).pvalue > 1e-3
        assert stats.kstest(gauss[:, i], stats.norm(field, 0.5).cdf).pvalue > 1e-3
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0])
    counts = _ops.sample_softmax(logits.expand(n, 1, 4), **key).sum((0, 1)).numpy()
    assert stats.chisquare(counts, torch.softmax(logits.double(), 0).numpy() * n).pvalue > 1e-3


def test_extreme_fields():
    x = torch.tensor([[-1e30, -500.0, 500.0, 1e30]]).expand(1000, 4)
    assert torch.equal(_ops.sample_bernoulli(x, seed=0), (x > 0).to(torch.uint8))
    relu = _ops.sample_nrelu(x, seed=0)
    assert not relu[:, :2].any()
    assert torch.allclose(relu[:, 2], torch.tensor(500.0), atol=10)
    one_hot = _ops.sample_softmax(torch.tensor([-INF, 0.0, -INF]).expand(1000, 1, 3), seed=0)
    assert (one_hot.argmax(2) == 1).all()


def test_parts_of_a_batch():
    x = fields(50, 9)
    whole = _ops.sample_gaussian(x, seed=1)
    part = _ops.sample_gaussian(x[20:], seed=1, first_chain=20)
    assert torch.equal(part, whole[20:])


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "nrelu", "softmax"])
def test_cuda_body(isa, kind):
    x = fields(13, 9, 5) if kind == "softmax" else fields(13, 9)
    std = torch.rand(9) if kind == "gaussian" else None
    how = {"side": "hidden", **KEY}
    sample = getattr(_ops, f"sample_{kind}")
    expected = sample(x, std, **how) if kind == "gaussian" else sample(x, **how)
    out = torch.empty_like(expected)
    _ops_float_units.sample_float_with_cuda_body_on_host(
        kind,
        x,
        out,
        std,
        key=_ops_gibbs.stream_key(9, "rbm"),
        first_chain=3,
        step=5,
        side="hidden",
        blocks=3,
    )
    assert torch.equal(out, expected)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"sample_softmax: field: expected"):
        _ops.sample_softmax(fields(3, 4), seed=0)
    with pytest.raises(ValueError, match="first_chain"):
        _ops.sample_bernoulli(fields(3, 4), seed=0, first_chain=2**32)


@pytest.mark.parametrize("sample", ["sample_bernoulli", "sample_gaussian", "sample_nrelu"])
@pytest.mark.parametrize("size", [(), (3,), (2, 3, 4)])
def test_refuses_fields_that_are_no_matrix(sample, size):
    with pytest.raises(ValueError, match=f"{sample}: field: expected .chains, units."):
        getattr(_ops, sample)(torch.zeros(size), seed=0)
