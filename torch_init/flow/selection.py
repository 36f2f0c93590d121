# SPDX-License-Identifier: Apache-2.0
"""Which modules of a model are watched, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from torch_init.errors import describe
from torch_init.flow import kinds

Selection = str | re.Pattern[str] | type[nn.Module] | Callable[[str, nn.Module], bool]


def select(modules: dict[str, nn.Module], include: Any, exclude: Any) -> dict[str, nn.Module]:
    wanted, unwanted = _as_list("include", include), _as_list("exclude", exclude)
    selected = {
        name: module
        for name, module in modules.items()
        if (_matches(wanted, name, module) if wanted else kinds.role(module) != "skipped")
        and not _matches(unwanted, name, module)
    }
    if modules and not selected:
        got = f"include={include!r}, exclude={exclude!r}"
        raise ValueError(describe("watch", "include, exclude", got, "at least one module"))
    return selected


def _as_list(argument: str, selection: Any) -> list[Any]:
    if selection is None:
        return []
    several = list(selection) if isinstance(selection, (list, tuple, set)) else [selection]
    for one in several:
        if not isinstance(one, (str, re.Pattern)) and not callable(one):
            expected = "regular expressions, module types or functions of (name, module)"
            raise TypeError(describe("watch", argument, f"{one!r}", expected))
        if isinstance(one, str):
            try:
                re.compile(one)
            except re.error as error:
                got, fix = f"{one!r}: {error}", "re.escape() makes one of a name"
                raise ValueError(
                    describe("watch", argument, got, "a regular expression", fix)
                ) from error
    return several


def _matches(selections: Iterable[Any], name: str, module: nn.Module) -> bool:
    for one in selections:
        if isinstance(one, (str, re.Pattern)):
            if re.search(one, name):
                return True
        elif isinstance(one, type):
            if isinstance(module, one):
                return True
        elif one(name, module):
            return True
    return False
