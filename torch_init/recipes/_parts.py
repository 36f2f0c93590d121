# SPDX-License-Identifier: Apache-2.0
"""Rules that several recipes share."""

import torch_init
from torch_init.model.rules import rule
from torch_init.recipes import _sites

NORMS_AND_BIASES = (
    rule("*", torch_init.zeros_, where=_sites.is_bias),
    rule("*", torch_init.ones_, where=_sites.is_norm_scale),
    rule("*", torch_init.zeros_, where=_sites.is_norm_offset),
)
"""Norms start as the identity; biases are zero."""
