# SPDX-License-Identifier: Apache-2.0
"""Which part of the logical tensor a rank holds, and where that part lies in its memory.

A DTensor's local shard is cut into boxes: views whose dimensions are the logical tensor's own, in
steps of one, each with the logical index of its first element. From these every initialiser
fills its part of the logical tensor without asking another rank.
"""

import itertools
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from torch_init.errors import describe


class Box(NamedTuple):
    """A block of the logical tensor that lies in this rank's memory."""

    view: Tensor
    """The local memory; its dimensions are the logical tensor's."""
    offset: tuple[int, ...]
    """The logical index of its first element."""


class _Run(NamedTuple):
    """Consecutive indices along one dimension of the logical tensor."""

    start: int
    length: int


def is_dtensor(tensor: Tensor) -> bool:
    """Whether tensor is a DTensor.

    Example:
        >>> torch_init.distributed.is_dtensor(torch.empty(3))
        False
    """
    # Not imported here: half a second that is wasted where nobody made a DTensor.
    module = sys.modules.get("torch.distributed.tensor")
    return isinstance(tensor, getattr(module, "DTensor", ()))


def logical_shape(tensor: Tensor) -> torch.Size:
    """Return the shape of the whole tensor that tensor is this rank's part of.

    Example:
        >>> torch_init.distributed.logical_shape(torch.empty(3, 5))
        torch.Size([3, 5])
    """
    return torch.Size(getattr(tensor, "ds_shape", tensor.shape))


def check_logical(function: str, tensor: Tensor) -> None:
    """Raise if tensor no longer tells which elements of its logical tensor it holds.

    Raises:
        ValueError: a DTensor with a placement that is neither Shard nor Replicate, a parameter
            flattened by FullyShardedDataParallel, or one partitioned by DeepSpeed ZeRO-3.

    Example:
        >>> torch_init.distributed.check_logical("normal_", torch.empty(3))
    """
    if type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.__dict__:
        return  # nobody has marked it; asking for each mark would take longer
    if getattr(tensor, "_is_flat_param", False) or getattr(tensor, "_fsdp_flattened", False):
        got = "one that FullyShardedDataParallel (FSDP1) has flattened, whose shape is lost"
        fix = "Initialise the module before it is wrapped, or shard it by fully_shard (FSDP2)"
        raise ValueError(describe(function, "tensor", got, "a tensor or DTensor", fix))
    if tensor.shape != logical_shape(tensor):
        shape = tuple(logical_shape(tensor))
        got = f"the placeholder of a parameter of shape {shape} that DeepSpeed ZeRO-3 partitioned"
        fix = (
            "Fill it inside deepspeed.zero.GatheredParameters(parameters, modifier_rank=0), or "
            "initialise the module before DeepSpeed partitions it"
        )
        raise ValueError(describe(function, "tensor", got, "a tensor that holds values", fix))
    if is_dtensor(tensor):
        for placement in _dtensor(tensor).placements:
            _check_placement(function, placement)


def reshard(model: torch.nn.Module) -> None:
    """Have modules sharded by fully_shard hold their shards, as they do not after a forward pass.

    Until the backward pass the outermost holds whole parameters, and forgets what they are given.

    Example:
        >>> torch_init.distributed.reshard(torch.nn.Linear(3, 5))
    """
    module = sys.modules.get("torch.distributed.fsdp")
    for part in model.modules():
        if isinstance(part, getattr(module, "FSDPModule", ())):
            part.reshard()  # type: ignore[operator]


def boxes(function: str, tensor: Tensor) -> list[Box]:
    """Return the boxes of the logical tensor that lie in this rank's memory.

    Args:
        function: name for error messages.
        tensor: an ordinary tensor is one box. A DTensor, with any mesh and any mixture of Shard
            and Replicate (FSDP2's strided shards too), gives those of its local shard: usually
            one, none if the shard is empty or the rank is not in the mesh. Its local memory may
            be on another device than the mesh (CPU offload).

    Raises:
        TypeError: a local shard that is itself a wrapper (quantised, ...).
        ValueError: as check_logical does, or a local shard of another shape than the placements
            give it.

    Example:
        >>> torch_init.distributed.boxes("normal_", torch.zeros(2))
        [Box(view=tensor([0., 0.]), offset=(0,))]
    """
    check_logical(function, tensor)
    if not is_dtensor(tensor):
        return [Box(tensor, (0,) * tensor.dim())] if tensor.numel() > 0 else []
    coordinate = _dtensor(tensor).device_mesh.get_coordinate()
    if coordinate is None:  # this rank is not in the mesh
        return []
    local = _local(function, tensor)
    runs = [_runs(size, _splits(tensor, dim, coordinate)) for dim, size in enumerate(tensor.shape)]
    expected = tuple(sum(run.length for run in dim_runs) for dim_runs in runs)
    if local.shape != expected:
        got = f"a local shard of shape {tuple(local.shape)}"
        fix = (
            "Which elements it holds is not known; make it by distribute_tensor, or by "
            "DTensor.from_local of the parts that torch.chunk makes"
        )
        raise ValueError(
            describe(function, "tensor", got, f"{expected}, which its placements give", fix)
        )
    return [_box(local, combination) for combination in itertools.product(*map(_placed, runs))]


def _dtensor(tensor: Tensor) -> Any:
    """Return tensor, a DTensor, untyped: its class is not imported here."""
    return tensor


