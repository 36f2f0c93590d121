# SPDX-License-Identifier: Apache-2.0
"""What every rank checks of distributed.boxes, against the arange that torch has distributed."""

import itertools

import torch
import torch.distributed as dist
from ranks import only_on
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor._dtensor_spec import DTensorSpec, ShardOrderEntry, TensorMeta
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.distributed.tensor.placement_types import _StridedShard

from torch_init import distributed

SHAPES = [(7, 5), (4, 6), (3,), (1, 8), (2, 3, 5), (0, 3), (12, 2)]


def arange(shape):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


def assert_boxes(dtensor, whole):
    """Check the boxes of dtensor, which holds its part of whole; then that they are all of it."""
    boxes = distributed.boxes("normal_", dtensor)
    with torch.no_grad():
        local = dtensor.to_local()
    about = f"{tuple(whole.shape)} {dtensor.placements} {dtensor.device_mesh}: {boxes}"
    for view, offset in boxes:
        part = tuple(slice(o, o + n) for o, n in zip(offset, view.shape, strict=True))
        assert torch.equal(view, whole[part]), about
        assert view.numel() > 0, about
        assert view.untyped_storage().data_ptr() == local.untyped_storage().data_ptr(), about
    assert sum(view.numel() for view, _ in boxes) == local.numel(), about
    before = local.clone()
    for view, _ in boxes:
        view.neg_()
    assert torch.equal(local, -before), about
    for view, _ in boxes:
        view.neg_()
    return boxes


def meshes(ranks):
    shapes = {1: [(1,), (1, 1)], 2: [(2,), (2, 1), (1, 2)], 3: [(3,)], 4: [(4,), (2, 2), (2, 1, 2)]}
    return [init_device_mesh("cpu", shape) for shape in shapes[ranks]]


def check_every_placement(rank, ranks):
    for mesh, shape in itertools.product(meshes(ranks), SHAPES):
        whole = arange(shape)
        single = [Replicate(), *(Shard(d) for d in range(len(shape)))]
        for placements in itertools.product(single, repeat=mesh.ndim):
            dtensor = distribute_tensor(whole, mesh, placements, src_data_rank=None)
            boxes = assert_boxes(dtensor, whole)
            assert len(boxes) == (dtensor.to_local().numel() > 0)


def check_scalars_and_transposed_memory(rank, ranks):
    mesh = init_device_mesh("cpu", (ranks,))
    (box,) = assert_boxes(distribute_tensor(torch.tensor(3.0), mesh, [Replicate()]), arange(()) + 3)
    assert box.offset == ()
    whole = arange((12, 5))
    local = whole.chunk(ranks, 0)[rank].T.contiguous().T
    assert_boxes(DTensor.from_local(local, mesh, [Shard(0)]), whole)


@only_on(2, 3, 4)
def check_ranks_outside_the_mesh(rank, ranks):
    mesh = DeviceMesh("cpu", list(range(1, ranks)))
    dtensor = distribute_tensor(arange((6, 4)), mesh, [Shard(0)])
    assert (distributed.boxes("normal_", dtensor) == []) == (rank == 0)
    if rank > 0:
        assert_boxes(dtensor, arange((6, 4)))


def fsdp2_over_tensor_parallelism(mesh, rows):
    whole = arange((rows, 3))
    layer = nn.Sequential(nn.Linear(3, rows))
    with torch.no_grad():
        layer[0].weight.copy_(whole)
    parallelize_module(layer, mesh["tp"], {"0": ColwiseParallel()})
    fully_shard(layer, mesh=mesh["dp"])
    assert [p.dim for p in layer[0].weight.placements] == [0, 0]
    assert_boxes(layer[0].weight, whole)


@only_on(6)
def check_fsdp2_cuts_unevenly_what_tensor_parallelism_left(rank, ranks):
    """Taken from left to right, the placements of 7 rows give the last one to the wrong rank."""
    mesh = init_device_mesh("cpu", (3, 2), mesh_dim_names=("dp", "tp"))
    for rows in (7, 13):
        fsdp2_over_tensor_parallelism(mesh, rows)


