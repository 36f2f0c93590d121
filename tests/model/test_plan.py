# SPDX-License-Identifier: Apache-2.0
"""Plans: coverage, what is left alone, what is written down, and that nothing is touched."""

import json
import warnings

import pytest
import torch
from torch import nn

import torch_init
from torch_init import rule

ZEROS = rule("*", torch_init.zeros_)


def test_uncovered_parameters_are_listed():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    with pytest.raises(ValueError, match="rules: expected a rule for every parameter") as caught:
        torch_init.plan(model, rule("*.weight", torch_init.ones_))
    text = str(caught.value)
    assert "none for 2 of 4" in text
    assert "0.bias  (3,)  of a Linear" in text
    assert "1.bias  (3,)  of a LayerNorm" in text
    assert "0.weight" not in text


def test_lenient_plans_leave_uncovered_parameters_alone():
    model = nn.Linear(2, 3)
    before = model.bias.detach().clone()
    report = torch_init.init_(model, rule("weight", torch_init.ones_), strict=False)
    assert torch.equal(model.bias, before)
    assert torch_init.plan(model, rule("weight", torch_init.ones_), strict=False)[
        "bias"
    ].status == ("no rule")
    assert report["bias"].status == "no rule"


def test_keep_frozen_and_loaded():
    model = nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(4)])
    model[1].weight.requires_grad_(False)
    model[2].weight._is_hf_initialized = True
    rules = [rule("*", torch_init.ones_), rule("0.*", torch_init.keep)]
    before = [p.detach().clone() for p in model.parameters()]
    plan = torch_init.plan(model, rules)
    assert [row.status for row in plan.rows] == ["keep", "frozen", "loaded", "init"]
    torch_init.init_(model, rules)
    for i, value in enumerate(before):
        assert torch.equal(model[i].weight, value) == (i < 3)
    torch_init.init_(model, rules, include=["frozen", "loaded"])
    assert [bool((p == 1).all()) for p in model.parameters()] == [False, True, True, True]
    with pytest.raises(ValueError, match="include: expected one of 'frozen', 'loaded', got 'all'"):
        torch_init.plan(model, rules, include=["all"])


def test_frozen_parameters_on_the_meta_device_have_nothing_to_keep():
    with torch.device("meta"):
        model = nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    assert torch_init.plan(model, ZEROS)["weight"].status == "init"


def test_a_plan_touches_nothing():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = [t.clone() for t in model.state_dict().values()]
    versions = [p._version for p in model.parameters()]
    state = torch.get_rng_state()
    str(torch_init.plan(model, "xavier"))
    assert all(map(torch.equal, before, model.state_dict().values()))
    assert versions == [p._version for p in model.parameters()]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_plan_leaves_the_buffers_of_spectral_norm_alone():
    """In training mode, each look at the weight is a step of its power iteration."""
    model = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
    before = [buffer.clone() for buffer in model.buffers()]
    torch_init.plan(model, "he")
    assert all(map(torch.equal, before, model.buffers()))
    assert all(module.training for module in model.modules())


def test_meta_and_fake_models_have_the_same_plan():
    from torch._subclasses import FakeTensorMode

    def make():
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Embedding(9, 4))

    real = torch_init.plan(make(), "he", seed=2).to_json()
    with torch.device("meta"):
        model = make()
    assert torch_init.plan(model, "he", seed=2).to_json() == real
    with FakeTensorMode():
        model = make()
        assert torch_init.plan(model, "he", seed=2).to_json() == real
    assert torch_init.plan(model, "he", seed=2).to_json() == real


def test_a_large_model_is_planned_without_memory():
    """Its 137 TB would not fit anywhere."""
    with torch.device("meta"):
        model = nn.Linear(2**23, 2**22)
    plan = torch_init.plan(model, "lecun")
    assert plan["weight"].std == pytest.approx(2**-11.5)


