# SPDX-License-Identifier: Apache-2.0
"""What every rank checks of whole models: however they are sharded, they are the one model."""

import torch
from init_cases import same_bits
from ranks import only_on
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.utils.parametrizations import orthogonal, weight_norm

import torch_init
from torch_init import rule

SEED = 5


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8, bias=False)
        self.up = nn.Linear(8, 13)
        self.down = nn.Linear(13, 8)


class Network(nn.Module):
    """A layer of every kind: nothing divides by the number of ranks, and one weight is tied."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=6)
        self.conv = nn.Conv1d(6, 8, 3)
        self.layers = nn.ModuleList([Block(), Block()])
        self.experts = nn.Parameter(torch.empty(3, 7, 5))
        self.recurrent = nn.Linear(7, 7, bias=False)
        self.memory = nn.Linear(9, 5, bias=False)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.empty(1))


RULES = [
    rule("*", torch_init.normal_, std=0.02),
    rule("*.bias", torch_init.uniform_, a=-0.1, b=0.1),
    rule("*.norm.weight", torch_init.ones_),
    rule("embed.weight", torch_init.trunc_normal_, std=0.02, a=-2, b=2, bounds="sigma"),
    rule("conv.weight", torch_init.delta_orthogonal_),
    rule("*.qkv.weight", torch_init.xavier_uniform_, split=(8, 8, 8)),
    rule("*.down.weight", torch_init.sparse_, sparsity=0.3),
    rule("*.out.weight", torch_init.normal_, std=lambda p: 0.02 / (2 * p.num_layers) ** 0.5),
    rule("experts", torch_init.orthogonal_, stacked=True),
    rule("recurrent.weight", torch_init.eye_),
    rule("memory.weight", torch_init.he_),
]


def by_fsdp2(model, ranks, **options):
    for layer in model.layers:
        fully_shard(layer, **options)
    fully_shard(model, **options)


def by_fsdp2_with_offload(model, ranks):
    by_fsdp2(model, ranks, offload_policy=CPUOffloadPolicy(pin_memory=False))


def _tensor_parallel(model, mesh):
    plan = {
        "embed": ColwiseParallel(),
        "memory": RowwiseParallel(),
        "layers.*.qkv": ColwiseParallel(),
        "layers.*.out": RowwiseParallel(),
        "layers.*.up": ColwiseParallel(),
        "layers.*.down": RowwiseParallel(),
    }
    parallelize_module(model, mesh, plan)
    model.head.weight = model.embed.weight  # which parallelize_module unties


def by_tensor_parallelism(model, ranks):
    _tensor_parallel(model, init_device_mesh("cpu", (ranks,)))


def by_fsdp2_and_tensor_parallelism(model, ranks):
    tp = 2 if ranks == 4 else 1
    mesh = init_device_mesh("cpu", (ranks // tp, tp), mesh_dim_names=("dp", "tp"))
    _tensor_parallel(model, mesh["tp"])
    by_fsdp2(model, ranks, mesh=mesh["dp"])


def by_hybrid_sharding(model, ranks):
    shape = (2, ranks // 2) if ranks % 2 == 0 else (1, ranks)
    names = ("replicate", "shard")
    by_fsdp2(model, ranks, mesh=init_device_mesh("cpu", shape, mesh_dim_names=names))


WAYS = [
    by_fsdp2,
    by_fsdp2_with_offload,
    by_tensor_parallelism,
    by_fsdp2_and_tensor_parallelism,
    by_hybrid_sharding,
]


def one_process(dtype=torch.float32):
    """The model that one process would have, and its report."""
    model = Network().to(dtype)
    return model, torch_init.init_(model, RULES, seed=SEED)


def meta_network(dtype=torch.float32):
    with torch.device("meta"):
        return Network().to(dtype)


def assert_same_model(model, expected, about):
    wholes = dict(expected.named_parameters())
    parameters = dict(model.named_parameters())
    assert parameters.keys() == wholes.keys(), about
    for name, parameter in parameters.items():
        value = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        assert same_bits(value, wholes[name]), f"{about}: {name}"


def check_meta_to_empty_init(rank, ranks):
    """FSDP2's own flow, for each way to shard: meta, shard, to_empty, initialise."""
    for dtype in (torch.float32, torch.bfloat16):
        expected, whole_report = one_process(dtype)
        for way in WAYS:
            model = meta_network(dtype)
            way(model, ranks)
            model.to_empty(device="cpu")
            with CommDebugMode() as communication:
                report = torch_init.init_(model, RULES, seed=SEED)
            about = f"{way.__name__} {dtype}"
            assert communication.get_total_counts() == 0, about
            assert report.problems == [], f"{about}: {report.problems}"
            assert_same_model(model, expected, about)
            gathered = report.gather()
            assert gathered.complete and gathered.problems == [], f"{about}: {gathered.problems}"
            assert gathered.fingerprint == whole_report.fingerprint, about
            assert gathered.diff(whole_report) == [], about


