# SPDX-License-Identifier: Apache-2.0
"""What every rank checks of the initialisers: a DTensor has the bits of the whole tensor."""

import itertools

import torch
import torch.distributed as dist
from init_cases import CASES, NARROW_DTYPES, RANDOM, same_bits
from ranks import only_on
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.placement_types import _StridedShard

import torch_init
from torch_init import distributed

SHAPES = {2: [(8, 6), (7, 5), (3, 8)], 3: [(8, 6, 3), (7, 4, 2), (3, 2, 5)]}
"""Even, uneven over 2 and 4 ranks, and with empty shards on 4."""


def shapes(case):
    """The shapes that case is tried with; the first is its own."""
    return SHAPES[len(case.shape)]


def whole(case, shape, dtype):
    """What one process would have, and that it is not what the tensor had before."""
    tensor = case.fill(torch.full(shape, 7.0, dtype=dtype))
    assert not (tensor == 7).all()
    return tensor


def assert_same_part(case, dtensor, expected):
    """Fill dtensor; the elements that this rank holds must be those of expected."""
    about = f"{case} {tuple(dtensor.shape)} {dtensor.dtype} {dtensor.placements}"
    filled = case.fill(dtensor)
    assert filled is dtensor
    held = 0
    for view, offset in distributed.boxes("test", dtensor):
        part = tuple(slice(o, o + n) for o, n in zip(offset, view.shape, strict=True))
        assert same_bits(view, expected[part]), about
        held += view.numel()
    assert held == dtensor.to_local().numel(), about


def assert_same_whole(case, dtensor, expected):
    assert_same_part(case, dtensor, expected)
    about = f"{case} {tuple(dtensor.shape)} {dtensor.dtype} {dtensor.placements}"
    assert same_bits(dtensor.full_tensor(), expected), about


def meshes(ranks):
    return {1: [(1,)], 2: [(2,)], 3: [(3,)], 4: [(4,), (2, 2)]}[ranks]


def check_every_initialiser(rank, ranks):
    for mesh_shape in meshes(ranks):
        mesh = init_device_mesh("cpu", mesh_shape)
        for case, dtype in itertools.product(CASES, (torch.float32, torch.bfloat16)):
            for shape in shapes(case):
                expected = whole(case, shape, dtype)
                single = [Replicate(), *(Shard(d) for d in range(len(shape)))]
                for placements in itertools.product(single, repeat=mesh.ndim):
                    empty = torch.full(shape, 7.0, dtype=dtype)
                    dtensor = distribute_tensor(empty, mesh, placements, src_data_rank=None)
                    assert_same_part(case, dtensor, expected)
                    if shape == shapes(case)[1]:
                        assert same_bits(dtensor.full_tensor(), expected)


def check_other_dtypes(rank, ranks):
    mesh = init_device_mesh("cpu", (ranks,))
    for case in CASES:
        dtypes = [torch.float64, *NARROW_DTYPES[1:], torch.complex64]
        for dtype in dtypes if case.complex else dtypes[:-1]:
            if dtype.is_complex and not case.random:
                continue  # what these do to complex tensors is not this test's subject
            expected = whole(case, case.shape, dtype)
            for dim in range(len(case.shape)):
                empty = torch.full(case.shape, 7.0, dtype=dtype)
                dtensor = distribute_tensor(empty, mesh, [Shard(dim)], src_data_rank=None)
                assert_same_part(case, dtensor, expected)
                if dtype == torch.float64:
                    assert same_bits(dtensor.full_tensor(), expected)


class _Holder(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)


