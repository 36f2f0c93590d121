// SPDX-License-Identifier: Apache-2.0
//
// The few transcendental functions that quantile tables are fitted with, written with IEEE
// + - * / alone: libm differs between hosts, and a table that differs is a weight that differs.
// Each operation is rounded once, in the order written (the build forbids contraction), so any
// IEEE 754 double implementation reproduces them bit for bit.
#pragma once

namespace torch_init {

// e^x. Relative error below 3e-16 for |x| < 700; 0 below -745, +inf above 709.7.
double portable_exp(double x);

// Natural logarithm of a normal positive double. Absolute error below 3e-16 near 1, relative
// error below 3e-16 elsewhere.
double portable_log(double x);

// Mills ratio (1 - Phi(z)) / phi(z) of the standard normal for z >= 0.
double mills_ratio(double z);

// The r >= 0 at which (1 - Phi(a + r)) / (1 - Phi(a)) falls to exp(log_survival), for a >= 0 and
// log_survival <= 0. Works for any a, however far in the tail: nothing underflows.
double normal_survival_quantile(double a, double log_survival);

// log((1 - Phi(a + r)) / (1 - Phi(a))) for a, r >= 0.
double normal_log_survival(double a, double r);

}  // namespace torch_init
