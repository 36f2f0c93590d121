# SPDX-License-Identifier: Apache-2.0
"""Measuring what layers give for a batch, and rescaling their weights by it.

A linear layer's output scales as its weight does. So a layer's output is rescaled on its way to
the next layer, in the very pass that measures it, and the weights follow when the pass is over:
one pass does all layers in order, and weights may be sharded, since none is touched within it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torch_init import errors
from torch_init.distributed import Box, boxes, is_dtensor, reshard
from torch_init.model.execution import intersection
from torch_init.model.layout import Block, blocks, default_split, is_transformers_conv1d
from torch_init.model.sites import Site
from torch_init.model.spread import Ranks, moments

_CONVOLUTIONS = nn.modules.conv._ConvNd


@dataclass
class LsuvRow:
    """What was done to one layer.

    Attributes:
        name: of the weight.
        std: of the layer's output over the batch, last measured; of q, k and v, of the projection.
        scale: what the weight was multiplied by.
        tries: passes in which it was rescaled.
    """

    name: str
    std: float = math.nan
    scale: float = 1.0
    tries: int = 0


def is_layer_weight(site: Site) -> bool:
    module = site.module
    if isinstance(module, nn.MultiheadAttention):
        return site.leaf in _PROJECTIONS
    linear = isinstance(module, (nn.Linear, nn.Bilinear, _CONVOLUTIONS))
    return site.leaf == "weight" and (linear or is_transformers_conv1d(module))


_PROJECTIONS = {
    "in_proj_weight": (0, 1, 2),
    "q_proj_weight": (0,),
    "k_proj_weight": (1,),
    "v_proj_weight": (2,),
}
"""Which of query, key and value each of MultiheadAttention's weights projects, block by block."""


class _Layer:
    """A weight, or one of those packed in it, and what is to be done to it after the pass."""

    def __init__(self, site: Site, block: Block, name: str) -> None:
        self.site = site
        self.block = block
        self.row = LsuvRow(name)
        self.pending = 1.0
        self.reached = False

    def rescale(self) -> None:
        """Multiply what this rank holds of the weight by the pending factor."""
        if self.site.parametrized:
            weight = getattr(self.site.module, self.site.leaf).clone()
            box = intersection(self.block, Box(weight, (0,) * weight.dim()))
            if box is not None:
                box.view.mul_(self.pending)
            setattr(self.site.module, self.site.leaf, weight)
            return
        for part in boxes("lsuv_", self.site.tensor.detach()):
            box = intersection(self.block, part)
            if box is not None:
                box.view.mul_(self.pending)


