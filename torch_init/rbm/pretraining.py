# SPDX-License-Identifier: Apache-2.0
"""rbm_pretrain: greedy layer-wise pre-training of a user's own module."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_init.errors import check_choice, check_positive_int, check_probability, describe
from torch_init.keys import check_seed
from torch_init.model import init_
from torch_init.rbm.chain import Layer, copy_of, find_chain, without_hooks
from torch_init.rbm.checkpoint import of_layer
from torch_init.rbm.examples import Examples, bundled
from torch_init.rbm.layer_training import LayerReport, LayerTrainer, Task

_FUNCTION = "rbm_pretrain"
_VISIBLE = {
    "sigmoid": "bernoulli",
    "tanh": "spin",
    "relu": "gaussian",
    "softplus": "gaussian",
    "linear": "gaussian",
}
"""What an activation's values are to the machine above."""


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
    validation: Any = None,
    seed: int = 0,
    progress: bool | None = None,
    **options: Any,
) -> PretrainReport:
    r"""Pre-train a model layer by layer with restricted Boltzmann machines, in place.

    Hinton, Osindero, Teh (2006), "A fast learning algorithm for deep belief nets"; Bengio et al.
    (2007); for convolutions Lee et al. (2009). Each nn.Linear and nn.Conv2d but the last gets the
    weights W and hidden biases c of an RBM or ConvRBM that was trained on what the layers below
    make of the data: sigmoid layers Bernoulli, tanh layers spin, ReLU (and softplus) layers NReLU
    hidden units. They are written after all layers have been trained, all or none; the model's
    mode, dtype, device, buffers, hooks and other parameters, and torch's random state, stay as
    they are. All is computed in float32, also under autocast.

    Args:
        model: nn.Sequential or any nn.Module whose forward pass is a chain of nn.Linear and
            nn.Conv2d (groups=1, padding of zeros) with an activation between, written as a module
            or a function. Pooling and reshaping are fine, dropout is off while features are
            computed; normalisation and other layers are refused by name. Hooks do not run. Layers
            whose weight does not require a gradient are left alone; a bias that does not, or that
            is not there, is what the machine's hidden biases are held at.
        data: unlabelled examples as the model takes them: a tensor, NumPy array or memory map,
            Dataset, DataLoader, or an iterable of batches (labels are ignored). uint8 is divided by
            255, and refused if it is only 0 and 1. None: scikit-learn's digits, 1,797 of 8 x 8, in
            [0, 1]; as images of one channel if the model has convolutions.
        epochs: for each layer.
        head: how the last layer is initialised: what torch_init.init_ takes as rules; None or
            "keep": not at all.
        visible: units of the first layer, "bernoulli", "spin" or "gaussian". None: by the data's
            range, Bernoulli in [0, 1], else Gaussian; values beyond [0, 1] by at most 1e-3 of the
            range are refused, as rounding. Gaussian features, also those of ReLU
            layers, are divided by one common standard deviation for training, and the layer's
            weights likewise.
        holdout: the share of the rows that is not trained on, for the report; none of fewer than
            20 rows, nor of a loader.
        validation: held-out examples of your own for the report, as data; holdout is not used then.
        seed: of weights, noise, the order of the examples, and the head.
        progress, options: as torch_init.rbm.fit takes them (batch_size, k, learning_rate ...; each
            layer has its own folder in `checkpoint`, and resumes if those below are what they were;
            a loader that shuffles needs a generator that begins in the same state), but centered is
            False by default: the plain gradient leaves hidden units less often active, which makes
            better features for few labels, though worse density models.

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
    if not isinstance(model, nn.Module):
        raise TypeError(describe(_FUNCTION, "model", type(model).__name__, "an nn.Module"))
    check_positive_int(_FUNCTION, "epochs", epochs)
    if check_probability(_FUNCTION, "holdout", holdout) == 1:
        raise ValueError(describe(_FUNCTION, "holdout", holdout, "less than all rows"))
    if visible is not None:
        check_choice(_FUNCTION, "visible", visible, ("bernoulli", "spin", "gaussian"))
    seed = int(check_seed(_FUNCTION, seed))
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        copied = copy_of(model)
        device = next((p.device for p in copied.parameters()), torch.device("cpu"))
        images = any(isinstance(module, nn.Conv2d) for module in model.modules())
        examples = bundled(images, device) if data is None else Examples(data, device)
        held_out = None if validation is None else Examples(validation, device, "validation")
        options = {"epochs": epochs, "progress": progress, "centered": False} | options
        with torch.autocast(device.type, enabled=False):
            *hidden, last = find_chain(copied, examples.few())
            task = Task(examples, held_out, holdout, seed)
            reports = _train(copied, hidden, task, visible, options)
        changes: list[Change] = []
        for layer in hidden:
            changes += _changes(model, layer.name, layer.module)
        if not last.frozen and head is not None and not (isinstance(head, str) and head == "keep"):
            # In the model's own dtype, in which init_ draws.
            module = without_hooks(model.get_submodule(last.name))
            init_(module, head, seed, rename=lambda leaf: f"{last.name}.{leaf}")
            changes += _changes(model, last.name, module)
    _write(changes)
    return PretrainReport(examples.description, reports, last.name)


def _train(
    model: nn.Module,
    layers: list[Layer],
    task: Task,
    visible: str | None,
    options: dict[str, Any],
) -> list[LayerReport]:
    """Train the layers of the copy, from the first to the last."""
    for layer in layers:
        _check_trainable(layer)
    reports: list[LayerReport] = []
    trained = 0
    for number, layer in enumerate(layers):
        if layer.frozen:
            reports.append(LayerReport(layer.name))
            continue
        chosen = visible if number == 0 else _VISIBLE[layers[number - 1].activation or ""]
        trainer = LayerTrainer(model, layer, task, chosen)
        reports.append(trainer.train(of_layer(options, trained)))
        trained += 1
    return reports


def _check_trainable(layer: Layer) -> None:
    module = layer.module
    if layer.frozen or not isinstance(module, nn.Conv2d):
        return
    expected = 'groups=1 and padding_mode="zeros"'
    fix = "Freeze its weight, and it is left as it is"
    for option, plain in (("groups", 1), ("padding_mode", "zeros")):
        value = getattr(module, option)
        if value != plain:
            got = f"{layer.name}, a convolution with {option}={value!r}"
            raise ValueError(describe(_FUNCTION, "model", got, expected, fix))


Change = tuple[nn.Parameter, Tensor]
"""A parameter of the user's, and what it is to hold."""


def _changes(model: nn.Module, name: str, trained: nn.Module) -> list[Change]:
    """Return what is to be written to a layer: to a frozen parameter, or layer, nothing."""
    own = model.get_submodule(name)
    if not own.get_parameter("weight").requires_grad:
        return []
    values = dict(trained.named_parameters())
    return [
        (parameter, values[leaf].detach().to(parameter.device, parameter.dtype))
        for leaf, parameter in own.named_parameters()
        if parameter.requires_grad
    ]


@torch.no_grad()
def _write(changes: list[Change]) -> None:
    """Write all of them, or none if anything comes in between, a Ctrl-C say."""
    before = [parameter.detach().clone() for parameter, _ in changes]
    try:
        for parameter, value in changes:
            parameter.copy_(value)
    except BaseException:
        for (parameter, _), value in zip(changes, before, strict=True):
            parameter.copy_(value)
        raise
