# SPDX-License-Identifier: Apache-2.0
"""Gradient flow: what passes through a model, forward and backward, and what is wrong with it.

Rooms: `totals` (running sums on the device), `recorder` and `hooks` (which tensor goes where),
`passes`, `boundaries` and `parameters` (passes and optimizer steps), `watching` and `handle`
(watch, and what it returns), `structure`, `nonlinearity` and `mean_field` (what theory expects),
`reading`, `rows`, `report`, `rules` and `verdicts` (from sums to sentences), and the outputs
`text`, `html`, `plots`, `writers`.
"""

from torch_init.flow.callbacks import lightning_callback, transformers_callback
from torch_init.flow.checking import check, expected
from torch_init.flow.handle import Flow
from torch_init.flow.nonfinite import NonFiniteError, find_nonfinite
from torch_init.flow.report import Report, UnhealthyModelError
from torch_init.flow.thresholds import Thresholds
from torch_init.flow.verdicts import Verdict
from torch_init.flow.watching import watch

__all__ = [
    "Flow",
    "NonFiniteError",
    "Report",
    "Thresholds",
    "UnhealthyModelError",
    "Verdict",
    "check",
    "expected",
    "find_nonfinite",
    "lightning_callback",
    "transformers_callback",
    "watch",
]
