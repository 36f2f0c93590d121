# SPDX-License-Identifier: Apache-2.0
"""Every example in a docstring of torch_init.flow runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import torch_init
import torch_init.flow

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = [info.name for info in pkgutil.iter_modules(torch_init.flow.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    module = importlib.import_module(f"torch_init.flow.{name}")
    torch.manual_seed(0)
    report = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    readers = {**vars(module), "torch": torch, "torch_init": torch_init}
    for test in doctest.DocTestFinder(exclude_empty=True).find(
        module, module=module, globs=readers
    ):
        runner.run(test, out=report.append)
    assert not report, "".join(report)
