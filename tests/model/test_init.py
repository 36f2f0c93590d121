# SPDX-License-Identifier: Apache-2.0
"""The values that init_ gives: those of the single initialisers, whatever else the model holds."""

import copy
import itertools

import pytest
import torch
from init_cases import CASES, same_bits
from torch import nn

import torch_init
from torch_init import rule
from torch_init.keys import part_name

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn]


def parameter_model(**tensors):
    model = nn.Module()
    for name, tensor in tensors.items():
        model.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
    return model


def positional(case):
    names = {"uniform_": ("a", "b"), "bernoulli_": ("p",), "sparse_": ("sparsity",)}
    names |= {"constant_": ("val",)}
    return dict(zip(names.get(case.name, ()), case.arguments, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_initialiser_gives_what_it_gives_alone(dtype):
    """All in one model, one native call, against a call each."""
    model = parameter_model(**{c.name: torch.empty(c.shape, dtype=dtype) for c in CASES})
    rules = [rule(c.name, getattr(torch_init, c.name), **positional(c)) for c in CASES]
    report = torch_init.init_(model, rules, seed=11, include=["frozen"])
    assert report.problems == []
    for case in CASES:
        alone = case.fill(torch.empty(case.shape, dtype=dtype), 11, case.name)
        assert same_bits(getattr(model, case.name), alone), case.name


def test_other_layers_and_their_order_change_nothing():
    small = nn.ModuleDict({"a": nn.Linear(4, 8), "b": nn.Linear(8, 2)})
    large = nn.ModuleDict({"z": nn.Conv1d(3, 4, 5), "b": nn.Linear(8, 2), "a": nn.Linear(4, 8)})
    torch_init.init_(small, "xavier", seed=5)
    torch_init.init_(large, "xavier", seed=5)
    assert same_bits(small["a"].weight, large["a"].weight)
    assert same_bits(small["b"].weight, large["b"].weight)
    torch_init.init_(large, "xavier", seed=6)
    assert not same_bits(small["a"].weight, large["a"].weight)


def test_names_tell_layers_of_one_shape_apart():
    layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(20)])
    torch_init.init_(layers, "he")
    for a, b in itertools.combinations(layers, 2):
        assert not torch.equal(a.weight, b.weight)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_change_nothing(threads):
    def make():
        return nn.ModuleList([nn.Linear(n, n) for n in (3, 300, 700, 1000)])

    one, many = make(), make()
    previous = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = torch_init.init_(one, "lecun")
        torch.set_num_threads(threads)
        second = torch_init.init_(many, "lecun")
    finally:
        torch.set_num_threads(previous)
    assert first.fingerprint == second.fingerprint
    assert all(map(torch.equal, one.parameters(), many.parameters()))


def test_packed_blocks_are_tensors_of_their_own():
    """pytorch #166378: xavier_uniform_ on the packed weight has a bound too small by sqrt(2)."""
    attention = nn.MultiheadAttention(64, 4)
    rules = [rule("*", torch_init.zeros_), rule("*_weight", torch_init.xavier_uniform_)]
    torch_init.init_(attention, rules, seed=9)
    bound = (6 / 128) ** 0.5
    for i, block in enumerate(attention.in_proj_weight.chunk(3)):
        name = part_name("in_proj_weight", f"block {i}")
        alone = torch_init.xavier_uniform_(torch.empty(64, 64), seed=9, name=name)
        assert torch.equal(block, alone)
        assert 0.99 * bound < block.abs().max() <= bound


def test_unequal_blocks_and_axes():
    model = parameter_model(qkv=torch.empty(12, 20))
    gqa = rule("qkv", torch_init.orthogonal_, split=(8, 2, 2))
    torch_init.init_(model, gqa, include=["frozen"])
    for block in model.qkv.split((8, 2, 2)):
        torch.testing.assert_close(block @ block.T, torch.eye(len(block)))
    columns = rule("qkv", torch_init.normal_, split=(5, 15), split_axis=1, std=lambda p: p.fans[0])
    torch_init.init_(model, columns, include=["frozen"])
    spread = [block.std().item() for block in model.qkv.split((5, 15), 1)]
    assert spread == pytest.approx([5, 15], rel=0.3)
    given = rule("qkv", torch_init.normal_, split=lambda p: (4, p.shape[0] - 4))
    assert len(torch_init.plan(model, given, include=["frozen"])["qkv"].pieces) == 2


