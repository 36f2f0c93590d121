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


def fields(layer, source, side, *, beta=1.0, units=(0, 0), levels=1, unit_beta=(None, None)):
    """Fields of `side` and their inverse temperatures, integers [chains, units]."""
    w, b, c, _ = layer
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
    return field, fixed_beta


def means(layer, visible, **how):
    """Means of the hidden units, multiples of 1 / 32767: float32 in the order of gibbs.md, 6."""
    f = np.float32
    field, beta = fields(layer, visible, HIDDEN, **how)
    ones = (field / np.float64(how.get("levels", 1))).astype(f)
    x = ones * f(2.0 ** -layer[3]) * (beta.astype(f) * f(2.0**-24))
    y = np.minimum(np.abs(x), f(80))
    rounder = f(1.5 * 2**23)
    k = (y * f(1.4426950408889634) + rounder) - rounder
    r = (k * f(float.fromhex("0x1.62e4p-1")) - y) + k * f(float.fromhex("0x1.7f7d1cp-20"))
    e = f(1 / 720)
    for factor in (120, 24, 6, 2, 1, 1):
        e = e * r + f(1 / factor)
    e = np.ldexp(e, -k.astype(np.int64))
    upper = ((f(32767) / (f(1) + e) + rounder) - rounder).astype(np.int64)
    return np.where(x < 0, 32767 - upper, upper)


def half_step(
    layer, source, side, *, seed, name, chain, step, base=None, units=(0, 0), levels=1, **how
):
    """States of `side` given the other side's: uint8 [chains, units]. units: whether spins."""
    weight, shift = layer[0] if side == HIDDEN else layer[0].T, layer[3]
    field, fixed_beta = fields(layer, source, side, units=units, levels=levels, **how)
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