def test_json_says_everything():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    found = json.loads(torch_init.plan(model, ["he", rule("x", torch_init.keep)], 7).to_json())
    assert found["seed"] == 7
    assert found["idle_rules"] == ["x: matches no parameter"]
    assert {b["name"] for b in found["buffers"]} == {
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    }
    weight = found["parameters"][0]
    assert weight["name"] == "0.weight"
    assert weight["shape"] == [8, 4]
    assert weight["dtype"] == "float32"
    assert (weight["fan_in"], weight["fan_out"]) == (4, 8)
    assert weight["std"] == pytest.approx(0.5**0.5)
    assert weight["key"] == f"{torch_init.stream_key(7, '0.weight'):016x}"
    assert weight["rule"].startswith("he@1: ")
    assert weight["status"] == "init"


def test_dataframe():
    pandas = pytest.importorskip("pandas")
    plan = torch_init.plan(nn.Linear(4, 8), "he")
    frame = plan.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["name"]) == ["weight", "bias"]
    assert list(frame["std"]) == [row.std for row in plan.rows]


def test_text_folds_layers_that_are_alike():
    layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(12)])
    rules = [ZEROS, rule("7.weight", torch_init.ones_)]
    plan = torch_init.plan(layers, rules)
    lines = str(plan).splitlines()
    assert sum("zeros_()" in line for line in lines) == 2
    assert any(line.startswith("[0,1,2,3,4,5,6,8,9,10,11].weight ") for line in lines)
    assert any(line.startswith("[0-11].bias ") for line in lines)
    assert any(line.startswith("7.weight ") and "ones_()" in line for line in lines)
    unfolded = plan.to_text(fold=False).splitlines()
    assert sum("zeros_()" in line for line in unfolded) == 23


def test_parameters_of_a_list_are_folded_under_their_numbers():
    model = nn.ParameterList([torch.zeros(3) for _ in range(4)])
    assert str(torch_init.plan(model, ZEROS)).splitlines()[1].startswith("[0-3] ")


def test_text_folds_experts_in_layers_and_missing_parameters():
    experts = nn.ModuleList(
        [nn.ModuleList([nn.Linear(4, 4, bias=False) for _ in range(3)]) for _ in range(2)]
    )
    assert "[0-1].[0-2].weight " in str(torch_init.plan(experts, ZEROS))
    with pytest.raises(ValueError, match=r"none for 6 of 6") as caught:
        torch_init.plan(experts, rule("x", torch_init.zeros_))
    assert "  [0-1].[0-2].weight  (4, 4)  of a Linear" in str(caught.value)
    rules = [ZEROS, rule("1.2.*", torch_init.ones_)]
    assert "0.0.weight and 4 more " in str(torch_init.plan(experts, rules))


def test_text_of_blocks_that_differ():
    model = nn.Linear(256, 384, bias=False)
    text = str(torch_init.plan(model, rule("*", torch_init.xavier_, split=(256, 64, 64))))
    assert "256, 256; 256, 64" in text
    assert "0.0625; 0.07906" in text


def test_a_row_is_a_line():
    model = nn.Sequential(nn.Linear(64, 64))
    ones = torch_init.plan(model, rule("0.*", torch_init.constant_, val=1.0))
    assert repr(ones["0.weight"]) == "<0.weight (64, 64): constant_(val=1), by 0.*>"


def test_attributes_that_a_site_has_not():
    bad = rule("*", torch_init.normal_, std=lambda p: 1 / p.depth)
    with pytest.raises(AttributeError, match=r"'depth' \(parameter weight, rule \*\)"):
        torch_init.plan(nn.Linear(2, 2), bad)


def test_swapped_arguments():
    with pytest.raises(TypeError, match=r"init_: model: expected a torch.nn.Module, got str"):
        torch_init.init_("he", nn.Linear(2, 2))


def test_torchs_initialisers_are_pointed_to_ours():
    with pytest.raises(TypeError, match=r"Use torch_init.normal_ \(parameter weight"):
        torch_init.plan(nn.Linear(2, 2), rule("*", nn.init.normal_))