@only_on(4)
def check_two_cuts_of_one_dimension(rank, ranks):
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    for rows in range(1, 12):
        fsdp2_over_tensor_parallelism(mesh, rows)
    # The strided shard in every place, where torch can make it.
    for shape, dim in [((8, 3), 0), ((3, 8), 1), ((2, 12), 1)]:
        whole = arange(shape)
        strided = _StridedShard(dim, split_factor=2)
        for placements in [
            (strided, Shard(dim)),
            (strided, Replicate()),
            (Replicate(), strided),
            (Shard(1 - dim), strided),
            (strided, Shard(1 - dim)),
        ]:
            dtensor = distribute_tensor(whole, mesh, placements, src_data_rank=None)
            boxes = assert_boxes(dtensor, whole)
            if placements == (strided, Replicate()):
                assert len(boxes) == 2


@only_on(4)
def check_an_order_of_cutting_beside_the_placements(rank, ranks):
    mesh = init_device_mesh("cpu", (2, 2))
    whole = arange((8, 3))
    row, column = mesh.get_coordinate()
    local = whole.chunk(2)[column].chunk(2)[row].contiguous()
    spec = DTensorSpec(
        mesh,
        (Shard(0), Shard(0)),
        tensor_meta=TensorMeta(whole.shape, whole.stride(), whole.dtype),
        shard_order=(ShardOrderEntry(tensor_dim=0, mesh_dims=(1, 0)),),
    )
    dtensor = DTensor(local, spec, requires_grad=False)
    assert torch.equal(dtensor.full_tensor(), whole)
    assert_boxes(dtensor, whole)


def _mlp():
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


def _whole_mlp():
    model = _mlp()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(arange(parameter.shape))
    return model


def check_fsdp2(rank, ranks):
    model = _whole_mlp()
    wholes = {name: p.detach().clone() for name, p in model.named_parameters()}
    for layer in (model[0], model[2]):
        fully_shard(layer)
    fully_shard(model)
    for name, parameter in model.named_parameters():
        assert_boxes(parameter, wholes[name])
        assert torch.equal(parameter.full_tensor(), wholes[name])


def check_fsdp2_keeps_its_padding(rank, ranks):
    layer = nn.Linear(2, ranks + 1)
    fully_shard(layer)
    for view, _ in distributed.boxes("ones_", layer.weight):
        view.fill_(1)
    data = layer.weight.to_local().untyped_storage()
    flat = torch.empty(0).set_(data)
    local = layer.weight.to_local().numel()
    assert flat[:local].eq(1).all()
    assert flat[local:].eq(0).all()


@only_on(4)
def check_hybrid_sharding_with_tensor_parallelism(rank, ranks):
    # (replicate, shard) x tp, of which one has a single rank.
    for shape in [(2, 2, 1), (1, 2, 2), (2, 1, 2)]:
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=("replicate", "shard", "tp"))
        model = _whole_mlp()
        wholes = {name: p.detach().clone() for name, p in model.named_parameters()}
        plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        parallelize_module(model, mesh["tp"], plan)
        fully_shard(model, mesh=mesh["replicate", "shard"])
        for name, parameter in model.named_parameters():
            assert_boxes(parameter, wholes[name])


def check_refusals(rank, ranks):
    mesh = init_device_mesh("cpu", (ranks,))
    partial = DTensor.from_local(torch.ones(3), mesh, [Partial()])
    _refused(ValueError, partial, "Partial", "redistribute")

    class Odd(Shard):
        pass

    odd = DTensor.from_local(torch.ones(3), mesh, [Odd(0)], run_check=False)
    _refused(ValueError, odd, "Odd", "redistribute")

    uneven = DTensor.from_local(
        torch.ones(rank + 1, 2), mesh, [Shard(0)], shape=torch.Size((8, 2)), stride=(2, 1)
    )
    if rank == 0:
        _refused(ValueError, uneven, "(1, 2)", "distribute_tensor")

    for use_orig_params in (True, False):
        wrapped = FullyShardedDataParallel(
            _mlp(), use_orig_params=use_orig_params, device_id=torch.device("cpu")
        )
        for parameter in wrapped.parameters():
            _refused(ValueError, parameter, "FSDP1", "fully_shard")
    dist.barrier()


def _refused(error, tensor, *words):
    try:
        distributed.boxes("normal_", tensor)
    except error as caught:
        message = str(caught)
        assert message.startswith("torch_init.normal_: tensor: expected "), message
        for word in words:
            assert word in message, message
    else:
        raise AssertionError(f"{type(tensor)} was not refused")
