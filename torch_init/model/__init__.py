# SPDX-License-Identifier: Apache-2.0
"""Whole models: a plan that can be read first, one native call, a report after."""

from torch_init.model.execution import PreparedPlan, init_, prepare
from torch_init.model.lsuv import LsuvReport, lsuv_
from torch_init.model.materialize import materialize_
from torch_init.model.planning import plan
from torch_init.model.read_back import fingerprint, report
from torch_init.model.report import Report
from torch_init.model.rules import Recipe, Rule, keep, rule
from torch_init.model.sites import Site
from torch_init.model.table import Plan

__all__ = [
    "LsuvReport",
    "Plan",
    "PreparedPlan",
    "Recipe",
    "Report",
    "Rule",
    "Site",
    "fingerprint",
    "init_",
    "keep",
    "lsuv_",
    "materialize_",
    "plan",
    "prepare",
    "report",
    "rule",
]
