# SPDX-License-Identifier: Apache-2.0
"""Layer-sequential unit-variance initialisation, from one batch of data.

A linear layer's output scales as its weight does. So a layer's output is rescaled on its way to
the next layer, in the very pass that measures it, and the weights follow when the pass is over:
one pass does all layers in order, and weights may be sharded, since none is touched within it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torch_init import errors
from torch_init.distributed import boxes, is_dtensor, reshard
from torch_init.elementwise import zeros_
from torch_init.model.execution import init_, intersection
from torch_init.model.layout import Block, blocks, default_split, is_transformers_conv1d
from torch_init.model.planning import Rules
from torch_init.model.rules import keep, rule
from torch_init.model.sites import Site, find_sites
from torch_init.structured import orthogonal_

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


@dataclass
class LsuvReport:
    """What lsuv_ returns: a row for each layer that the batch reached, in the order it did."""

    rows: list[LsuvRow] = field(default_factory=list)

    def __str__(self) -> str:
        width = max([len(row.name) for row in self.rows], default=0)
        return "\n".join(
            f"{row.name:<{width}}  std {row.std:.4f}  scaled by {row.scale:.4g}"
            for row in self.rows
        )


def lsuv_(
    model: nn.Module,
    batch: Any,
    rules: Rules | None = None,
    seed: int = 0,
    *,
    target_std: float = 1.0,
    tolerance: float = 0.1,
    max_tries: int = 10,
    where: Callable[[Site], Any] | None = None,
) -> LsuvReport:
    """Initialise a model so that each layer's output has unit variance on a batch of data.

    Mishkin & Matas (2016), "All you need is a good init", algorithm 1: orthonormal weights, then
    layer by layer, in the order of the forward pass, weight /= std(output) until
    \\|std - 1\\| <= tolerance. Layers are Linear, Bilinear, convolutions, transformers' Conv1D, and
    MultiheadAttention (the projections q, k, v by themselves, then the output's). In a process
    group the variance is over the batches of all ranks, so that replicas stay alike.

    The model runs in eval mode without gradients; its mode, its buffers and the states of the
    random number generators are put back. An error puts the parameters back too.

    Args:
        model: holds memory; whole, replicated, or sharded by fully_shard or parallelize_module.
        batch: the model's input; a tuple of its positional or a dict of its keyword arguments.
        rules: for the weights before scaling, as init_ takes them; default: orthogonal_ for the
            layers' weights, zeros_ for their biases, everything else is kept. To scale what is
            there already: ``rule("*", torch_init.keep)``.
        seed: of those rules.
        target_std: of each layer's output.
        tolerance: how far from it a layer may stay.
        max_tries: passes at most.
        where: called with the site of each layer's weight; false leaves the layer as it is.

    Raises:
        ValueError: a layer whose output does not vary or is not finite; layers still outside the
            tolerance after max_tries passes.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(),
        ...                             torch.nn.Linear(64, 8))
        >>> report = torch_init.lsuv_(model, torch.randn(128, 32), seed=0)
        >>> all(abs(row.std - 1) <= 0.1 for row in report.rows)
        True
    """
    target_std = errors.check_finite("lsuv_", "target_std", target_std)
    tolerance = errors.check_not_negative("lsuv_", "tolerance", tolerance)
    errors.check_positive_int("lsuv_", "max_tries", max_tries)
    if target_std <= 0:
        raise ValueError(errors.describe("lsuv_", "target_std", f"{target_std}", "a number > 0"))
    reshard(model)
    sites = [site for site in find_sites("lsuv_", model) if _is_layer_weight(site)]
    sites = [site for site in sites if where is None or where(site)]
    if not sites:
        expected = "a model with linear layers or convolutions"
        raise ValueError(errors.describe("lsuv_", "model", "none of them", expected))
    with _put_back(model):
        if rules is None:
            rules = _default_rules({id(site.module) for site in sites})
        init_(model, rules, seed)
        scaler = _Scaler(sites, target_std, tolerance)
        for _ in range(max_tries):
            if scaler.run(model, batch):
                return scaler.report
        got = ", ".join(scaler.outside()[:5])
        fix = "Raise max_tries or tolerance, or leave these layers out by where="
        expected = f"all layers within {tolerance} of {target_std} in {max_tries} passes"
        raise ValueError(errors.describe("lsuv_", "max_tries", got, expected, fix))


def _is_layer_weight(site: Site) -> bool:
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


def _default_rules(layers: set[int]) -> Rules:
    def in_layer(site: Site) -> bool:
        return id(site.module) in layers

    def is_bias(site: Site) -> bool:
        return in_layer(site) and site.leaf in ("bias", "in_proj_bias")

    return [
        rule("*", keep),
        rule("*", zeros_, where=is_bias),
        rule("*", orthogonal_, where=lambda site: in_layer(site) and _is_layer_weight(site)),
    ]


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Run in eval mode; then put modes, buffers and generators back, and after errors all else."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    parameters = [(p, p.detach().clone()) for p in model.parameters()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would pass the layers' hooks by
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            model.eval()
            yield
    except BaseException:
        with torch.no_grad():
            for parameter, value in parameters:
                parameter.copy_(value)
        raise
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


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
            weight = getattr(self.site.module, self.site.leaf)
            setattr(self.site.module, self.site.leaf, weight * self.pending)
            return
        for part in boxes("lsuv_", self.site.tensor.detach()):
            box = intersection(self.block, part)
            if box is not None:
                box.view.mul_(self.pending)


class _Scaler:
    def __init__(self, sites: Sequence[Site], target: float, tolerance: float) -> None:
        self.report = LsuvReport()
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
        everything = [layer for layers in self._layers.values() for layer in layers]
        for layer in everything:
            layer.pending, layer.reached = 1.0, False
        handles = [handle for module in model.modules() for handle in self._hook(module)]
        try:
            _call(model, batch)
        finally:
            for handle in handles:
                handle.remove()
            reshard(model)  # the next pass must not use what this one has gathered
        scaled = [layer for layer in everything if layer.pending != 1.0]
        for layer in scaled:
            layer.rescale()
            layer.row.scale *= layer.pending
            layer.row.tries += 1
        return not scaled

    def outside(self) -> list[str]:
        """Return what to say of the layers outside the tolerance."""
        limit = self._tolerance
        rows = [row for row in self.report.rows if abs(row.std - self._target) > limit]
        return [f"{row.name} at {row.std:.4g}" for row in rows]

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
        axis = 1 if isinstance(module, _CONVOLUTIONS) else -1

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
        if layer.row not in self.report.rows:
            self.report.rows.append(layer.row)
        layer.reached = True
        layer.row.std = std = _std_over_ranks(output)
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


def _std_over_ranks(output: Tensor) -> float:
    """Return the standard deviation over all elements on all ranks of the default group."""
    local = output.to_local() if hasattr(output, "to_local") else output
    variance, mean = torch.var_mean(local.detach().float(), correction=0)
    n = local.numel()
    moments = torch.stack([torch.full_like(mean, n), n * mean, n * (variance + mean**2)]).double()
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(moments)
    count, total, square = moments.tolist()
    return math.sqrt(max(square / count - (total / count) ** 2, 0.0)) if count else math.nan
