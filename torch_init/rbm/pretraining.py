# SPDX-License-Identifier: Apache-2.0
"""rbm_pretrain: greedy layer-wise pre-training of a user's own module."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from torch_init.errors import check_choice, check_positive_int, check_probability, describe
from torch_init.keys import check_seed
from torch_init.model import init_
from torch_init.rbm.chain import ACTIVATIONS, Layer, copy_of, find_chain
from torch_init.rbm.checkpoint import of_layer
from torch_init.rbm.examples import Examples, Features
from torch_init.rbm.history import History
from torch_init.rbm.likelihood import log_likelihood
from torch_init.rbm.machine import RBM
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Spin, Units

_FUNCTION = "rbm_pretrain"
_ENUMERABLE = 2.0**16
_VISIBLE = {
    "sigmoid": "bernoulli",
    "tanh": "spin",
    "relu": "gaussian",
    "softplus": "gaussian",
    "linear": "gaussian",
}
"""What an activation's values are to the machine above."""


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
        text = f"{self.name}: {units}, {self.epochs} epochs, free-energy gap "
        text += f"{self.free_energy_gap:.3g}, reconstruction {self.reconstruction:.4g}"
        if self.log_likelihood is not None:
            text += f", log-likelihood {self.log_likelihood:.2f}"
        return f"{text}, {self.seconds:.1f} s"


@dataclass
class PretrainReport:
    """What rbm_pretrain returns: where the data came from, and a report for each layer."""

    data: str
    layers: list[LayerReport]
    head: str

    def __str__(self) -> str:
        head = f"{self.head}: the head, not pre-trained"
        return "\n".join([f"data: {self.data}", *map(str, self.layers), head])


def rbm_pretrain(
    model: nn.Module,
    data: Any = None,
    *,
    epochs: int = 10,
    head: Any = "xavier",
    visible: str | None = None,
    holdout: float = 0.1,
    seed: int = 0,
    progress: bool | None = None,
    **options: Any,
) -> PretrainReport:
    r"""Pre-train a model layer by layer with restricted Boltzmann machines, in place.

    Hinton, Osindero, Teh (2006), "A fast learning algorithm for deep belief nets"; Bengio et al.
    (2007). Each linear layer but the last becomes the weights W and hidden biases c of a machine
    that was trained on what the layers below make of the data: sigmoid layers Bernoulli, tanh
    layers spin, ReLU (and softplus) layers NReLU hidden units. Weights and biases are written only
    after all layers have been trained; the model's mode, dtype, device, buffers and other
    parameters, and torch's random state, stay as they are.

    Args:
        model: nn.Sequential or any nn.Module whose forward pass is a chain of nn.Linear with an
            activation between, written as a module or a function. Flatten is fine, dropout is off
            while features are computed; normalisation and other layers are refused by name. Layers
            whose weight does not require a gradient are left alone; without a bias, a layer's
            hidden biases are held at 0.
        data: unlabelled examples as the model takes them: a tensor, NumPy array or memory map,
            Dataset, DataLoader, or an iterable of batches (labels are ignored). uint8 is divided
            by 255. None: scikit-learn's digits, 1,797 of 8 x 8, in [0, 1].
        epochs: for each layer.
        head: how the last layer is initialised: what torch_init.init_ takes as rules; or "keep".
        visible: units of the first layer, "bernoulli", "spin" or "gaussian". None: by the data's
            range, Bernoulli in [0, 1], else Gaussian. Gaussian features, also those of ReLU
            layers, are divided by one common standard deviation for training, and the layer's
            weights likewise.
        holdout: the share of the rows that is not trained on, for the report; none of fewer than
            20 rows, nor of a loader.
        seed: of weights, noise, the order of the examples, and the head.
        progress, options: as torch_init.rbm.fit takes them (batch_size, k, learning_rate ...; each
            layer has its own folder in `checkpoint`), but
            centered is False by default: the plain gradient leaves hidden units less often active,
            which makes better features for few labels, though worse density models.

    Returns:
        A PretrainReport; print it.

    Raises:
        TypeError, ValueError: data that the model or the units cannot take, a model that is no
            chain, layers that are shared. The model is unchanged.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Sigmoid(),
        ...                             torch.nn.Linear(32, 10))
        >>> report = torch_init.rbm_pretrain(model, epochs=1)
        >>> report.layers[0].hidden
        Bernoulli(size=32)
    """
    _check_model(model)
    check_positive_int(_FUNCTION, "epochs", epochs)
    check_probability(_FUNCTION, "holdout", holdout)
    if visible is not None:
        check_choice(_FUNCTION, "visible", visible, ("bernoulli", "spin", "gaussian"))
    seed = int(check_seed(_FUNCTION, seed))
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        copied = copy_of(model)
        device = next((p.device for p in copied.parameters()), torch.device("cpu"))
        examples = Examples(data, device)
        layers = find_chain(copied, examples.few())
        reports, trained = [], 0
        for number, layer in enumerate(layers[:-1]):
            if layer.frozen:
                reports.append(LayerReport(layer.name))
                continue
            chosen = visible if number == 0 else _VISIBLE[layers[number - 1].activation or ""]
            trainer = _LayerTrainer(copied, layer, examples, chosen, seed)
            settings = {"epochs": epochs, "progress": progress, "centered": False}
            reports.append(trainer.train(holdout, settings | of_layer(options, trained)))
            trained += 1
        last = layers[-1]
        if not last.frozen and head != "keep":
            init_(last.module, head, seed, rename=lambda leaf: f"{last.name}.{leaf}")
    _write(model, layers)
    return PretrainReport(examples.description, reports, last.name)


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(describe(_FUNCTION, "model", type(model).__name__, "an nn.Module"))