def check_fsdp2_over_tensor_parallelism(rank, ranks):
    """FSDP2, alone and over what tensor parallelism left, by rows and by columns."""
    tp_size = 2 if ranks == 4 else 1
    mesh = init_device_mesh("cpu", (ranks // tp_size, tp_size), mesh_dim_names=("dp", "tp"))
    offload = {"offload_policy": CPUOffloadPolicy(pin_memory=False)}
    for case, dtype in itertools.product(CASES, (torch.float32, torch.bfloat16)):
        for shape in shapes(case) if dtype == torch.float32 else shapes(case)[1:2]:
            expected = whole(case, shape, dtype)
            for tp, options in [(None, {}), (Shard(0), {}), (Shard(1), {}), (Shard(0), offload)]:
                empty = torch.full(shape, 7.0, dtype=dtype)
                if tp is not None:
                    empty = distribute_tensor(empty, mesh["tp"], [tp], src_data_rank=None)
                module = _Holder(empty)
                fully_shard(module, mesh=mesh["dp"], **options)
                weight = module.weight
                assert isinstance(weight, nn.Parameter) and weight.requires_grad
                assert_same_whole(case, weight, expected)


@only_on(4)
def check_strided_shards(rank, ranks):
    mesh = init_device_mesh("cpu", (2, 2))
    for case in CASES:
        shape = shapes(case)[0]
        expected = whole(case, shape, torch.float32)
        for placements in [
            (_StridedShard(0, split_factor=2), Shard(0)),
            (_StridedShard(0, split_factor=2), Replicate()),
            (Shard(1), _StridedShard(0, split_factor=4)),
        ]:
            dtensor = distribute_tensor(torch.zeros(shape), mesh, placements, src_data_rank=None)
            assert_same_part(case, dtensor, expected)


def check_memory_on_another_device_than_the_mesh(rank, ranks):
    """As with CPU offload under a mesh of GPUs; here the mesh is of meta devices."""
    mesh = DeviceMesh("meta", list(range(ranks)), _init_backend=False)
    for case in CASES:
        expected = whole(case, case.shape, torch.float32)
        mine = expected.chunk(ranks)[rank]
        local = torch.full_like(mine, 7.0)
        meta = TensorMeta(expected.shape, expected.stride(), expected.dtype)
        spec = DTensorSpec(mesh, (Shard(0),), tensor_meta=meta)
        case.fill(DTensor(local, spec, requires_grad=False))
        assert same_bits(local, mine), str(case)


def check_no_rank_waits_for_another(rank, ranks):
    mesh = init_device_mesh("cpu", (ranks,))
    tensors = {case: distribute_tensor(torch.zeros(case.shape), mesh, [Shard(0)]) for case in CASES}
    dist.barrier()
    for turn in range(ranks):
        if turn == rank:
            with CommDebugMode() as communication:
                for case, tensor in tensors.items():
                    case.fill(tensor)
            assert communication.get_total_counts() == 0
        dist.barrier()
    for case, tensor in tensors.items():
        assert same_bits(tensor.full_tensor(), whole(case, case.shape, torch.float32))


@only_on(2, 3, 4)
def check_ranks_outside_the_mesh(rank, ranks):
    mesh = DeviceMesh("cpu", list(range(1, ranks)))
    for case in CASES:
        dtensor = distribute_tensor(torch.zeros(case.shape), mesh, [Shard(0)], src_data_rank=None)
        assert_same_part(case, dtensor, whole(case, case.shape, torch.float32))


def check_plain_shards_wrapped_for_the_call(rank, ranks):
    """As with layers of Megatron-LM, whose parameters are local tensors."""
    mesh = init_device_mesh("cpu", (ranks,))
    expected = torch_init.normal_(torch.empty(12, 6), seed=3, name="weight")
    parameter = nn.Parameter(torch.zeros(12 // ranks, 6))
    wrapped = DTensor.from_local(parameter.detach(), mesh, [Shard(0)])
    torch_init.normal_(wrapped, seed=3, name="weight")
    assert same_bits(parameter, expected.chunk(ranks)[rank])


@only_on(2)
def check_compiled(rank, ranks):
    mesh = init_device_mesh("cpu", (ranks,))
    for case in CASES:
        if case.name in ("normal_", "sparse_", "eye_"):
            dtensor = distribute_tensor(torch.zeros(case.shape), mesh, [Shard(0)])
            fill = torch.compile(case.fill, backend="aot_eager", fullgraph=True)
            fill(dtensor)
            assert same_bits(dtensor.full_tensor(), whole(case, case.shape, torch.float32))


def check_a_seed_is_asked_for(rank, ranks):
    mesh = init_device_mesh("cpu", (ranks,))
    for case in RANDOM:
        dtensor = distribute_tensor(torch.zeros(case.shape), mesh, [Shard(0)])
        for keywords in ({}, {"generator": torch.Generator()}):
            state = torch.get_rng_state()
            try:
                case(dtensor, **keywords)
            except ValueError as error:
                assert f"torch_init.{case}: seed: expected a seed" in str(error), str(error)
            else:
                raise AssertionError(f"{case} drew a seed of its own")
            assert torch.equal(torch.get_rng_state(), state)
            assert (dtensor.to_local() == 0).all()


def check_autograd_knows(rank, ranks):
    mesh = init_device_mesh("cpu", (ranks,))
    for case in CASES:
        weight = nn.Parameter(distribute_tensor(torch.ones(case.shape), mesh, [Shard(0)]))
        loss = (weight * weight).sum()
        case.fill(weight)
        assert weight.is_leaf and weight.requires_grad
        try:
            loss.to_local().backward()
        except RuntimeError as error:
            assert "modified by an inplace operation" in str(error), str(error)
        else:
            raise AssertionError(f"{case} changed what autograd had saved")


def check_overlapping_shards_are_refused(rank, ranks):
    mesh = init_device_mesh("cpu", (ranks,))
    local = torch.zeros(1, 6).expand(2, 6)
    dtensor = DTensor.from_local(local, mesh, [Shard(0)], run_check=False)
    for case in CASES:
        if len(case.shape) == 2 and case.name not in ("constant_", "ones_", "zeros_"):
            _refused(ValueError, case, dtensor, "share memory")


def check_partial_sums_are_refused(rank, ranks):
    mesh = init_device_mesh("cpu", (ranks,))
    for case in CASES:
        partial = DTensor.from_local(torch.full(case.shape, 7.0), mesh, [Partial()])
        _refused(ValueError, case, partial, "Partial")
        assert (partial.to_local() == 7).all()


def check_meta_shards_are_left_alone(rank, ranks):
    mesh = init_device_mesh("cpu", (ranks,))
    with torch.device("meta"):
        module = nn.Linear(6, 8)
    fully_shard(module, mesh=mesh)
    assert torch_init.normal_(module.weight, seed=0) is module.weight
    assert module.weight.is_meta


def _refused(error, case, tensor, word):
    try:
        case.fill(tensor)
    except error as caught:
        assert str(caught).startswith(f"torch_init.{case}: tensor: expected "), str(caught)
        assert word in str(caught), str(caught)
    else:
        raise AssertionError(f"{case} was not refused")
