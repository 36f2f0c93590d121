# SPDX-License-Identifier: Apache-2.0
"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import inspect
import math
import pkgutil

import pytest
import torch

import torch_init

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# What a reader has imported. compute_fans and the like are reached through their module.
READERS = {"torch": torch, "torch_init": torch_init, "math": math}


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for info in pkgutil.walk_packages(torch_init.__path__, "torch_init."):
        if info.name.startswith("torch_init.demo") or info.name.endswith(("__main__", "._C")):
            continue
        module = importlib.import_module(info.name)
        for test in finder.find(module, module=module, globs={**vars(module), **READERS}):
            if test.examples:
                yield pytest.param(test, id=test.name.removeprefix("torch_init."))


@pytest.mark.parametrize("example", list(examples()))
def test_example_prints_what_it_says(example):
    torch.manual_seed(0)
    report = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize(
    "name", [name for name in torch_init.__all__ if callable(getattr(torch_init, name))]
)
def test_public_function_has_an_example(name):
    assert ">>>" in inspect.getdoc(getattr(torch_init, name))
