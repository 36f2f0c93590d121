# SPDX-License-Identifier: Apache-2.0
"""docs/stream.md, section 6, in NumPy: quantile functions, and the tables fitted to them."""

import functools
import math

import mpmath
import numpy as np

INF = math.inf


# 6. Elementary functions, of float64 arrays


def exp(x):
    y = x * float.fromhex("0x1.71547652b82fep+0")
    k = np.trunc(np.where(y < 0, y - 0.5, y + 0.5).clip(-1100, 1100)).astype(np.int32)
    r = (x - k * float.fromhex("0x1.62e42fee00000p-1")) - k * float.fromhex("0x1.a39ef35793c76p-33")
    s = 1.0
    for n in range(14, 0, -1):
        s = 1.0 + s * (r / n)
    h = np.trunc(k / 2).astype(np.int32)
    result = np.ldexp(np.ldexp(s, h), k - h)
    return np.where(x < -745.0, 0.0, np.where(x > 709.75, INF, result))


def log(x):
    m, e = np.frexp(x)
    m, e = 2.0 * m, e - 1
    large = m > float.fromhex("0x1.6a09e667f3bcdp+0")
    m, e = np.where(large, m * 0.5, m), np.where(large, e + 1, e)
    f = (m - 1.0) / (m + 1.0)
    g = f * f
    s = 0.0
    for n in range(25, 1, -2):
        s = (s + 1.0 / n) * g
    high, low = float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33")
    return e * high + ((2.0 * f + (2.0 * f) * s) + e * low)


def mills(z):
    small = np.minimum(z, 2.0)
    term = total = small
    for k in range(1, 40):
        term = (term * (small * small)) / (2 * k + 1)
        total = total + term
    series = float.fromhex("0x1.40d931ff62706p+0") * exp(0.5 * (small * small)) - total
    large = np.maximum(z, 2.0)
    q = large
    for k in range(100, 0, -1):
        q = large + k / q
    return np.where(z < 2.0, series, 1.0 / q)


def log_survival(a, r):
    return (log(mills(a + r)) - log(mills(a))) - r * (a + 0.5 * r)


def survival_quantile(a, target):
    log_mills = log(mills(a))
    start = np.where(target < 0.0, target, -1.0)
    r = (-2.0 * start) / (a + np.sqrt(a * a - 2.0 * start))
    r = np.where(target < 0.0, r, 0.0)
    todo = np.flatnonzero(target < 0.0)
    for _ in range(64):
        current, wanted = r[todo], target[todo]
        m = mills(a + current)
        step = m * (((log(m) - log_mills) - current * (a + 0.5 * current)) - wanted)
        r[todo] = current = np.maximum(current + step, 0.0)
        todo = todo[np.abs(step) > 2.0**-50 * (1.0 + current)]
        if not len(todo):
            break
    return r


# 6. Quantile functions: (symmetric, centre, from_below, from_above)


def logistic_quantile():
    def from_above(p):
        return log(1.0 - p) - log(p)

    return True, 0.0, None, from_above


def truncated_normal_quantile(lower, upper):
    if lower < -40.0 and upper > -40.0:
        lower = -INF
    if upper > 40.0 and lower < 40.0:
        upper = INF
    width = upper - lower
    if width * max(1.0, abs(lower), abs(upper)) < 0.0001:
        return _narrow(lower, width)
    if lower >= 0.0:
        return _tail(lower, width)
    if upper <= 0.0:
        _, _, from_below, from_above = _tail(-upper, width)
        return False, upper, lambda p: -from_above(p), lambda p: -from_below(p)
    return _straddling(lower, upper)


def _narrow(lower, width):
    k = lower + 0.5 * width

    def from_below(p):
        return (width * p) * (1.0 - (0.5 * (k * width)) * (1.0 - p))

    return False, lower, from_below, lambda p: from_below(1.0 - p)


def _tail(a, width):
    b = 0.0 if math.isinf(width) else exp(log_survival(a, width))
    d = 1.0 - b

    def from_below(p):
        return survival_quantile(a, log(1.0 - p * d))

    def from_above(p):
        return survival_quantile(a, log(b + p * d))

    return False, a, from_below, from_above


def _straddling(lower, upper):
    def tail(z):
        return 0.0 if math.isinf(z) else 0.5 * exp(log_survival(0.0, z))

    a, b = tail(-lower), tail(upper)
    d = (1.0 - a) - b

    def iq(fraction):
        return survival_quantile(0.0, log(2.0 * fraction))

    def from_below(p):
        fraction = a + p * d
        return np.where(fraction <= 0.5, -iq(fraction), iq(b + (1.0 - p) * d))

    def from_above(p):
        fraction = b + p * d
        return np.where(fraction <= 0.5, iq(fraction), -iq(a + (1.0 - p) * d))

    return lower == -upper, 0.0, from_below, from_above


# 6. Fitting


@functools.cache
def chebyshev(n):
    with mpmath.workdps(60):
        return [float(mpmath.cos((2 * k + 1) * mpmath.pi / (2 * n))) for k in range(n)]


def fit_half(quantile, double):
    """Coefficients [segment][power] in float64."""
    n = 9 if double else 4
    segment = np.arange(257 if double else 129)
    octave = np.ldexp(1.0, segment // 4 - (65 if double else 33))
    quarter = 0.25 * (segment % 4)
    if double:
        node = [0.125 * z for z in chebyshev(n)]
        t = [z + 1.125 for z in node]
    else:
        node = t = [1.125 + 0.125 * z for z in chebyshev(n)]
    y = [quantile((t_k + quarter) * octave) for t_k in t]
    for order in range(1, n):
        for k in range(n - 1, order - 1, -1):
            y[k] = (y[k] - y[k - 1]) / (node[k] - node[k - order])
    a = [y[n - 1]] + [0.0] * (n - 1)
    for k in range(n - 2, -1, -1):
        for j in range(n - 1 - k, 0, -1):
            a[j] = a[j - 1] - node[k] * a[j]
        a[0] = y[k] - node[k] * a[0]
    coefficients = np.stack(a, axis=1)
    coefficients[-1] = 0.0
    coefficients[-1, 0] = quantile(np.array([0.5]))[0]
    return coefficients


@functools.cache
def table(bounds, double):
    """(centre, coefficients[half][segment][power]); `bounds` is (lower, upper) or "logistic"."""
    symmetric, centre, from_below, from_above = (
        logistic_quantile() if bounds == "logistic" else truncated_normal_quantile(*bounds)
    )
    halves = [from_above] if symmetric else [from_above, from_below]
    real = np.float64 if double else np.float32
    return centre, np.array([fit_half(half, double) for half in halves], real)