class Scaler:
    def __init__(
        self, sites: Sequence[Site], target: float, tolerance: float, ranks: Ranks
    ) -> None:
        self.rows: list[LsuvRow] = []
        self._ranks = ranks
        self._target = target
        self._tolerance = tolerance
        self._layers: dict[int, list[_Layer]] = {}
        for site in sites:
            cut = blocks(site.shape, default_split(site.module, site.leaf), 0, False)
            names = [f"{site.name}[{b.index}]" if b.part else site.name for b in cut]
            layers = [_Layer(site, b, name) for b, name in zip(cut, names, strict=True)]
            self._layers.setdefault(id(site.module), []).extend(layers)

    def run(self, model: nn.Module, batch: Any) -> bool:
        """Measure and rescale all layers in one pass; return whether none needed it."""
        for layer in self._everything():
            layer.pending, layer.reached = 1.0, False
        handles = [handle for module in model.modules() for handle in self._hook(module)]
        try:
            _call(model, batch)
            self._ranks.end_pass()
        finally:
            for handle in handles:
                handle.remove()
            reshard(model)  # the next pass must not use what this one has gathered
            torch.clear_autocast_cache()  # nor weights that autocast has cast
        scaled = [layer for layer in self._everything() if layer.pending != 1.0]
        for layer in scaled:
            layer.rescale()
            layer.row.scale *= layer.pending
            layer.row.tries += 1
        return not scaled

    def outside(self) -> list[str]:
        """Return what to say of the layers outside the tolerance."""
        limit = self._tolerance
        rows = [row for row in self.rows if abs(row.std - self._target) > limit]
        return [f"{row.name} at {row.std:.4g}" for row in rows]

    def unreached(self) -> list[str]:
        """Return the names of the layers that no pass has reached."""
        reached = {row.name for row in self.rows}
        return [layer.row.name for layer in self._everything() if layer.row.name not in reached]

    def _everything(self) -> list[_Layer]:
        return [layer for layers in self._layers.values() for layer in layers]

    def _hook(self, module: nn.Module) -> list[RemovableHandle]:
        layers = self._layers.get(id(module), [])
        if isinstance(module, nn.MultiheadAttention):
            kept: dict[str, Tensor] = {}
            output = self._layers.get(id(module.out_proj), [])

            def project(_: nn.Module, args: Any, kwargs: Any) -> None:
                self._project(module, layers, _attention_inputs(args, kwargs), kept)

            def finish(_: nn.Module, args: Any, result: Any) -> Any:
                for leaf, value in kept.items():
                    getattr(module, leaf).copy_(value)
                return self._scaled(output, result, module.out_proj.bias, -1)

            return [
                module.register_forward_pre_hook(project, with_kwargs=True),
                module.register_forward_hook(finish),
            ]
        if not layers:
            return []
        # From the end, since a convolution takes an input without a batch, too.
        axis = -1 - len(module.kernel_size) if isinstance(module, _CONVOLUTIONS) else -1

        def measure(module: nn.Module, args: Any, result: Any) -> Any:
            return self._scaled(layers, result, module.bias, axis)

        return [module.register_forward_hook(measure)]

    def _project(
        self,
        module: nn.MultiheadAttention,
        layers: Sequence[_Layer],
        inputs: Sequence[Tensor],
        kept: dict[str, Tensor],
    ) -> None:
        """Measure q, k and v, and rescale their weights until finish puts them back."""
        kept.clear()
        for layer in layers:
            weight = getattr(module, layer.site.leaf)
            if layer.site.leaf not in kept:
                kept[layer.site.leaf] = weight.detach().clone()
            rows = slice(layer.block.offset[0], layer.block.offset[0] + layer.block.size[0])
            which = _PROJECTIONS[layer.site.leaf][layer.block.index]
            self._measure(layer, inputs[which] @ weight[rows].T)
            weight[rows] *= layer.pending

    def _scaled(self, layers: Sequence[_Layer], result: Any, bias: Any, axis: int) -> Any:
        """Return the layer's output as it will be once the weight is rescaled."""
        if not layers:
            return None
        output = result[0] if isinstance(result, tuple) else result
        if not isinstance(output, Tensor):
            got = f"a {type(output).__name__} as the output of {layers[0].row.name}"
            fix = "Leave the layer out by where="
            expected = "layers that return a tensor, or a tuple that begins with one"
            raise TypeError(errors.describe("lsuv_", "model", got, expected, fix))
        self._measure(layers[0], output)
        scale = layers[0].pending
        if scale == 1.0:
            return None
        if isinstance(bias, Tensor):
            shape = [1] * output.dim()
            shape[axis] = -1
            shift = _as_in(output, bias.detach(), axis).reshape(shape)
            output = (output - shift) * scale + shift
        else:
            output = output * scale
        return (output, *result[1:]) if isinstance(result, tuple) else output

    def _measure(self, layer: _Layer, output: Tensor) -> None:
        """Note the spread of output, and by what the weight must change; a second call does not."""
        if layer.reached:
            return
        spread = self._ranks.combined(layer.row.name, moments(output))
        if spread.n == 0:  # an expert that no token has come to, say
            return
        if layer.row not in self.rows:
            self.rows.append(layer.row)
        layer.reached = True
        layer.row.std = std = spread.std
        if not 0 < std < math.inf:
            got = f"an output of {layer.row.name} with standard deviation {std}"
            fix = "Give a batch that varies; leave the layer out by where="
            expected = "outputs that vary and are finite"
            raise ValueError(errors.describe("lsuv_", "batch", got, expected, fix))
        if abs(std - self._target) > self._tolerance:
            layer.pending = self._target / std


def _as_in(output: Tensor, bias: Any, axis: int) -> Tensor:
    """Return what an output that is no DTensor holds of a bias, whole or this rank's part."""
    if not is_dtensor(bias) or is_dtensor(output):
        return bias
    whole: Tensor = bias.full_tensor()
    return whole if output.shape[axis] == whole.shape[0] else bias.to_local()


def _call(model: nn.Module, batch: Any) -> None:
    if isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, tuple):
        model(*batch)
    else:
        model(batch)


def _attention_inputs(args: Sequence[Tensor], kwargs: Mapping[str, Any]) -> list[Tensor]:
    named = dict(zip(("query", "key", "value"), args, strict=False))
    return [kwargs.get(name, named.get(name)) for name in ("query", "key", "value")]
