# SPDX-License-Identifier: Apache-2.0
"""The progress bar of fit(): tqdm's, where there is one and somebody to see it."""

import sys
from typing import Any

from torch_init.errors import describe


class _NoBar:
    def update(self, number: int) -> None: ...

    def set_postfix(self, figures: dict[str, str]) -> None: ...

    def close(self) -> None: ...


def make_bar(progress: bool | None, total: int | None, initial: int) -> Any:
    """Return a bar; None: only on a terminal and with tqdm. False: one that shows nothing."""
    if progress is False or (progress is None and not sys.stderr.isatty()):
        return _NoBar()
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        if progress is None:
            return _NoBar()
        fix = "Install it: pip install tqdm"
        text = describe("fit", "progress", "no tqdm", "the package tqdm", fix)
        raise ImportError(text) from error
    return tqdm(total=total, initial=initial, unit="update")
