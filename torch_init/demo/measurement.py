# SPDX-License-Identifier: Apache-2.0
"""What is measured on a network: signal and gradient of every hidden layer, and what theory expects
of them.

Gradients are taken with respect to *pre-activations*, per example. Gradients of the parameters
would not do: with equal variances forward and backward their sizes hardly change from layer to
layer even where the back-propagated signal vanishes (Glorot & Bengio 2010, section 4.2.1, eq. 14
and figure 8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from .models import MLP

# A unit is shut where its activation's slope is under 2 % of the largest one: |tanh| > 0.99, for
# example.
_SHUT_SLOPE = 0.02


@dataclass(frozen=True)
class Reading:
    """One look at a network on the probe examples.

    ``loss`` is the mean cross-entropy in nats. ``gradient_rms[l]`` is the root mean square, over
    examples and units, of the derivative of one example's loss with respect to the pre-activations
    of hidden layer ``l`` (input side first).
    """

    loss: float
    gradient_rms: list[float]

    def is_finite(self) -> bool:
        """Whether the loss and all gradients are finite numbers."""
        return all(map(math.isfinite, [self.loss, *self.gradient_rms]))


def read(model: MLP, x: torch.Tensor, y: torch.Tensor) -> Reading:
    """Measure loss and gradients on ``x`` (N, inputs), ``y`` (N,); ``.grad`` stays untouched."""
    logits, pre_activations = model.signals(x)
    losses = functional.cross_entropy(logits, y, reduction="none")
    gradients = torch.autograd.grad(losses.sum(), pre_activations)
    # float64, because the squares of exploding or vanishing gradients leave float32's range.
    rms = [float(g.double().square().mean().sqrt()) for g in gradients]
    return Reading(float(losses.detach().double().mean()), rms)


@torch.no_grad()
def unit_spread(model: MLP, x: torch.Tensor) -> float:
    """The largest difference between two units of a hidden layer, over its largest pre-activation.

    0 means that the units of every hidden layer are identical on all examples ``x``; independent
    units give about 1.
    """
    _, pre_activations = model.signals(x)
    spread = 0.0
    for s in pre_activations:
        largest = float(s.abs().max())
        if largest > 0:
            spread = max(spread, float((s.amax(dim=1) - s.amin(dim=1)).max()) / largest)
    return spread


@torch.no_grad()
def shut_share(model: MLP, x: torch.Tensor) -> float:
    """The share of hidden units whose slope is under 2 % of its largest value.

    Taken over examples and layers. For tanh these are the saturated units, for ReLU the
    inactive ones.
    """
    _, pre_activations = model.signals(x)
    slopes = torch.stack([model.activation.slope(s) for s in pre_activations])
    return float((slopes < _SHUT_SLOPE * model.activation.largest_slope).double().mean())


@torch.no_grad()
def accuracy(model: MLP, x: torch.Tensor, y: torch.Tensor) -> float:
    """The share of examples ``x`` (N, inputs) whose largest logit is at their class ``y`` (N,)."""
    return float((model(x).argmax(dim=1) == y).double().mean())


def total_ratio(gradient_rms: list[float]) -> float | None:
    """Gradient size of the first hidden layer over the last one's; None for 0/0."""
    return gradient_rms[0] / gradient_rms[-1] if gradient_rms[-1] > 0 else None


def per_layer(total: float | None, layers: int) -> float | None:
    """The geometric mean factor behind a ratio over ``layers`` layers (``layers - 1`` steps)."""
    return None if total is None else total ** (1 / (layers - 1))


def expected_total_ratio(model: MLP, x: torch.Tensor) -> float:
    """:func:`total_ratio` as mean-field theory has it for independent weights of the model's own
    variances.

    With v_l = fan_in * mean(W_l^2), z ~ N(0, 1) and zero biases, the mean square q_l of a layer's
    pre-activations and the mean square of its gradients obey

        q_1 = v_1 mean(x^2),    q_{l+1} = v_{l+1} E f(sqrt(q_l) z)^2
        E g_l^2 = (fan_out / fan_in) v_{l+1} E f'(sqrt(q_l) z)^2  E g_{l+1}^2

    (Poole et al. 2016, eq. 3; Schoenholz et al. 2017, eq. 9). Exact as the width grows.
    """
    linears = model.linears()[:-1]
    # An even number of points leaves out z = 0, where ReLU's slope jumps.
    z = torch.linspace(-8, 8, 4000, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2)
    weight /= weight.sum()

    def variance(layer: torch.nn.Linear) -> float:
        return layer.in_features * float(layer.weight.detach().double().square().mean())

    q = variance(linears[0]) * float(x.double().square().mean())
    squared_ratio = 1.0
    for layer in linears[1:]:
        s = math.sqrt(q) * z
        v = variance(layer)
        squared_ratio *= v * float((weight * model.activation.slope(s).square()).sum())
        q = v * float((weight * model.activation.function(s).square()).sum())
    return math.sqrt(squared_ratio)


def finite_width_band(width: int, depth: int) -> float:
    """The factor by which :func:`total_ratio` of a ReLU network may leave theory in one draw, at
    three sigma.

    For He's start the log of the squared gradient norm has a variance of about 5 sum(1/width)
    (Hanin & Nica 2020, "Products of many large random matrices and gradients in deep neural
    networks"); half of it for the norm's log.
    """
    return math.exp(3 * 0.5 * math.sqrt(5 * (depth - 1) / width))


def class_entropy(y: torch.Tensor, classes: int) -> float:
    """Entropy in nats of the class frequencies of ``y``: no constant prediction has less loss."""
    share = torch.bincount(y, minlength=classes).double() / len(y)
    share = share[share > 0]
    return float(-(share * share.log()).sum())
