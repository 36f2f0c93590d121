# SPDX-License-Identifier: Apache-2.0
"""Which operations every path from the input to the output goes through: trunk, and branches."""

from __future__ import annotations

import math
import random

from torch_init.flow.structure import INPUT, Structure

_PRIME = 2**61 - 1


def mark_bypassed(structure: Structure) -> None:
    """Set is_bypassed of every node that some path from an input to an output goes around.

    Paths are counted, each weighted by random factors of its edges, modulo a prime: all go through
    a node if and only if those before it times those after it are all there are (but for a chance
    of about 2^-60). The inputs of residual blocks see, this way, what goes around their branches.
    """
    nodes, chance = structure.nodes, random.Random(0)
    factors = [[chance.randrange(1, _PRIME) for _ in node.inputs] for node in nodes]
    into: list[int] = []
    raw: set[int] = set()  # sizes of what the model was called with
    for node, own in zip(nodes, factors, strict=True):
        count = sum(into[i] * f for i, f in zip(node.inputs, own, strict=True) if i is not None)
        if node.data is not None:
            raw.add(node.data.count)
        reads = node.weight is not None and None in node.inputs and count == 0
        adds_raw = node.op == "Add" and None in node.inputs and math.prod(node.shape) in raw
        if node.op in (INPUT, "Embedding") or reads or adds_raw:
            count += chance.randrange(1, _PRIME)
        into.append(count % _PRIME)
    behind: set[int | None] = set()
    for place in reversed(range(len(nodes))):
        if place in behind or place in structure.outputs:
            behind.update(nodes[place].inputs)
    out_of = [0] * len(nodes)
    total = 0
    for place in set(structure.outputs) - behind:
        out_of[place] = 1
        total += into[place]
    for place in reversed(range(len(nodes))):
        for i, f in zip(nodes[place].inputs, factors[place], strict=True):
            if i is not None:
                out_of[i] = (out_of[i] + out_of[place] * f) % _PRIME
    for node, a, b in zip(nodes, into, out_of, strict=True):
        node.is_bypassed = (a * b - total) % _PRIME != 0
