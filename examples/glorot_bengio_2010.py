# SPDX-License-Identifier: Apache-2.0
"""Figures 6, 7 and 8 of Glorot & Bengio 2010: activations and gradients of five tanh layers.

    python examples/glorot_bengio_2010.py

Needs `pip install 'torch_init[demo]'`. Writes glorot_bengio_2010.png. Five hidden layers of 1000
units, zero biases, before training: the standard initialisation U(-1/sqrt(n), 1/sqrt(n)) (eq. 1)
above, the normalised one (eq. 16) below. Their figures show histograms of linear bins; these are of
log2 |x|, which torch_init counts while the network runs: a shift by one is a factor of 2.
"""

import math

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import torch_init

DEPTH, WIDTH, EXAMPLES, CLASSES = 5, 1000, 300, 10


def network(normalised: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(DEPTH):
        linear = nn.Linear(WIDTH, WIDTH)
        if normalised:
            torch_init.xavier_uniform_(linear.weight, seed=0, name=str(i))
        else:
            bound = 1 / math.sqrt(WIDTH)
            torch_init.uniform_(linear.weight, -bound, bound, seed=0, name=str(i))
        torch_init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))


def weight_gradients(model: nn.Sequential) -> np.ndarray:
    """log2 histograms of each hidden weight's gradient."""
    bins = np.arange(-40, 25)
    logs = [m.weight.grad.abs().flatten().log2() for m in model if isinstance(m, nn.Linear)]
    return np.array([np.histogram(log.numpy(), bins)[0] for log in logs[:DEPTH]])


generator = torch.Generator().manual_seed(0)
x = torch.randn(EXAMPLES, WIDTH, generator=generator)
y = torch.arange(EXAMPLES) % CLASSES

figure, axes = plt.subplots(2, 3, figsize=(13, 6.5), layout="constrained", sharey="row")
for row, normalised in enumerate((False, True)):
    model = network(normalised)
    with torch_init.watch(model, histogram=True) as flow:
        nn.functional.cross_entropy(model(x), y).backward()
    report = flow.report()
    outputs = [r for r in report.rows if r.role == "activation"]
    panels = {
        "Figure 6: activations": np.array([r.histogram for r in outputs]),
        "Figure 7: back-propagated gradients": np.array(
            [r.gradient_histogram for r in report.hidden]
        ),
        "Figure 8: gradients of the weights": weight_gradients(model),
    }
    for column, (title, counts) in enumerate(panels.items()):
        ax = axes[row, column]
        for layer, line in enumerate(counts):
            middles = np.arange(len(line)) - 39.5
            ax.plot(middles, line / line.sum(), label=f"layer {layer + 1}")
        seen = np.flatnonzero(counts.sum(0) > 1e-3 * counts.sum())
        ax.set_xlim(seen[0] - 42, seen[-1] - 37)
        ax.set_xlabel("log2 |x|")
        if row == 0:
            ax.set_title(title)
    name = "normalised" if normalised else "standard"
    axes[row, 0].set_ylabel(f"{name}: share of elements")
    first, last = report.hidden[0].gradient_rms, report.hidden[-1].gradient_rms
    norms = [model[2 * i].weight.grad.norm().item() for i in range(1, DEPTH)]
    print(
        f"{name:10}  back-propagated gradient, layer 5 over layer 1: {last / first:5.2f}   "
        f"weight gradient, layer 2 over layer 5: {norms[0] / norms[-1]:.2f}"
    )
axes[0, 0].legend(frameon=False)
figure.savefig("glorot_bengio_2010.png", dpi=110)
print("Written: glorot_bengio_2010.png")