def check_materialize(rank, ranks):
    expected, whole_report = one_process(torch.bfloat16)
    for way in WAYS:
        model = meta_network()
        way(model, ranks)
        report = torch_init.materialize_(model, RULES, seed=SEED, dtype=torch.bfloat16)
        assert report.problems == [], f"{way.__name__}: {report.problems}"
        assert model.head.weight is model.embed.weight, way.__name__
        assert_same_model(model, expected, way.__name__)
        assert report.gather().fingerprint == whole_report.fingerprint, way.__name__


def check_plans_do_not_depend_on_the_sharding(rank, ranks):
    expected = torch_init.plan(Network(), RULES, seed=SEED)
    for way in WAYS:
        model = meta_network()
        way(model, ranks)
        plan = torch_init.plan(model, RULES, seed=SEED)
        assert plan.to_json() == expected.to_json(), way.__name__


def check_a_shard_without_the_padding_row_is_no_problem(rank, ranks):
    """Its elements are few and many: the row is a great part of one shard and none of another."""
    model = nn.Embedding(4, 4096, padding_idx=1)
    fully_shard(model)
    report = torch_init.init_(model, rule("weight", torch_init.normal_), seed=SEED)
    assert report.problems == []
    assert report.gather().problems == []


def check_gather_of_a_pipeline(rank, ranks):
    names = [str(i) for i in range(5)]
    everywhere = rule("*", torch_init.normal_)
    whole = nn.ModuleDict({name: nn.Linear(4, 4) for name in names})
    expected = torch_init.init_(whole, everywhere, seed=SEED)
    stage = nn.ModuleDict({name: nn.Linear(4, 4) for name in names[rank::ranks]})
    gathered = torch_init.init_(stage, everywhere, seed=SEED).gather()
    assert gathered.complete and gathered.problems == []
    assert gathered.fingerprint == expected.fingerprint


@only_on(2)
def check_gather_finds_ranks_that_differ(rank, ranks):
    everywhere = rule("*", torch_init.normal_)

    def problems(model, seed):
        return torch_init.init_(model, everywhere, seed=seed).gather().problems

    assert problems(nn.Linear(4, 4 + rank), SEED)[0] == "weight: rank 1 has float32 (5, 4)"
    sharded = nn.Linear(4, 4)
    fully_shard(sharded)
    other = "rank 1 filled it from another seed than a rank before"
    assert problems(sharded, rank) == [f"weight: {other}", f"bias: {other}"]

    model = nn.Linear(4, 4)
    report = torch_init.init_(model, everywhere, seed=SEED)
    assert report.gather().problems == []
    if rank == 1:
        with torch.no_grad():
            model.bias.add_(1)
    report = torch_init.init_(model, rule("*", torch_init.keep))
    assert report.gather().problems == ["bias: rank 1 holds other values than a rank before"]