def test_stacked_experts():
    experts = parameter_model(w=torch.empty(5, 8, 6))
    stacked = rule("w", torch_init.orthogonal_, stacked=True)
    torch_init.init_(experts, stacked, include=["frozen"])
    for i, expert in enumerate(experts.w):
        torch.testing.assert_close(expert.T @ expert, torch.eye(6))
        alone = torch_init.orthogonal_(torch.empty(8, 6), seed=0, name=part_name("w", f"block {i}"))
        assert torch.equal(expert, alone)
    more = parameter_model(w=torch.empty(7, 8, 6))
    torch_init.init_(more, stacked, include=["frozen"])
    assert torch.equal(more.w[:5], experts.w)  # experts more change no expert
    both = rule("w", torch_init.xavier_, stacked=True, split=2)
    plan = torch_init.plan(experts, both, include=["frozen"])
    assert (plan["w"].fan_in, plan["w"].fan_out) == (6, 4)
    assert torch_init.init_(experts, both, include=["frozen"]).problems == []


def test_padding_row_is_zero_and_no_other():
    model = nn.ModuleList([nn.Embedding(9, 4, padding_idx=3), nn.Embedding(9, 4)])
    report = torch_init.init_(model, rule("*", torch_init.normal_))
    assert report.problems == []
    assert not model[0].weight[3].any()
    assert model[0].weight[[0, 1, 2, 4, 5, 6, 7, 8]].all()
    alone = torch_init.normal_(torch.empty(9, 4), seed=0, name="0.weight")
    alone[3] = 0
    assert torch.equal(model[0].weight, alone)
    assert model[1].weight.all()


@pytest.mark.parametrize("initialiser", [torch_init.orthogonal_, torch_init.eye_])
def test_padding_row_of_a_structure_raises_no_false_alarm(initialiser):
    for padding in (3, 300):
        model = nn.Embedding(1000, 64, padding_idx=padding)
        assert torch_init.init_(model, rule("*", initialiser)).problems == []


@pytest.mark.parametrize("layout", ["transposed", "channels_last", "slice", "nine dimensions"])
def test_layouts(layout):
    shape = (6, 4, 3, 2)
    tensor = {
        "transposed": lambda: torch.empty(shape[::-1]).permute(3, 2, 1, 0),
        "channels_last": lambda: torch.empty(shape).to(memory_format=torch.channels_last),
        "slice": lambda: torch.zeros(12, 4, 5, 2)[::2, :, 1:4],
        "nine dimensions": lambda: torch.empty((2,) * 9).permute(8, 7, 6, 5, 4, 3, 2, 1, 0),
    }[layout]()
    model = parameter_model(w=tensor)
    report = torch_init.init_(model, rule("w", torch_init.normal_), include=["frozen"])
    plain = torch_init.normal_(torch.empty(tensor.shape), seed=0, name="w")
    assert torch.equal(model.w, plain)
    copied = parameter_model(w=plain)
    assert report.fingerprint == torch_init.fingerprint(copied)


def test_errors_leave_the_model_as_it_is():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    before = [p.detach().clone() for p in model.parameters()]
    for rules in (
        [rule("*", torch_init.ones_), rule("1.bias", torch_init.xavier_)],
        [rule("0.*", torch_init.ones_)],
        [rule("*", torch_init.ones_), rule("1.weight", torch_init.dirac_)],
        [rule("*", torch_init.normal_, std=lambda p: 1 / 0)],
    ):
        with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
            torch_init.init_(model, rules)
        assert all(map(torch.equal, before, model.parameters()))


def test_overlapping_memory_is_refused():
    model = parameter_model(w=torch.empty(4).expand(3, 4))
    with pytest.raises(ValueError, match=r"elements that do not share memory.*parameter w"):
        torch_init.init_(model, rule("*", torch_init.normal_), include=["frozen"])


def test_meta_models_are_told_of_materialize():
    with torch.device("meta"):
        model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"weight on the meta device.*materialize_"):
        torch_init.init_(model, "he")


def test_autograd_hears_of_the_writes():
    model = nn.Linear(3, 3)
    loss = model(torch.ones(2, 3)).pow(2).sum()
    versions = [p._version for p in model.parameters()]
    torch_init.init_(model, "he")
    assert all(p._version > v for p, v in zip(model.parameters(), versions, strict=True))
    second = nn.Linear(3, 3)
    loss = (second.weight * second.weight).sum()
    torch_init.init_(second, "he")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_random_state_and_grads_are_left_alone():
    model = nn.Linear(3, 3)
    model(torch.ones(1, 3)).sum().backward()
    grads = [p.grad.clone() for p in model.parameters()]
    state = torch.get_rng_state()
    torch_init.init_(model, "he")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, grads, [p.grad for p in model.parameters()]))
    assert all(p.requires_grad for p in model.parameters())


