# SPDX-License-Identifier: Apache-2.0
"""What the tests of LSUV share."""

import torch
from torch import nn


def outputs(model, batch, kinds):
    """Standard deviations of the outputs of layers, in order, as a plain forward pass has them."""
    found = []

    def note(module, args, output):
        found.append((output[0] if isinstance(output, tuple) else output).std(correction=0).item())

    handles = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, kinds)]
    was = model.training
    with torch.no_grad():
        model.eval()(batch)
        model.train(was)
    for handle in handles:
        handle.remove()
    return found


def mlp(depth, activation):
    layers = [(nn.Linear(64, 64), activation()) for _ in range(depth)]
    return nn.Sequential(*[part for pair in layers for part in pair])
