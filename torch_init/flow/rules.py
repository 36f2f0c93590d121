# SPDX-License-Identifier: Apache-2.0
"""All rules, in the order in which they are asked. Each looks at a report for one kind of fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch_init.flow.rules_of_depth import along_depth
from torch_init.flow.rules_of_layers import collapsed, dead, saturated, symmetric, underflow
from torch_init.flow.rules_of_start import init_mismatch, initial_loss
from torch_init.flow.rules_of_structure import loss_mismatch, no_nonlinearity
from torch_init.flow.rules_of_training import (
    no_data,
    non_finite,
    update_too_large,
    update_too_small,
)
from torch_init.flow.rules_of_zeros import no_grad, zero_gradient, zero_signal
from torch_init.flow.verdicts import Verdict

if TYPE_CHECKING:
    from torch_init.flow.report import Report

Rule = Callable[["Report"], list[Verdict]]

ALWAYS: tuple[Rule, ...] = (
    no_data,
    non_finite,
    no_grad,
    zero_gradient,
    update_too_large,
    update_too_small,
)
OF_FINITE_NUMBERS: tuple[Rule, ...] = (
    zero_signal,
    dead,
    symmetric,
    saturated,
    collapsed,
    underflow,
    init_mismatch,
    initial_loss,
    loss_mismatch,
    no_nonlinearity,
)


def judge(report: Report) -> list[Verdict]:
    """Return what is wrong, in the order in which it was found; an empty list if nothing is."""
    found = [v for rule in ALWAYS for v in rule(report)]
    if not any(v.kind in ("non_finite", "no_data") and v.severity == "error" for v in found):
        found += [v for rule in OF_FINITE_NUMBERS for v in rule(report)]
        found += along_depth(report, found)
    return found
