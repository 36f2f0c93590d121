# SPDX-License-Identifier: Apache-2.0
"""From a model on the meta device to an initialised one, in the memory of one."""

import warnings
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from torch_init import _ops
from torch_init.errors import describe
from torch_init.model.execution import prepare
from torch_init.model.planning import Rules, make_plan
from torch_init.model.read_back import read_back
from torch_init.model.report import Report
from torch_init.model.sites import find_buffers, modules_by_name
from torch_init.model.table import Plan


def materialize_(
    model: nn.Module,
    rules: Rules,
    seed: int = 0,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    strict: bool = True,
    include: Collection[str] = (),
    rename: Callable[[str], str] | None = None,
    buffers: Callable[[str, nn.Module], object] | None = None,
) -> Report:
    """Give the parameters of a model on the meta device memory, and initialise them there.

    What is on the meta device is allocated once, on device; what has memory already stays where
    it is, and parameters that are tied stay tied. Parameters are then initialised as init_ does.

    Buffers that were on the meta device: the running statistics of torch's normalisation layers
    are reset, those of transformers' models are rebuilt by the model, and buffers() may rebuild
    any other. What is still unknown then is filled with NaN (integers: zeros), warned about, and
    listed among the report's problems.

    Args:
        model: made under torch.device("meta"), whole or in part; sharded by fully_shard or
            parallelize_module, or not.
        rules, seed, strict, include, rename: see plan. Parameters on the meta device are
            initialised whether frozen or not.
        device: where to.
        dtype: of the parameters; their own if None. Buffers keep theirs.
        buffers: called with the canonical name of each module that owns such a buffer, and the
            module, once parameters and buffers have memory; fills what it knows in place.

    Raises:
        TypeError, ValueError: as plan does; model is then unchanged.

    Example:
        >>> with torch.device("meta"):
        ...     model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16))
        >>> report = torch_init.materialize_(model, "he", seed=0, dtype=torch.bfloat16)
        >>> model[0].weight.dtype, report.problems
        (torch.bfloat16, [])
    """
    try:
        device = torch.device(device)
    except (TypeError, ValueError, RuntimeError) as error:
        got, expected = f"{device!r}", "a torch.device, or its name"
        raise TypeError(describe("materialize_", "device", got, expected)) from error
    if device.type == "meta":
        fix = "torch_init.plan says what would be done there"
        raise ValueError(describe("materialize_", "device", "meta", "one with memory", fix))
    if device.type not in _ops.FILLABLE_DEVICES or (
        device.type == "cuda" and not torch.cuda.is_available()
    ):
        expected = "a device that is there, and that torch_init has kernels for"
        raise ValueError(describe("materialize_", "device", f"{device}", expected))
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(describe("materialize_", "dtype", f"{dtype!r}", "a floating-point dtype"))
    plan = make_plan("materialize_", model, rules, seed, strict, include, rename, dtype)
    _check_nothing_kept(plan)
    lost = [(name, buffer) for name, buffer, _ in find_buffers(model) if buffer.is_meta]
    _allocate(model, device, dtype)
    prepare(plan).run()
    unknown = _rebuild_buffers(model, {name for name, _ in lost}, buffers)
    faults = [f"{name}: a buffer whose values were not rebuilt" for name in unknown]
    faults += _stray_meta_tensors(model)
    if faults:
        fix = ". buffers= may be a function (module's name, module) that fills them"
        warnings.warn("torch_init.materialize_: " + "; ".join(faults) + fix, stacklevel=2)
    return read_back(plan, faults)


def _check_nothing_kept(plan: Plan) -> None:
    for row in plan.rows:
        if row.site.tensor.is_meta and row.status != "init":
            got = f"{row.name} left alone ({row.status}), on the meta device"
            fix = "There is nothing to keep; give it a rule, also if a checkpoint is loaded later"
            expected = "a rule that initialises every such parameter"
            raise ValueError(describe("materialize_", "rules", got, expected, fix))


def _allocate(model: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
    parameters = {id(parameter) for parameter in model.parameters()}
    made: dict[int, Tensor] = {}

    def allocated(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in made:
            to = dtype if id(tensor) in parameters and tensor.is_floating_point() else None
            made[id(tensor)] = torch.empty_like(tensor, device=device, dtype=to)
        return made[id(tensor)]

    # Module._apply, as Module.to_empty does it: FSDP2 follows there, and plain loops are lost.
    tied = _places_by_parameter(model)
    attributes = [dict(vars(places[0][0]._parameters[places[0][1]])) for places in tied]
    model._apply(allocated)
    for places, kept in zip(tied, attributes, strict=True):
        module, leaf = places[0]
        parameter = module._parameters[leaf]
        vars(parameter).update(kept)
        for other, alias in places[1:]:
            setattr(other, alias, parameter)  # LSTM and the like keep a list, too


def _places_by_parameter(model: nn.Module) -> list[list[tuple[nn.Module, str]]]:
    """Return the (module, leaf) places of each parameter; several if it is tied."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                places.setdefault(id(parameter), []).append((module, leaf))
    return list(places.values())


def _rebuild_buffers(
    model: nn.Module, lost: set[str], rebuild: Callable[[str, nn.Module], object] | None
) -> list[str]:
    """Give the buffers that lost their values new ones; return the names of those still without."""
    unknown = []
    modules = dict(modules_by_name(model))
    for prefix, module in modules.items():
        names = {leaf: _join(prefix, leaf) for leaf in module._buffers}
        mine = [leaf for leaf, name in names.items() if name in lost]
        if not mine:
            continue
        for leaf in mine:
            _fill_with_nothing(module._buffers[leaf])
        before = {leaf: _state(module._buffers[leaf]) for leaf in mine}
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()
        if not module._parameters:
            _rebuild_as_transformers(modules, prefix, module)
        if rebuild is not None and rebuild(prefix, module) is not None:
            expected = "a function that fills the module's buffers in place and returns nothing"
            got = "one that returns something"
            raise TypeError(describe("materialize_", "buffers", got, expected))
        unknown += [names[leaf] for leaf in mine if _state(module._buffers[leaf]) == before[leaf]]
    return unknown


def _rebuild_as_transformers(modules: dict[str, nn.Module], prefix: str, module: nn.Module) -> None:
    """Let the transformers model that module is a part of, if there is one, fill its buffers."""
    name = prefix
    while True:
        around = modules[name]
        if hasattr(around, "_init_weights") and hasattr(around, "config"):
            around._init_weights(module)  # type: ignore[operator]
            return
        if not name:
            return
        name = name.rpartition(".")[0]


def _fill_with_nothing(buffer: Tensor | None) -> None:
    if buffer is not None:
        with torch.no_grad():
            buffer.fill_(torch.nan if buffer.is_floating_point() or buffer.is_complex() else 0)


def _state(buffer: Tensor | None) -> tuple[int, int]:
    """Return what changes if a buffer is replaced or written."""
    return (id(buffer), 0 if buffer is None else buffer._version)


def _join(prefix: str, leaf: str) -> str:
    return f"{prefix}.{leaf}" if prefix else leaf


def _stray_meta_tensors(model: nn.Module) -> list[str]:
    """Return what to say of tensors that modules hold as plain attributes, out of our reach."""
    return [
        f"{_join(prefix, name)}: an attribute on the meta device, neither parameter nor buffer"
        for prefix, module in modules_by_name(model)
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and value.is_meta
    ]
