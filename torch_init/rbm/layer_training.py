# SPDX-License-Identifier: Apache-2.0
"""Pre-training one layer of a model: which machine it is, and what its training gave."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from torch_init.errors import describe
from torch_init.rbm.biases import set_visible_bias
from torch_init.rbm.chain import ACTIVATIONS, Layer
from torch_init.rbm.convolution import ConvRBM
from torch_init.rbm.examples import Examples, Features
from torch_init.rbm.history import History
from torch_init.rbm.likelihood import log_likelihood
from torch_init.rbm.machine import RBM
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Spin, Units
from torch_init.rbm.units.base import interval

_FUNCTION = "rbm_pretrain"
_ENUMERABLE = 2.0**16
_ROUNDING = 1e-3
"""How far beyond [0, 1], as a share of their range, data still seem to be meant to lie in it."""


@dataclass
class LayerReport:
    """How one layer was pre-trained.

    Attributes:
        name: of the layer in the model.
        visible, hidden: the units that were chosen; None for a frozen layer, which was left alone.
        epochs, updates: trained.
        free_energy_gap: mean F of held-out rows minus that of training rows; NaN if none are held
            out.
        reconstruction: mean squared error of the reconstruction of held-out rows, per unit.
        log_likelihood: mean of held-out rows in nats, where it can be enumerated, else None.
        seconds: what it took.
        machine: the trained RBM.
    """

    name: str
    visible: Units | None = None
    hidden: Units | None = None
    epochs: int = 0
    updates: int = 0
    free_energy_gap: float = float("nan")
    reconstruction: float = float("nan")
    log_likelihood: float | None = None
    seconds: float = 0.0
    machine: RBM | None = field(default=None, repr=False)
    history: History = field(default_factory=History, repr=False)

    def __str__(self) -> str:
        if self.visible is None or self.hidden is None:
            return f"{self.name}: frozen, left as it is"
        units = f"{type(self.visible).__name__} x {type(self.hidden).__name__}"
        units += ", convolutional" if isinstance(self.machine, ConvRBM) else ""
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        gap, error = (
            "-" if math.isnan(figure) else f"{figure:{form}}"
            for figure, form in ((self.free_energy_gap, ".3g"), (self.reconstruction, ".4g"))
        )
        text = f"{self.name}: {units}, {epochs}, free-energy gap {gap}, reconstruction {error}"
        if self.log_likelihood is not None:
            text += f", log-likelihood {self.log_likelihood:.2f}"
        return f"{text}, {self.seconds:.1f} s"


@dataclass(frozen=True)
class Task:
    """What all layers are trained on: the arguments of rbm_pretrain of these names."""

    examples: Examples
    validation: Examples | None
    holdout: float
    seed: int


class LayerTrainer:
    """Trains one layer of the copy on what the layers below make of the examples."""

    def __init__(self, model: nn.Module, layer: Layer, task: Task, visible: str | None) -> None:
        self._model, self._layer, self._task = model, layer, task
        self._features = Features(model, layer, task.examples)
        self._survey = self._features.survey()
        self._scale = 1.0
        self._machine = self._make(self._visible_kind(visible), task.seed)

    def _make(self, visible: type[Units], seed: int) -> RBM:
        module = self._layer.module
        assert self._layer.activation is not None
        hidden = ACTIVATIONS[self._layer.activation][1]
        like: dict[str, Any] = {"device": module.weight.device, "dtype": module.weight.dtype}
        name = self._layer.name or "layer"
        if isinstance(module, nn.Conv2d):
            machine: RBM = ConvRBM(
                module.in_channels,
                module.out_channels,
                module.kernel_size,
                size=self._layer.input_shape[1:],
                stride=module.stride,
                padding=module.padding,
                dilation=module.dilation,
                visible=visible,
                hidden=hidden,
                seed=seed,
                name=name,
                **like,
            )
        else:
            units = visible(module.in_features), hidden(module.out_features)
            machine = RBM(*units, seed=seed, name=name, **like)
        if module.bias is None or not module.bias.requires_grad:
            machine.hidden_bias.requires_grad_(False)
            if module.bias is not None:
                machine.hidden_bias.data.copy_(module.bias)
        return machine

    def _visible_kind(self, name: str | None) -> type[Units]:
        low, high, std = self._survey.low, self._survey.high, self._survey.std
        if name is None:
            _refuse_rounding(low, high)
            name = "bernoulli" if low >= 0 and high <= 1 else "gaussian"
        if name == "gaussian":
            if std == 0:
                got = f"features of {self._layer.name} that are all {low:g}"
                raise ValueError(describe(_FUNCTION, "data", got, "examples that differ"))
            self._scale = self._features.scale = 1 / std
            return Gaussian
        least = {"bernoulli": 0.0, "spin": -1.0}[name]
        if low < least or high > 1:
            got = f"values in {interval(low, high)}"
            fix = 'Scale the data, or use visible="gaussian"'
            raise ValueError(describe(_FUNCTION, "data", got, f"values in [{least:g}, 1]", fix))
        return Bernoulli if name == "bernoulli" else Spin

    def _split(self) -> tuple[Any, Tensor | None]:
        """Return what is trained on, and rows that are held out."""
        task = self._task
        if task.validation is None:
            return self._features.split(task.holdout)
        held_out = Features(self._model, self._layer, task.validation)
        held_out.scale = self._scale
        return self._features.split(0.0)[0], held_out.rows()

    def train(self, options: dict[str, Any]) -> LayerReport:
        """Train, write the weights into the copy, and report."""
        start, machine = time.perf_counter(), self._machine
        training, held_out = self._split()
        if self._features.is_stream and options.get("visible_bias") != "keep":
            # A pass over all examples has been made; fit() would look at the first batch.
            set_visible_bias(machine, self._survey.means * self._scale, self._survey.count)
            options = options | {"visible_bias": "keep"}
        monitors = ("reconstruction", "free_energy_gap", "gradient_norm")
        history = machine.fit(training, validation=held_out, **({"monitors": monitors} | options))
        with torch.no_grad():
            module = self._layer.module
            module.weight.copy_(machine.weight * self._scale)
            if module.bias is not None:
                module.bias.copy_(machine.hidden_bias)
        record = history.records[-1]
        return LayerReport(
            self._layer.name,
            machine.visible,
            machine.hidden,
            record["epoch"],
            record["update"],
            record.get("free_energy_gap", float("nan")),
            record.get("reconstruction", float("nan")),
            self._log_likelihood(held_out),
            time.perf_counter() - start,
            machine,
            history,
        )

    def _log_likelihood(self, held_out: Tensor | None) -> float | None:
        machine = self._machine
        states = min(machine.visible.num_states, machine.hidden.num_states)
        if held_out is None or states > _ENUMERABLE or isinstance(machine.hidden, NReLU):
            return None
        return log_likelihood(machine, held_out).mean().item()


def _refuse_rounding(low: float, high: float) -> None:
    """Raise if data lie in [0, 1] but for rounding: they would be taken for Gaussian."""
    excess = max(-low, high - 1)
    if 0 < excess <= _ROUNDING * (high - low):
        got = f"values in {interval(low, high)}"
        fix = 'Call clamp(0, 1) on the data, or say visible="gaussian"'
        raise ValueError(describe(_FUNCTION, "data", got, "values in [0, 1], or beyond it", fix))
