# SPDX-License-Identifier: Apache-2.0
"""Tests of other folders, to be run here too: fixtures of the same names mean PTX."""

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).parents[1]


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("borrowed_" + Path(path).stem, TESTS / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tests_of(module: ModuleType, fixture: str | None = None) -> dict[str, Callable[..., Any]]:
    """All tests, or those that use a fixture."""
    return {
        name: function
        for name, function in vars(module).items()
        if name.startswith("test_")
        and (fixture is None or fixture in inspect.signature(function).parameters)
    }
