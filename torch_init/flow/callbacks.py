# SPDX-License-Identifier: Apache-2.0
"""Callbacks for training loops that are not the user's own: Lightning, Hugging Face Trainer."""

from __future__ import annotations

from typing import Any

from torch_init.flow.handle import Flow
from torch_init.flow.watching import watch


class _Watcher:
    """What both callbacks do: watch, write every so many steps, let go."""

    def __init__(self, target: Any, every: int, log_every: int, options: dict[str, Any]) -> None:
        self._target = target
        self._every = every
        self._log_every = log_every
        self._options = options
        self._written = 0
        self.flow: Flow | None = None

    def start(self, model: Any, optimizers: Any) -> None:
        self.flow = watch(model, optimizers, every=self._every, **self._options)

    def step_done(self, target: Any) -> None:
        flow = self.flow
        # Of several batches whose gradients are accumulated one makes a step.
        if flow is None or flow.total_steps == self._written:
            return
        if flow.total_steps % self._log_every == 0:
            self._written = flow.total_steps
            flow.log_to(self._target if self._target is not None else target)

    def stop(self) -> None:
        if self.flow is not None:
            self.flow.remove()


def lightning_callback(
    target: Any = None, *, every: int = 50, log_every: int = 500, **options: Any
) -> Any:
    """Return a lightning.pytorch Callback that watches the module during fit().

    Args:
        target: where to write, as in Flow.log_to(); by default the experiment of the trainer's
            logger (TensorBoard, Weights & Biases).
        every: measure one step of so many; log_every: write one step of so many, a multiple of it.
        options: of watch().

    The callback's `watcher.flow` is the Flow, for reports at any time.
    """
    try:
        from lightning.pytorch import Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback
        except ImportError as error:
            raise ImportError(
                "torch_init: lightning_callback needs Lightning: pip install lightning"
            ) from error

    class FlowCallback(Callback):
        def __init__(self) -> None:
            super().__init__()
            self.watcher = _Watcher(target, every, log_every, options)

        def on_fit_start(self, trainer: Any, module: Any) -> None:
            self.watcher.start(module, list(trainer.optimizers))

        def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            self.watcher.step_done(getattr(trainer.logger, "experiment", None))

        def on_fit_end(self, trainer: Any, module: Any) -> None:
            self.watcher.stop()

        def on_exception(self, trainer: Any, module: Any, exception: Any) -> None:
            self.watcher.stop()

    return FlowCallback()


def transformers_callback(
    target: Any, *, every: int = 50, log_every: int = 500, **options: Any
) -> Any:
    """Return a transformers.TrainerCallback that watches the model during train().

    Args:
        target: where to write, as in Flow.log_to().
        every, log_every, options: as in lightning_callback().
    """
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise ImportError(
            "torch_init: transformers_callback needs transformers: pip install transformers"
        ) from error

    class FlowCallback(TrainerCallback):
        def __init__(self) -> None:
            self.watcher = _Watcher(target, every, log_every, options)

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            optimizer = kwargs["optimizer"]
            # accelerate wraps the optimizer; the hooks belong on what is inside.
            self.watcher.start(kwargs["model"], getattr(optimizer, "optimizer", optimizer))

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.watcher.step_done(None)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.watcher.stop()

    return FlowCallback()
