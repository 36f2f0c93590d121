# SPDX-License-Identifier: Apache-2.0
"""Layer-sequential unit-variance initialisation, from one batch of data."""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from torch_init import errors
from torch_init.distributed import reshard
from torch_init.elementwise import zeros_
from torch_init.model.execution import init_
from torch_init.model.planning import Rules
from torch_init.model.rescaling import LsuvRow, Scaler, is_layer_weight
from torch_init.model.rules import keep, rule
from torch_init.model.sites import Site, find_sites
from torch_init.model.spread import Ranks
from torch_init.structured import orthogonal_


@dataclass
class LsuvReport:
    """What lsuv_ returns.

    Attributes:
        rows: one for each layer that the batch reached, in the order it did.
        unreached: names of the layers it did not reach, which were initialised and not scaled.
    """

    rows: list[LsuvRow] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        names = [*(row.name for row in self.rows), *self.unreached]
        width = max(map(len, names), default=0)
        said = [f"std {row.std:.4f}  scaled by {row.scale:.4g}" for row in self.rows]
        said += ["not reached, not scaled"] * len(self.unreached)
        return "\n".join(f"{name:<{width}}  {what}" for name, what in zip(names, said, strict=True))


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
    group: Any = None,
) -> LsuvReport:
    """Initialise a model so that each layer's output has unit variance on a batch of data.

    Mishkin & Matas (2016), "All you need is a good init", algorithm 1: orthonormal weights, then
    layer by layer, in the order of the forward pass, weight *= target_std / std(output) until
    \\|std - target_std\\| <= tolerance. Layers are Linear, Bilinear, convolutions, transformers'
    Conv1D, and MultiheadAttention (the projections q, k, v by themselves, then the output's). One
    that is called several times goes by its first call. Frozen weights (without requires_grad) and
    loaded ones (by transformers' from_pretrained) are left alone, as init_ does: the layers after
    them see what they give, whatever its variance.

    In a process group the variance is over the batches of all its ranks, so that replicas stay
    alike. Every rank of the group must make the call, with the same arguments but for the batch,
    and its forward pass must reach the same layers in the same order; where ranks differ in that,
    all of them raise the same error. (One that fails alone, for want of memory say, leaves the
    others waiting, as in any collective call.)

    The model runs in eval mode without gradients; its mode, its buffers and the states of torch's
    default random number generators (of the CPU and of the model's GPUs) are put back. An error
    puts the parameters back too.

    Args:
        model: holds memory; whole, replicated, or sharded by fully_shard or parallelize_module.
            DataParallel runs on the first of its devices.
        batch: the model's input; a tuple of its positional or a dict of its keyword arguments.
        rules: for the weights before scaling, as init_ takes them; default: orthogonal_ for the
            layers' weights, zeros_ for their biases, everything else is kept. To scale what is
            there already: ``rule("*", torch_init.keep)``.
        seed: of those rules.
        target_std: of each layer's output.
        tolerance: how far from it a layer may stay.
        max_tries: passes at most; of the usual two, one scales all layers and one checks.
        where: called with the site of each layer's weight. False: the weight is not scaled, and
            not initialised by the default rules either. True: the batch must reach the layer.
        group: the process group of the ranks that hold these layers, whole or in part: of a
            pipeline's stage, or of one expert's copies. The default group if None.

    Returns:
        A LsuvReport. A layer that the batch does not reach, since forward takes another branch or
        uses its weight without calling it, is initialised but not scaled: the report names it, and
        so does a warning.

    Raises:
        ValueError: a layer whose output does not vary or is not finite; layers still outside the
            tolerance after max_tries passes; a layer that where= chose and the batch does not
            reach; a batch that reaches none; ranks of the group that scale or reach other layers.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(),
        ...                             torch.nn.Linear(64, 8))
        >>> report = torch_init.lsuv_(model, torch.randn(128, 32), seed=0)
        >>> all(abs(row.std - 1) <= 0.1 for row in report.rows)
        True
    """
    errors.check_type("lsuv_", "model", model, nn.Module, "a torch.nn.Module")
    target_std = errors.check_finite("lsuv_", "target_std", target_std)
    tolerance = errors.check_not_negative("lsuv_", "tolerance", tolerance)
    errors.check_positive_int("lsuv_", "max_tries", max_tries)
    if target_std <= 0:
        raise ValueError(errors.describe("lsuv_", "target_std", f"{target_std}", "a number > 0"))
    reshard(model)
    sites = _sites_to_scale(model, where)
    ranks = Ranks(group)
    ranks.check_same([f"{site.name} of shape {tuple(site.shape)}" for site in sites])
    if not sites:
        expected = "a model with linear layers or convolutions that are not frozen, loaded"
        expected += " or left out by where="
        raise ValueError(errors.describe("lsuv_", "model", "none of them", expected))
    with _put_back(model), _as_measured(model):
        if rules is None:
            rules = _default_rules(sites)
        init_(model, rules, seed)
        scaler = Scaler(sites, target_std, tolerance, ranks)
        for _ in range(max_tries):
            settled = scaler.run(model, batch)
            _check_reached(scaler, chosen=where is not None)
            if settled:
                break
        else:
            got = _listed(scaler.outside())
            fix = "Raise max_tries or tolerance, or leave these layers out by where="
            expected = f"all layers within {tolerance} of {target_std} in {max_tries} passes"
            raise ValueError(errors.describe("lsuv_", "max_tries", got, expected, fix))
    unreached = scaler.unreached()
    if unreached:
        text = f"torch_init.lsuv_: the batch did not reach {_listed(unreached)}: not scaled"
        warnings.warn(text, stacklevel=2)
    return LsuvReport(scaler.rows, unreached)