def test_text_of_a_plan_that_leaves_everything_alone():
    text = str(torch_init.plan(nn.Linear(2, 2), rule("*", torch_init.keep)))
    assert "left alone: keep" in text
    assert "2 parameters, 6 elements; seed 0; left alone: 2 keep" in text


def test_rich_console_renders_the_table():
    rich = pytest.importorskip("rich.console")
    console = rich.Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(torch_init.plan(nn.Linear(4, 8), "he"))
    text = console.export_text()
    assert "weight" in text
    assert "he@1" in text


def test_absolute_bounds_that_cut_nothing_are_warned_about():
    """timm #1286: trunc_normal_(std=.02) means +-2, a hundred standard deviations."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    with pytest.warns(UserWarning, match=r"plan: 0.weight and 1 more: the bounds .* cut nothing"):
        plan = torch_init.plan(model, rule("*", torch_init.trunc_normal_, std=0.02))
    assert "cut nothing" in plan["0.weight"].note
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut = rule("*", torch_init.trunc_normal_, std=0.02, bounds="sigma")
        assert torch_init.plan(model, cut)["0.weight"].note == ""
        far = rule("*", torch_init.trunc_normal_, std=0.02, a=0.2, b=1.0)  # a tail: all is cut
        assert torch_init.plan(model, far)["0.weight"].note == ""


def test_zero_elements_and_scalars():
    model = nn.Module()
    model.empty = nn.Parameter(torch.empty(0, 3))
    model.scalar = nn.Parameter(torch.empty(()))
    plan = torch_init.plan(model, rule("*", torch_init.normal_))
    assert plan["empty"].note == "no elements"
    assert plan["empty"].std is None
    report = torch_init.init_(model, rule("*", torch_init.normal_))
    assert report.complete
    expected = torch_init.normal_(torch.empty(()), seed=0, name="scalar")
    assert torch.equal(model.scalar.detach(), expected)


def test_a_model_without_parameters():
    plan = torch_init.plan(nn.ReLU(), "he")
    assert len(plan) == 0
    assert "0 parameters" in str(plan)
    assert torch_init.init_(nn.ReLU(), "he").problems == []


@pytest.mark.parametrize("seed", ["1", 1.5, None, True, 2**64])
def test_bad_seeds(seed):
    with pytest.raises((TypeError, ValueError), match="plan: seed: expected an int"):
        torch_init.plan(nn.Linear(2, 2), "he", seed)


def test_quantised_and_sparse_parameters_are_refused_by_name():
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(3, 3).to_sparse())
    with pytest.raises(TypeError, match="weight: tensor: expected a dense tensor"):
        torch_init.plan(model, ZEROS)
    model.weight = nn.Parameter(torch.zeros(3, 3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match=r"dtype torch.int8.*parameter weight"):
        torch_init.plan(model, rule("*", torch_init.normal_), include=["frozen"])
    torch_init.init_(model, rule("*", torch_init.ones_), include=["frozen"])
    assert (model.weight == 1).all()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"include": "frozen"}, "include: expected a list of 'frozen', 'loaded', got 'frozen'"),
        ({"include": None}, "include: expected a list of 'frozen', 'loaded', got None"),
        ({"rename": "layers.3."}, "rename: expected a function of a name, got 'layers.3.'"),
    ],
)
def test_arguments_of_the_wrong_kind(arguments, text):
    with pytest.raises(TypeError, match=text):
        torch_init.plan(nn.Linear(2, 2), ZEROS, **arguments)


def test_what_is_no_plan_cannot_be_prepared():
    with pytest.raises(TypeError, match="prepare: plan: expected a Plan, got Linear"):
        torch_init.prepare(nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["a\0block 0", "a\ud800"], ids=["NUL", "surrogate"])
def test_names_that_cannot_be_keys(name):
    model = nn.ParameterDict({name: torch.zeros(3)})
    for call in (lambda: torch_init.plan(model, ZEROS), lambda: torch_init.fingerprint(model)):
        with pytest.raises(ValueError, match=r"torch_init\.(plan|report): (model|name): expected"):
            call()
