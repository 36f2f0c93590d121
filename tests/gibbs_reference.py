# SPDX-License-Identifier: Apache-2.0
"""docs/gibbs.md in NumPy: an independent implementation that every tier is compared with."""

import numpy as np
from reference import fold_key, philox, quantile32

VISIBLE, HIDDEN = 0, 1


def quantize(weight, visible_bias, hidden_bias):
    """Integers of a layer and their shift, by trying every shift from 26 downwards."""
    arrays = [np.asarray(x, np.float64) for x in (weight, visible_bias, hidden_bias)]
    shift = 26
    while True:
        w, b, c = (np.rint(np.ldexp(x, shift)) for x in arrays)
        visible = np.abs(b) + np.abs(w).sum(axis=1)
        hidden = np.abs(c) + np.abs(w).sum(axis=0)
        weights_fit = np.abs(w).max(initial=0) <= 2**23 - 2**16
        if weights_fit and max(visible.max(initial=0), hidden.max(initial=0)) <= 2**30 - 1:
            return w.astype(np.int64), b.astype(np.int64), c.astype(np.int64), shift
        shift -= 1


def words(seed, name, chain, step, side, units):
    """One word for each unit of each chain: uint64 [chains, units]."""
    key = fold_key(seed, f"{name}\0gibbs")
    half_step = 2 * step + side
    unit = np.arange(units, dtype=np.uint64)
    chain = np.asarray(chain, np.uint64)[:, None]
    counter = (unit[None] // 4, chain, half_step & 0xFFFFFFFF, half_step >> 32)
    counter = [np.broadcast_to(np.asarray(c, np.uint64), (len(chain), units)) for c in counter]
    block = philox(counter, (key & 0xFFFFFFFF, key >> 32))
    return np.choose((unit % np.uint64(4)).astype(np.int64), block)


def thresholds(w, shift):
    """The greatest integers at or below the words' logistic values, in units of 2**-shift."""
    q = quantile32(w.ravel(), "logistic").reshape(w.shape)
    return np.floor(q.astype(np.float64) * 2.0**shift).astype(np.int64)


def half_step(
    layer,
    source,
    side,
    *,
    seed,
    name,
    chain,
    step,
    beta=1.0,
    units=(0, 0),
    levels=1,
    base=None,
    unit_beta=(None, None),
):
    """States of `side` given the other side's: uint8 [chains, units]. units: whether spins."""
    w, b, c, shift = layer
    weight, bias = (w, c) if side == HIDDEN else (w.T, b)
    source = source.astype(np.int64)
    field = levels * bias + source @ weight
    if units[1 - side]:
        field = bias - weight.sum(axis=0) + 2 * (source @ weight)
    if units[side]:
        field = 2 * field
    fixed_beta = np.rint(np.asarray(beta, np.float64) * 2**24).astype(np.int64)
    fixed_beta = np.broadcast_to(fixed_beta, len(source))[:, None]
    if unit_beta[side] is not None:
        of_unit = np.rint(np.asarray(unit_beta[side], np.float64) * 2**24).astype(np.int64)
        fixed_beta = (fixed_beta * of_unit) >> 24
    t = thresholds(words(seed, name, chain, step, side, weight.shape[1]), shift)
    total = fixed_beta * field
    if base is not None:
        total = total + (2**24 - fixed_beta) * (2 * base if units[side] else base)
    return (total > t * levels * 2**24).astype(np.uint8)


def gibbs(layer, visible, hidden, *, first_step, sweeps, start=VISIBLE, clamp=None, **how):
    """Sweeps of both sides, as torch_init._ops.gibbs."""
    visible, hidden = visible.copy(), hidden.copy()
    for t in range(sweeps):
        for side in (1 - start, start):
            if side == HIDDEN:
                hidden = half_step(layer, visible, HIDDEN, step=first_step + t, **how)
            else:
                new = half_step(layer, hidden, VISIBLE, step=first_step + t, **how)
                visible = new if clamp is None else np.where(clamp != 0, visible, new)
    return visible, hidden