def check_what_a_forward_pass_left_whole(rank, ranks):
    """FSDP2's outermost module holds whole parameters then, and drops what is written to them."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))
    expected = torch_init.init_(model, rule("*", torch_init.normal_), seed=SEED).fingerprint
    fully_shard(model)
    with torch.no_grad():
        model(torch.ones(2, 8))
    assert not isinstance(model[0].weight, DTensor)
    report = torch_init.init_(model, rule("*", torch_init.normal_), seed=SEED)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    assert report.gather().fingerprint == expected


def check_a_plan_made_before_sharding(rank, ranks):
    expected, _ = one_process()
    for way in WAYS:
        model = meta_network()
        plan = torch_init.plan(model, RULES, seed=SEED)
        way(model, ranks)
        model.to_empty(device="cpu")
        torch_init.init_(model, plan)
        assert_same_model(model, expected, way.__name__)


def check_parametrised_weights(rank, ranks):
    def make(parametrization):
        return nn.Sequential(parametrization(nn.Linear(6, 7)), nn.Linear(7, 3))

    everywhere = rule("*", torch_init.normal_)
    expected = torch_init.init_(make(weight_norm), everywhere, seed=SEED)
    model = make(weight_norm)
    fully_shard(model)
    report = torch_init.init_(model, everywhere, seed=SEED)
    assert report.gather().diff(expected) == []

    model = make(orthogonal)
    fully_shard(model)
    refused(model, everywhere, "cannot be computed from shards", "before it is sharded")


def check_refusals(rank, ranks):
    """They name the parameter, and nothing has been written when they come."""
    everywhere = rule("*", torch_init.normal_)
    for use_orig_params in (True, False):
        model = nn.Sequential(nn.Linear(6, 7), nn.Linear(7, 3))
        options = {"use_orig_params": use_orig_params, "device_id": torch.device("cpu")}
        model = FullyShardedDataParallel(model, **options)
        name = "0.weight" if use_orig_params else "_flat_param"
        refused(model, everywhere, "FSDP1", "fully_shard", f"parameter {name}")

    model = nn.Linear(6, 7)
    model.bias.ds_id, model.bias.ds_shape = 0, model.bias.shape
    model.bias.data = torch.empty(0)
    for initialiser in (torch_init.normal_, torch_init.zeros_):
        words = "shape (7,) that DeepSpeed ZeRO-3", "GatheredParameters", "parameter bias"
        refused(model, rule("*", initialiser), *words)

    model = nn.Linear(6, 7)
    mesh = init_device_mesh("cpu", (ranks,))
    model.bias = nn.Parameter(DTensor.from_local(torch.ones(7), mesh, [Partial()]))
    refused(model, everywhere, "type Partial", "redistribute", "parameter bias")


def refused(model, rules, *words):
    before = [parameter.detach().clone() for parameter in model.parameters()]
    try:
        torch_init.init_(model, rules, seed=SEED)
    except ValueError as error:
        for word in ("torch_init.init_: ", *words):
            assert word in str(error), str(error)
    else:
        raise AssertionError(f"{type(model)} was not refused")
    for parameter, value in zip(model.parameters(), before, strict=True):
        if not isinstance(parameter, DTensor):
            assert torch.equal(parameter, value)


def check_wrapped_models(rank, ranks):
    _, whole_report = one_process()

    def fingerprint(model):
        return torch_init.init_(model, RULES, seed=SEED).gather().fingerprint

    replicas = nn.parallel.DistributedDataParallel(Network(), find_unused_parameters=True)
    assert fingerprint(replicas) == whole_report.fingerprint
    assert fingerprint(torch.compile(Network(), backend="eager")) == whole_report.fingerprint

    layered = Network()
    for i, layer in enumerate(layered.layers):
        layered.layers[i] = torch.compile(checkpoint_wrapper(layer), backend="eager")
    by_fsdp2(layered, ranks)
    wrapped = dict(layered.named_parameters())
    assert "layers.0._orig_mod._checkpoint_wrapped_module.up.bias" in wrapped
    assert fingerprint(layered) == whole_report.fingerprint


def check_ranks_outside_the_mesh(rank, ranks):
    mesh = DeviceMesh("cpu", list(range(min(1, ranks - 1), ranks)))
    model = nn.Linear(7, 5)
    expected = torch_init.init_(model, rule("*", torch_init.normal_), seed=SEED).fingerprint
    whole = torch.zeros_like(model.weight)
    model.weight = nn.Parameter(distribute_tensor(whole, mesh, [Shard(0)]))
    report = torch_init.init_(model, rule("*", torch_init.normal_), seed=SEED)
    assert report.problems == []
    assert report.gather().fingerprint == expected