def _check_placement(function: str, placement: object) -> None:
    from torch.distributed.tensor import Replicate, Shard

    # Exact types, since a subclass may cut in its own way.
    if isinstance(placement, Replicate) or type(placement) is Shard or _is_strided(placement):
        return
    got = f"a DTensor with a placement of type {type(placement).__name__}"
    fix = "Use dtensor.redistribute(placements=...) first"
    expected = "the placements Shard and Replicate only"
    raise ValueError(describe(function, "tensor", got, expected, fix))


def _is_strided(placement: object) -> bool:
    # The class is private, and has changed its base class.
    return type(placement).__name__ == "_StridedShard"


def _local(function: str, tensor: Tensor) -> Tensor:
    """Return the memory of a DTensor's local shard."""
    with torch.no_grad():  # with gradients, it would be a view that autograd knows of
        local: Tensor = _dtensor(tensor).to_local()
    if type(local).__name__ == "AsyncCollectiveTensor":
        local = local.wait()  # type: ignore[attr-defined]
    wraps_others: bool = is_traceable_wrapper_subclass(local)
    if wraps_others:
        got = f"a DTensor whose local shard is a {type(local).__name__}"
        fix = "Initialise it before it is quantised or wrapped"
        raise TypeError(describe(function, "tensor", got, "ordinary local shards", fix))
    return local.detach()


class _Split(NamedTuple):
    """One mesh dimension's cut of one tensor dimension."""

    parts: int
    mine: int
    factor: int
    """Pieces that the cut is made in, one after the other; 1 for Shard."""


def _splits(tensor: Tensor, dim: int, coordinate: Sequence[int]) -> list[_Split]:
    """Return the cuts of dimension dim, in the order in which they are made."""
    mesh, placements = _dtensor(tensor).device_mesh, _dtensor(tensor).placements
    mesh_dims = [d for d, p in enumerate(placements) if getattr(p, "dim", None) == dim]
    factors = {d: getattr(placements[d], "split_factor", 1) for d in mesh_dims}
    # A strided shard says by its factor, the number of parts that are there already, that it
    # was cut after mesh dimensions to its right: FSDP2 shards what tensor parallelism left.
    # Taken in the order of cutting, all cuts are plain ones; torch's own helper, which takes
    # them from left to right, is wrong where FSDP2 shards unevenly.
    order = _order_of_cutting(mesh_dims, factors, mesh) or _explicit_order(tensor, dim)
    if order is not None:
        return [_Split(mesh.size(d), coordinate[d], 1) for d in order]
    return [_Split(mesh.size(d), coordinate[d], factors[d]) for d in mesh_dims]


def _order_of_cutting(
    mesh_dims: Sequence[int], factors: dict[int, int], mesh: Any
) -> list[int] | None:
    """Return mesh_dims in the order that strided shards imply; None if no order fits."""
    if all(factor == 1 for factor in factors.values()):
        return None
    order: list[int] = []
    for mesh_dim in reversed(mesh_dims):
        parts = list(itertools.accumulate([mesh.size(d) for d in order], int.__mul__, initial=1))
        if factors[mesh_dim] not in parts:
            return None
        order.insert(parts.index(factors[mesh_dim]), mesh_dim)
    return order


def _explicit_order(tensor: Tensor, dim: int) -> list[int] | None:
    """Return the order that newer versions of torch may keep beside the placements."""
    for entry in getattr(_dtensor(tensor)._spec, "shard_order", None) or ():
        if entry.tensor_dim == dim:
            return list(entry.mesh_dims)
    return None


def _runs(size: int, splits: Sequence[_Split]) -> list[_Run]:
    """Return the runs of a dimension of that size that the cuts leave, none of them empty."""
    runs = [_Run(0, size)] if size > 0 else []
    for split in splits:
        length = sum(run.length for run in runs)
        taken: list[_Run] = []
        for piece in range(split.factor):
            start, stop = _chunk(length, split.factor, piece)
            first, last = _chunk(stop - start, split.parts, split.mine)
            for run in _take(runs, start + first, start + last):
                if taken and taken[-1].start + taken[-1].length == run.start:
                    run = _Run(taken[-1].start, taken.pop().length + run.length)
                taken.append(run)
        runs = taken
    return runs


def _chunk(length: int, parts: int, index: int) -> tuple[int, int]:
    """Return where the part of that index of torch.chunk begins and ends."""
    size = -(-length // parts)
    return min(index * size, length), min((index + 1) * size, length)


def _take(runs: Sequence[_Run], start: int, stop: int) -> list[_Run]:
    """Return what lies from position start to position stop of the runs, laid end to end."""
    taken = []
    position = 0
    for run in runs:
        first, last = max(start - position, 0), min(stop - position, run.length)
        if first < last:
            taken.append(_Run(run.start + first, last - first))
        position += run.length
    return taken


def _placed(runs: Sequence[_Run]) -> list[tuple[_Run, int]]:
    """Return each run with its position in local memory."""
    positions = itertools.accumulate([run.length for run in runs], initial=0)
    return list(zip(runs, positions, strict=False))


def _box(local: Tensor, placed: Sequence[tuple[_Run, int]]) -> Box:
    view = local
    for dim, (run, position) in enumerate(placed):
        if run.length != local.shape[dim]:
            view = view.narrow(dim, position, run.length)
    return Box(view, tuple(run.start for run, _ in placed))
