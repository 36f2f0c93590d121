# SPDX-License-Identifier: Apache-2.0
"""A step of the weights: docs/gibbs.md, section 8, in NumPy, bit for bit."""

import numpy as np
import pytest
import torch

from torch_init import _ops

SIZES = [(0, 3), (3, 0), (1, 1), (17, 5), (130, 70), (64, 129)]


def uniform(*size, seed):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)) - 0.5


def problem(visible, hidden, dtype=torch.int32, seed=0):
    pairs = (10_000 * uniform(visible, hidden, seed=seed)).to(dtype)
    vectors = [uniform(n, seed=seed + k) for k, n in enumerate((visible, hidden) * 3)]
    slope = _ops.Slope(pairs, 1 / 12_000, *vectors[:4])
    pace = _ops.Pace(0.05, 0.9, 1e-3, 1e-4, vectors[5], vectors[4])
    weight = uniform(hidden, visible, seed=seed + 9)
    weight[:, :1] = 0  # whose sign is 0
    return weight, uniform(hidden, visible, seed=seed + 8), slope, pace


def reference(weight, velocity, slope, pace):
    """(weight, velocity, gradient, visible shift, hidden shift), float32 in the written order."""
    f = np.float32
    w, vel = weight.numpy(), velocity.numpy()
    names = ("visible", "hidden", "visible_offset", "hidden_offset")
    dv, dh, mu, lam = (getattr(slope, name).numpy() for name in names)
    g = slope.pairs.numpy().T.astype(f) * f(slope.scale) - np.outer(dh, mu)
    g = g - np.outer(lam, dv)
    visible = np.zeros(w.shape[1], f)
    for first in range(0, len(w), 64):
        part = np.zeros(w.shape[1], f)
        for j in range(first, min(first + 64, len(w))):
            part = part + g[j] * lam[j]
        visible = visible + part
    hidden = np.zeros(len(w), f)
    for j in range(len(w)):
        lanes = np.zeros(16, f)
        terms = np.pad(g[j] * mu, (0, -w.shape[1] % 16)).reshape(-1, 16)
        for row in terms:
            lanes = lanes + row
        while len(lanes) > 1:
            lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
        hidden[j] = lanes[0]
    change = g - w * f(pace.decay)
    change = change - np.sign(w) * f(pace.l1)
    change = (change + np.outer(pace.pull.numpy(), pace.visible_mean.numpy())) * f(pace.rate)
    vel = vel * f(pace.momentum) + change
    return w + vel, vel, g, visible, hidden


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32])
@pytest.mark.parametrize(("visible", "hidden"), SIZES)
def test_is_the_formula(isa, visible, hidden, dtype):
    weight, velocity, slope, pace = problem(visible, hidden, dtype)
    want = reference(weight, velocity, slope, pace)
    gradient = torch.empty_like(weight)
    shifts = _ops.ascend(weight, velocity, slope, pace, gradient)
    for found, expected in zip((weight, velocity, gradient, *shifts), want, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)


def test_threads_change_nothing(isa):
    found = []
    for threads in (1, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        weight, velocity, slope, pace = problem(700, 600)
        shifts = _ops.ascend(weight, velocity, slope, pace)
        torch.set_num_threads(before)
        found.append((weight, velocity, *shifts))
    assert all(map(torch.equal, *found))


def test_without_velocity_the_last_step_is_forgotten(isa):
    weight, velocity, slope, pace = problem(50, 20)
    other = weight.clone()
    _ops.ascend(weight, velocity.zero_(), slope, pace)
    _ops.ascend(other, None, slope, pace)
    assert torch.equal(weight, other)


def test_wrong_arguments():
    weight, velocity, slope, pace = problem(5, 4)
    with pytest.raises(ValueError, match=r"ascend: velocity: expected .* got"):
        _ops.ascend(weight, velocity.T, slope, pace)
    with pytest.raises(ValueError, match=r"ascend: weight: .* torch.float32"):
        _ops.ascend(weight.double(), None, slope, pace)
