# SPDX-License-Identifier: Apache-2.0
"""check: one forward and backward pass, judged. expected: one forward pass, predicted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_init.errors import check_type, describe
from torch_init.flow import kinds
from torch_init.flow.expectation import Expected
from torch_init.flow.initial_loss import initial_loss
from torch_init.flow.loss_mismatch import loss_mismatch
from torch_init.flow.preserving import (
    LossFunction,
    as_arguments,
    check_runnable,
    untouched,
    with_graph,
)
from torch_init.flow.reading import read
from torch_init.flow.report import Report
from torch_init.flow.tensors import tensors_in
from torch_init.flow.text import format_report
from torch_init.flow.thresholds import Thresholds
from torch_init.flow.watching import watch

_SEED = 20100513
_SAMPLES = 128
_IGNORED = -100  # cross_entropy's ignore_index


def check(
    model: nn.Module,
    inputs: Any,
    loss: LossFunction | Tensor | None = None,
    *,
    thresholds: Thresholds | None = None,
    verbose: bool = True,
) -> Report:
    """Run one forward and one backward pass through model, print the verdict, return the report.

    The model is left as it was: gradients, buffers, modes, and torch's random numbers. It runs in
    the mode (train or eval) in which it is.

    Args:
        model: any module.
        inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments. A batch
            of at least some dozens of examples shows dead units and collapse as well.
        loss: a function of the model's output that returns a scalar; or targets: int64 labels (N,)
            for cross-entropy, floating-point targets for the mean square error. By default a
            random linear function of the outputs.
        thresholds: of the verdicts.
        verbose: whether to print.

    Raises:
        TypeError, ValueError: arguments of the wrong kind; a batch without examples; labels out of
            range; a loss that is not a scalar, or on which no parameter and no input has an effect.
        RuntimeError: within torch.inference_mode().

    Example:
        >>> layers = []
        >>> for _ in range(12):
        ...     layers += [torch.nn.Linear(64, 64), torch.nn.Sigmoid()]
        >>> model = torch.nn.Sequential(*layers, torch.nn.Linear(64, 10))
        >>> report = torch_init.check(model, torch.randn(32, 64))
        ✗ vanishing at ...
        >>> report.verdict.kind
        'vanishing'
    """
    if not isinstance(model, nn.Module):
        raise TypeError(describe("check", "model", type(model).__name__, "a torch.nn.Module"))
    thresholds = Thresholds() if thresholds is None else thresholds
    check_type("check", "thresholds", thresholds, Thresholds, "torch_init.Thresholds")
    arguments, keywords = as_arguments("check", inputs)
    check_runnable("check", inputs)
    inner = getattr(model, "_orig_mod", model)
    with untouched(inner), torch.enable_grad(), watch(inner) as flow:
        output = inner(*arguments, **keywords)
        scalar = _loss(output, loss)
        _check_graph(scalar, inner)
        start, mismatch = initial_loss(scalar), loss_mismatch(scalar)
        scalar.backward()
        flow.parameters.before_step(None)
        report = read(flow, thresholds, None, start, mismatch)
    if verbose:
        print(format_report(report))
    return report


def _loss(output: Any, loss: Any) -> Tensor:
    if isinstance(loss, Tensor):
        scalar = _loss_of_targets(_first_output(output), loss)
    elif loss is None:
        scalar = _random_function(output)
    elif callable(loss):
        scalar = loss(output)
    else:
        expected = "a function of the output, targets, or None"
        raise TypeError(describe("check", "loss", f"{loss!r}", expected))
    if not isinstance(scalar, Tensor) or scalar.numel() != 1:
        got = f"shape {tuple(scalar.shape)}" if isinstance(scalar, Tensor) else f"{scalar!r}"
        raise ValueError(describe("check", "loss", got, "one number as a tensor"))
    return scalar


def _check_graph(loss: Tensor, model: nn.Module) -> None:
    if loss.requires_grad:
        return
    if not any(p.requires_grad for p in model.parameters()):
        expected = "at least one parameter that learns"
        fix = "Call model.requires_grad_(), or give inputs that require a gradient"
        got = "one in which no parameter requires grad"
        raise ValueError(describe("check", "model", got, expected, fix))
    got, expected = "a number without a graph", "a loss that depends on parameters"
    fix = "Look for .item(), .detach() or torch.no_grad() in the model"
    raise ValueError(describe("check", "loss", got, expected, fix))


def _loss_of_targets(output: Tensor, targets: Tensor) -> Tensor:
    """The mean square error of floating-point targets, the cross-entropy of integer ones."""
    is_regression = targets.is_floating_point()
    if is_regression and output.shape != targets.shape:
        got = f"targets of shape {tuple(targets.shape)}"
        raise ValueError(describe("check", "loss", got, f"the output's, {tuple(output.shape)}"))
    if targets.dtype in (torch.int64, torch.uint8):  # what cross_entropy takes for labels
        _check_range(output, targets)
    try:
        return (functional.mse_loss if is_regression else functional.cross_entropy)(output, targets)
    except (RuntimeError, IndexError, ValueError) as error:
        got = f"{targets.dtype} of shape {tuple(targets.shape)}"
        expected = f"targets for an output of {output.dtype} and shape {tuple(output.shape)}"
        fix = "Labels are int64, one for each row of (N, classes)"
        if output.shape[:-1] == targets.shape:
            cross_entropy = "torch.nn.functional.cross_entropy(y.flatten(0, -2), labels.flatten())"
            fix = f"Give a function: lambda y: {cross_entropy}"
        raise ValueError(describe("check", "loss", got, expected, fix)) from error


def _check_range(output: Tensor, labels: Tensor) -> None:
    """Before the loss sees them: on a GPU a wrong label spoils the whole process."""
    fits = output.dim() > 1 and labels.shape == output.shape[:1] + output.shape[2:]
    labels = labels[labels != _IGNORED]
    if not fits or labels.numel() == 0:
        return
    classes = output.shape[1]
    least, most = (int(x) for x in torch.stack(labels.aminmax()).tolist())
    if least < 0 or most >= classes:
        fix = f"{_IGNORED} marks what is left out"
        if classes == 1:
            fix = "Give targets as floating-point numbers of the output's shape, or a function"
        expected = f"labels in 0 ... {classes - 1}"
        raise ValueError(describe("check", "loss", f"{least} ... {most}", expected, fix))


def _first_output(output: Any) -> Tensor:
    found = [x for _, x in tensors_in(output)]
    if not found:
        raise ValueError(describe("check", "model's output", f"{output!r}", "a tensor in it"))
    return found[0]


def _random_function(output: Any) -> Tensor:
    """Sum of outputs times normal numbers: a gradient without structure, of the outputs' shapes.

    Outputs from which others are computed, as hidden states are, get their gradient from those.
    """
    found = [x for _, x in tensors_in(output) if x.is_floating_point() and x.requires_grad]
    if not found:
        return torch.zeros(())
    generator = torch.Generator().manual_seed(_SEED)
    inner = _behind([x.grad_fn for x in found])
    scalar = torch.zeros((), device=found[-1].device)
    for x in {id(x): x for x in found if x.grad_fn not in inner}.values():
        direction = torch.randn(x.shape, generator=generator, device="cpu").to(x.device)
        scalar = scalar + (x.float() * direction).sum().to(scalar.device)
    return scalar


def _behind(functions: list[Any]) -> set[Any]:
    """The autograd functions that others depend on."""
    found: set[Any] = set()
    todo = [f for f in functions if f is not None]
    while todo:
        for function, _ in todo.pop().next_functions:
            if function is not None and function not in found:
                found.add(function)
                todo.append(function)
    return found


def expected(model: nn.Module, inputs: Any = None) -> Expected:
    r"""Predict signal and gradient of every layer from the weights and nonlinearities model has.

    Mean-field theory: with v = sum(W^2) / outputs, a layer s = W x + b has E s^2 = v E x^2 + E b^2
    and passes E |dL/dx|^2 = v E |dL/ds|^2 back; a nonlinearity's moments E f(s)^2 and E f'(s)^2
    are those of a normal s. The structure is read off the autograd graph of one forward pass,
    which leaves the model as it was. Linear and convolutional layers, elementwise nonlinearities,
    sums, normalisation, dropout and reshaping are predicted; after anything else, such as
    attention, the prediction goes on from what is measured there.

    Args:
        model: any module.
        inputs: as in check(). By default 128 normal examples, if the first layer is a
            torch.nn.Linear.

    Sources: Poole et al. 2016, "Exponential expressivity in deep neural networks through transient
    chaos", eq. 3; Schoenholz et al. 2017, "Deep information propagation", eq. 9; He et al. 2015,
    "Delving deep into rectifiers", section 2.2; Hanin & Nica 2020 for the tolerance.

    Raises:
        TypeError, ValueError: no module; no inputs where they cannot be made up, or none in them.
        RuntimeError: within torch.inference_mode().

    Example:
        >>> layers = []
        >>> for i in range(20):
        ...     layers += [torch.nn.Linear(256, 256), torch.nn.ReLU()]
        ...     _ = torch_init.xavier_(layers[-2].weight, seed=0, name=str(i))
        >>> prediction = torch_init.expected(torch.nn.Sequential(*layers))
        >>> round(prediction.slope.factor, 2)  # sqrt(1/2): ReLU halves the square at each layer
        0.71
    """
    if not isinstance(model, nn.Module):
        raise TypeError(describe("expected", "model", type(model).__name__, "a torch.nn.Module"))
    inner = getattr(model, "_orig_mod", model)
    inputs = default_inputs("expected", inner) if inputs is None else inputs
    arguments, keywords = as_arguments("expected", inputs)
    check_runnable("expected", inputs)
    with untouched(inner), torch.enable_grad(), watch(inner) as flow:
        inner(*map(with_graph, arguments), **{k: with_graph(v) for k, v in keywords.items()})
        return Expected(flow.report())


def default_inputs(function: str, model: nn.Module) -> Tensor:
    """Return normal examples for a model that begins with a torch.nn.Linear."""
    layers = ("weighted", "embedding", "recurrent", "norm")
    first = next((m for m in model.modules() if kinds.role(m) in layers), None)
    if not isinstance(first, nn.Linear):
        got = "None, and a model that begins with " + type(first).__name__
        raise ValueError(describe(function, "inputs", got, "an example batch"))
    generator = torch.Generator().manual_seed(_SEED)
    x = torch.randn(_SAMPLES, first.in_features, generator=generator, device="cpu")
    return x.to(first.weight)