def _write(model: nn.Module, layers: list[Layer]) -> None:
    """Copy the layers' parameters from the copy to the model."""
    with torch.no_grad():
        for layer in layers:
            if not layer.frozen:
                target = model.get_submodule(layer.name)
                for leaf, value in layer.module.named_parameters():
                    target.get_parameter(leaf).copy_(value)


class _LayerTrainer:
    """Trains one layer of the copy on what the layers below make of the examples."""

    def __init__(
        self, model: nn.Module, layer: Layer, examples: Examples, visible: str | None, seed: int
    ) -> None:
        self._layer = layer
        self._features = Features(model, layer, examples)
        self._scale = 1.0
        units = self._visible_units(visible)
        assert layer.activation is not None
        kind = ACTIVATIONS[layer.activation][1]
        module = layer.module
        self._machine = RBM(
            units,
            kind(module.out_features),
            seed=seed,
            name=layer.name or "layer",
            device=module.weight.device,
        )
        if not layer.has_bias:
            self._machine.hidden_bias.requires_grad_(False)

    def _visible_units(self, name: str | None) -> Units:
        size = self._layer.module.in_features
        low, high, std = self._features.range()
        if name is None:
            name = "bernoulli" if low >= 0 and high <= 1 else "gaussian"
        if name == "gaussian":
            if std == 0:
                got = f"features of {self._layer.name} that are all {low:g}"
                raise ValueError(describe(_FUNCTION, "data", got, "examples that differ"))
            self._scale = self._features.scale = 1 / std
            return Gaussian(size)
        least = {"bernoulli": 0.0, "spin": -1.0}[name]
        if low < least or high > 1:
            got = f"values in [{low:g}, {high:g}]"
            fix = 'Scale the data, or use visible="gaussian"'
            raise ValueError(describe(_FUNCTION, "data", got, f"values in [{least:g}, 1]", fix))
        return Bernoulli(size) if name == "bernoulli" else Spin(size)

    def train(self, holdout: float, options: dict[str, Any]) -> LayerReport:
        """Train, write the weights into the copy, and report."""
        start, machine = time.perf_counter(), self._machine
        training, held_out = self._features.split(holdout)
        monitors = ("reconstruction", "free_energy_gap", "gradient_norm")
        history = machine.fit(training, validation=held_out, **({"monitors": monitors} | options))
        with torch.no_grad():
            module = self._layer.module
            module.weight.copy_(machine.weight * self._scale)
            if self._layer.has_bias:
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
