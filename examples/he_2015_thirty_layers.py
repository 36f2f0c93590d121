# SPDX-License-Identifier: Apache-2.0
"""He et al. 2015, figure 3: thirty ReLU layers learn with He's variance, and stall with Xavier's.

    python examples/he_2015_thirty_layers.py [--steps 150]

Needs `pip install 'torch_init[demo]'`. Writes he_2015.png and a report for each start. The paper's
networks are convolutional and large; this is a multilayer perceptron on scikit-learn's digits.
Xavier's start keeps sqrt(1/2) of the gradient at each layer, 4e-5 in all; the gradients of the
weights do not show it.
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import torch_init

DEPTH, WIDTH = 30, 128
STARTS = {"Xavier": torch_init.xavier_, "He": torch_init.he_}

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--steps", type=int, default=150)
args = parser.parse_args()


def network(initialise) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, inputs in enumerate([64] + [WIDTH] * (DEPTH - 1)):
        linear = nn.Linear(inputs, WIDTH)
        initialise(linear.weight, seed=0, name=str(i))
        torch_init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    head = nn.Linear(WIDTH, 10)
    torch_init.xavier_(head.weight, seed=0, name="head")
    torch_init.zeros_(head.bias)
    return nn.Sequential(*layers, head)


digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 8 - 0.6
y = torch.tensor(digits.target)

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
for name, initialise in STARTS.items():
    model = network(initialise)
    report = torch_init.check(model, x[:256], y[:256], verbose=False)
    print(f"{name}: {report.verdict}")
    report.to_html(f"he_2015_{name.lower()}.html", title=f"{DEPTH} ReLU layers, {name}")
    places = range(1, len(report.hidden) + 1)
    left.plot(places, [row.gradient_norm for row in report.hidden], "o-", label=name)
    left.plot(places, [row.expected_gradient_norm for row in report.hidden], "k:", linewidth=1)
    weights = [p.gradient_norm for p in report.parameters if p.name.endswith("weight")]
    middle.plot(places, weights[:DEPTH], "o-", label=name)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for step in range(args.steps):
        batch = torch.arange(step * 64, step * 64 + 64) % len(x)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    right.plot(losses, label=name)
    print(f"  loss {losses[0]:.3f} -> {sum(losses[-10:]) / len(losses[-10:]):.3f}")

left.set(yscale="log", title="gradient of the pre-activations", xlabel="layer (dotted: expected)")
middle.set(yscale="log", title="gradient of the weights", xlabel="layer")
right.set(title="training loss", xlabel="step")
for ax in (left, middle, right):
    ax.legend(frameon=False)
figure.savefig("he_2015.png", dpi=110)
print("Written: he_2015.png, he_2015_xavier.html, he_2015_he.html")
