# SPDX-License-Identifier: Apache-2.0
"""Which forward pass is going on: by which part of the model it was entered, in which thread."""

from __future__ import annotations

import threading

import torch

ROOT = ""
"""The entrance by which one enters the whole model; its parts have others."""


class Passes:
    """One forward pass at a time: those of other threads that overlap with it are left out.

    Attributes:
        number: how many have begun.
        entered: the entrance of the one that is going on, or None.
        left_out: how many were, for another thread's.
    """

    def __init__(self) -> None:
        self.number = self.left_out = 0
        self.entered: str | None = None
        self._thread = 0
        self._outside: dict[int, str] = {}  # threads in passes that are left out: their entrances
        self._lock = threading.Lock()

    def is_within(self, entrance: str) -> bool:
        """Whether one that enters here does so within a pass: the case that must cost nothing."""
        within = self.entered is not None and entrance != ROOT
        return within and self._thread == threading.get_ident()

    def begin(self, entrance: str, is_replica: bool) -> bool:
        """Note that one enters the model; return whether a pass begins here.

        is_replica: whether DataParallel made the module to do a part of another thread's pass.
        """
        if is_in_backward():
            return False
        thread = threading.get_ident()
        with self._lock:
            if self.entered is not None and thread != self._thread:
                if not is_replica and thread not in self._outside:
                    self._outside[thread] = entrance
                    self.left_out += 1
                return False
            if thread in self._outside or (self.entered is not None and entrance != ROOT):
                return False
            self.entered, self._thread = entrance, thread
            self.number += 1
        return True

    def end(self, entrance: str) -> bool:
        """Note that one leaves the model; return whether a pass ends here."""
        if is_in_backward():
            return False
        thread = threading.get_ident()
        if self._outside.get(thread) == entrance:
            del self._outside[thread]
            return False
        if self.entered != entrance or self._thread != thread:
            return False
        self.entered = None
        return True

    def is_left_out(self) -> bool:
        """Whether this thread is in a pass that is left out."""
        return bool(self._outside) and threading.get_ident() in self._outside


def is_in_backward() -> bool:
    """Whether a backward pass is going on: forward passes within it are those of checkpointing."""
    return torch._C._current_graph_task_id() != -1
