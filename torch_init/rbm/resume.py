# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint of a run of fit() holds, and how a run goes on from it."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from torch_init.errors import describe
from torch_init.rbm import checkpoint
from torch_init.rbm.data import Stream
from torch_init.rbm.divergence import check_parameters
from torch_init.rbm.history import History
from torch_init.rbm.machine import RBM

if TYPE_CHECKING:
    from torch_init.rbm.run import Training


def save(training: "Training", folder: Path, epoch: int) -> None:
    """Write a checkpoint; every process takes part, the first one writes."""
    machine, ascent, source = training.machine, training.ascent, training.source
    check_parameters("fit", machine, epoch)
    tensors = {f"machine.{n}": v for n, v in machine.state_dict().items()}
    tensors |= ascent.state()
    tensors |= {f"negative.{n}": v for n, v in training.negative.state().items()}
    if isinstance(source, Stream) and source.order is not None:
        order = source.order.to(machine.weight.device)
        tensors["order"] = training.processes.gather_rows(order[None], training.processes.size)
    facts = {
        **_identity(training),
        "gradient_norm": float(ascent.gradient_norm),
        "records": training.history.records,
        "stopped_early": training.history.stopped_early,
    }
    if training.processes.rank == 0:
        checkpoint.save(folder, training.update, tensors, facts)


def load(training: "Training", folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the folder's checkpoint, for restore.

    Raises:
        FileNotFoundError, ValueError: there is none, or not of the same machine, data and options.
    """
    tensors, facts = checkpoint.load(folder)
    ours = _identity(training)
    checkpoint.check_same(ours["machine"], facts.get("machine", {}), set())
    run = {key: value for key, value in ours.items() if key not in ("machine", "options")}
    may_differ = {"epochs"} if training.options.schedule == "constant" else set()
    checkpoint.check_same(ours["options"] | run, facts["options"] | facts, may_differ)
    epochs, planned = training.options.epochs, facts["options"]["epochs"]
    if epochs < planned:
        fix = "Epochs that it has trained are kept"
        text = describe("fit", "epochs", epochs, f"the checkpoint's {planned} or more", fix)
        warnings.warn(text, UserWarning, stacklevel=3)
    return tensors, facts


def restore(training: "Training", tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Take a checkpoint over."""
    groups: dict[str, dict[str, Tensor]] = {"machine": {}, "negative": {}}
    for name, value in tensors.items():
        group, _, rest = name.partition(".")
        if group in groups:
            groups[group][rest] = value
    training.machine.load_state_dict(groups["machine"])
    training.negative.load(groups["negative"])
    training.ascent.load(tensors)
    if isinstance(training.source, Stream) and "order" in tensors:
        training.source.rewind(tensors["order"][training.processes.rank])
    training.update, training.ascent.gradient_norm = facts["update"], facts["gradient_norm"]
    training.history = History(facts["records"], facts["stopped_early"])


def _identity(training: "Training") -> dict[str, Any]:
    """What a run must share with the one whose checkpoint it takes over."""
    return {
        "options": training.options.as_json(),
        "seed": training.seed,
        "rows": training.source.count,
        "machine": _described(training.machine),
    }


def _described(machine: RBM) -> dict[str, Any]:
    return {
        "name": machine.name,
        "visible": repr(machine.visible),
        "hidden": repr(machine.hidden),
        "coupling": machine.coupling(),
        "shapes": {name: list(value.shape) for name, value in machine.state_dict().items()},
        "dtype": str(machine.weight.dtype),
    }
