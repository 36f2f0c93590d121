# SPDX-License-Identifier: Apache-2.0
"""Weights, right from the first step: initialisation with the same bits on every CPU and GPU.

A weight is a pure function of (seed, name, logical index, distribution).
"""

from torch_init import rbm, recipes
from torch_init._ops import build_info, stream_key
from torch_init.flow import Thresholds, check, expected, find_nonfinite, watch
from torch_init.init import *  # noqa: F403
from torch_init.init import __all__ as _initialisers
from torch_init.init import _calculate_correct_fan, _calculate_fan_in_and_fan_out  # noqa: F401
from torch_init.keys import STREAM_VERSION
from torch_init.model import (
    fingerprint,
    init_,
    keep,
    lsuv_,
    materialize_,
    plan,
    prepare,
    report,
    rule,
)
from torch_init.rbm import rbm_pretrain

__version__: str = build_info()["version"]

__all__ = [
    "STREAM_VERSION",
    "Thresholds",
    "__version__",
    "check",
    "expected",
    "find_nonfinite",
    "fingerprint",
    "init_",
    "keep",
    "lsuv_",
    "materialize_",
    "plan",
    "prepare",
    "rbm",
    "rbm_pretrain",
    "recipes",
    "report",
    "rule",
    "stream_key",
    "watch",
    *_initialisers,
]
