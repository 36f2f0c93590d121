# SPDX-License-Identifier: Apache-2.0
"""Rules that several recipes share."""

from torch_init import init
from torch_init.model.rules import rule
from torch_init.recipes import _sites

NORMS_AND_BIASES = (
    rule("*", init.zeros_, where=_sites.is_bias),
    rule("*", init.ones_, where=_sites.is_norm_scale),
    rule("*", init.zeros_, where=_sites.is_norm_offset),
)
"""Norms start as the identity; biases are zero."""