def _check_reached(scaler: Scaler, chosen: bool) -> None:
    unreached = scaler.unreached()
    if unreached and (chosen or not scaler.rows):
        fix = "Have forward call these layers as modules, or leave them out by where="
        expected = "one that reaches " + ("all layers that where= chose" if chosen else "any layer")
        got = f"one that does not reach {_listed(unreached)}"
        raise ValueError(errors.describe("lsuv_", "batch", got, expected, fix))


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - 5} more"] if len(names) > 5 else []
    return ", ".join([*names[:5], *more])


def _sites_to_scale(model: nn.Module, where: Callable[[Site], Any] | None) -> list[Site]:
    sites = [site for site in find_sites("lsuv_", model) if is_layer_weight(site)]
    sites = [site for site in sites if not site.frozen and not site.loaded]
    return [site for site in sites if where is None or where(site)]


def _default_rules(sites: Sequence[Site]) -> Rules:
    weights = {(id(site.module), site.leaf) for site in sites}
    biases = {
        (id(site.module), leaf)
        for site in sites
        for leaf in ("bias", "in_proj_bias")
        if getattr(site.module, leaf, None) is not None
    }

    def among(places: set[tuple[int, str]]) -> Callable[[Site], bool]:
        return lambda site: (id(site.module), site.leaf) in places

    rules = [rule("*", keep), rule("*", orthogonal_, where=among(weights))]
    return [*rules, rule("*", zeros_, where=among(biases))] if biases else rules


@contextmanager
def _as_measured(model: nn.Module) -> Iterator[None]:
    """Run in eval mode without gradients, and with every layer called once by its own module."""
    modes = [(module, module.training) for module in model.modules()]
    gpus = {p.device for p in model.parameters() if p.device.type == "cuda"}
    wrappers = [(m, m.device_ids) for m in model.modules() if isinstance(m, nn.DataParallel)]
    try:
        model.eval()
        for wrapper, device_ids in wrappers:  # its replicas see parts of the batch, in threads
            wrapper.device_ids = device_ids[:1]
        with _no_fast_attention, torch.no_grad(), torch.random.fork_rng(devices=list(gpus)):
            yield
    finally:
        for wrapper, device_ids in wrappers:
            wrapper.device_ids = device_ids
        for module, training in modes:
            module.training = training


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Put buffers back, and after an error the parameters too."""
    held = [(module, dict(module._buffers)) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    parameters = [(p, p.detach().clone()) for p in model.parameters()]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for parameter, value in parameters:
                parameter.copy_(value)
        raise
    finally:
        for module, of_module in held:
            _put_back_replaced_buffers(module, of_module)
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):  # others may be ones that cannot be written
                    buffer.copy_(value)


def _put_back_replaced_buffers(module: nn.Module, held: dict[str, Any]) -> None:
    """Have a module hold the very buffers that it held; a forward pass may assign others."""
    now = dict(module._buffers)
    for leaf in now.keys() - held.keys():
        delattr(module, leaf)
    for leaf, buffer in held.items():
        if now.get(leaf) is not buffer:
            module._buffers[leaf] = buffer


class _NoFastAttention:
    """Switches off a fast path that would pass the layers' hooks by, until no thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = True

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = torch.backends.mha.get_fastpath_enabled()
                torch.backends.mha.set_fastpath_enabled(False)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                torch.backends.mha.set_fastpath_enabled(self._before)


_no_fast_attention = _NoFastAttention()
