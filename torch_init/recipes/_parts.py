# SPDX-License-Identifier: Apache-2.0
"""Rules that several recipes share."""

from torch_init import init
from torch_init.model.rules import rule
from torch_init.recipes import _sites

NORMS = (
    rule("*", init.ones_, where=_sites.is_norm_scale),
    rule("*", init.zeros_, where=_sites.is_norm_offset),
)
"""Norms, torch's or not, start as the identity."""

NORMS_AND_BIASES = (rule("*", init.zeros_, where=_sites.is_bias), *NORMS)