def test_a_plan_is_carried_out_as_it_stands():
    model = nn.Linear(3, 3)
    plan = torch_init.plan(model, "he", seed=4)
    report = torch_init.init_(model, plan)
    assert report.fingerprint == torch_init.init_(nn.Linear(3, 3), "he", seed=4).fingerprint
    with pytest.raises(ValueError, match="rules: expected a plan of this model"):
        torch_init.init_(copy.deepcopy(model), plan)
    for other in ({"seed": 5}, {"strict": False}, {"include": ["frozen"]}, {"rename": str}):
        with pytest.raises(ValueError, match="arguments: expected the plan's own"):
            torch_init.init_(model, plan, **other)


def test_inference_mode():
    with torch.inference_mode():
        model = nn.Linear(3, 3)
        report = torch_init.init_(model, "he")
    assert report.fingerprint == torch_init.init_(nn.Linear(3, 3), "he").fingerprint


SHARED = {
    "the same": (lambda base: base[:6], lambda base: base[:6]),
    "overlapping": (lambda base: base[:6], lambda base: base[4:]),
    "transposed": (lambda base: base[:4, :4], lambda base: base[:4, :4].T),
    "bytes of another dtype": (lambda base: base[2], lambda base: base.view(torch.uint8)[2, :9]),
}


@pytest.mark.parametrize("kind", SHARED)
def test_parameters_that_share_memory_are_refused(kind):
    """What they hold would depend on which of them is written last."""
    base = torch.zeros(8, 8)
    one, other = (cut(base) for cut in SHARED[kind])
    model = parameter_model(a=one, b=other)
    with pytest.raises(ValueError, match=r"(a and b|b and a), which share memory.*Tie them"):
        torch_init.init_(model, rule("*", torch_init.ones_), include=["frozen"])
    with pytest.raises(ValueError, match=r"(a and b|b and a), which share memory"):
        rules = [rule("a", torch_init.ones_), rule("b", torch_init.keep)]
        torch_init.init_(model, rules, include=["frozen"])
    assert not base.any()


def test_parameters_side_by_side_in_one_tensor_are_not():
    base = torch.zeros(8, 8)
    model = parameter_model(rows=base[:4, :5], others=base[4:], columns=base[:4, 5:])
    torch_init.init_(model, rule("*", torch_init.ones_), include=["frozen"])
    assert (base == 1).all()


def test_parametrised_parameters_keep_their_memory():
    """torch would let them take that of what right_inverse returns: the plan's own tensor."""
    model = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
    original = model.parametrizations.weight.original
    pointer = original.data_ptr()
    prepared = torch_init.prepare(torch_init.plan(model, "he"))
    for _ in range(2):
        prepared.run()
        assert original.data_ptr() == pointer


def test_arguments_that_cannot_be_hashed_are_not_mixed_up():
    """Two arrays of the same repr, as long ones have."""

    def scaled(tensor, scales):
        return torch_init.normal_(tensor, std=float(scales[len(scales) // 2]))

    model = parameter_model(a=torch.empty(50, 50), b=torch.empty(50, 50))
    ones, twos = torch.ones(5000), torch.ones(5000)
    twos[2500] = 2.0
    assert repr(ones) == repr(twos)
    rules = [rule("a", scaled, scales=ones.numpy()), rule("b", scaled, scales=twos.numpy())]
    plan = torch_init.plan(model, rules, include=["frozen"])
    assert (plan["a"].std, plan["b"].std) == (1.0, 2.0)


def test_an_explicit_seed_must_be_the_plans():
    model = nn.Linear(3, 3)
    plan = torch_init.plan(model, "he", seed=5)
    torch_init.init_(model, plan, seed=5)
    with pytest.raises(ValueError, match="arguments: expected the plan's own"):
        torch_init.init_(model, plan, seed=0)


def test_torchscript_modules_are_filled_as_others():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    rules = rule("*", torch_init.normal_)
    expected = torch_init.init_(model, rules).fingerprint
    assert (
        torch_init.init_(torch.jit.script(nn.Sequential(nn.Linear(4, 4))), rules).fingerprint
        == expected
    )


def test_a_parameter_that_is_also_an_original_is_refused():
    model = nn.ModuleList(
        [nn.Linear(4, 4), nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))]
    )
    model[0].weight = model[1].parametrizations.weight.original
    with pytest.raises(ValueError, match=r"0.weight and 1.weight, which share memory"):
        torch_init.init_(model, "he")


def test_plans_and_reports_are_collections_of_rows():
    model = nn.Linear(4, 4)
    plan, report = torch_init.plan(model, "he"), torch_init.init_(model, "he")
    for rows in (plan, report):
        assert [row.name for row in rows] == ["weight", "bias"]
        assert "weight" in rows
        assert "wieght" not in rows
