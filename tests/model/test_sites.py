# SPDX-License-Identifier: Apache-2.0
"""Canonical names, tied and parametrised tensors, buffers, layouts by module."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import torch_init
from torch_init import rule
from torch_init.model.sites import find_buffers, find_sites


def names(model):
    return [site.name for site in find_sites("test", model)]


def body():
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 4)))


def wrapped_in_checkpoint(model):
    from torch.distributed.algorithms._checkpoint import checkpoint_wrapper as wrapper

    model[1] = wrapper.checkpoint_wrapper(model[1])
    return model


class DeepSpeedEngine(nn.Module):
    """Stands for the class of another library, which is told by its name."""

    def __init__(self, module):
        super().__init__()
        self.module = module


WRAPPERS = {
    "none": lambda model: model,
    "compile": torch.compile,
    "DataParallel": nn.DataParallel,
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "engine": DeepSpeedEngine,
    "a kind of engine": type("PipelineEngine", (DeepSpeedEngine,), {}),
    "compiled engine": lambda model: DeepSpeedEngine(torch.compile(model)),
    "checkpoint": wrapped_in_checkpoint,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_leave_names_and_values(wrapper):
    plain = body()
    torch_init.init_(plain, "he", seed=3)
    model = WRAPPERS[wrapper](body())
    assert names(model) == ["0.weight", "0.bias", "1.1.weight", "1.1.bias"]
    torch_init.init_(model, "he", seed=3)
    assert all(map(torch.equal, model.parameters(), plain.parameters()))


def test_a_layer_called_module_keeps_its_name():
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    assert names(model)[0] == "module.weight"
    inner = nn.Sequential(nn.ModuleDict({"module": nn.Linear(2, 2)}))
    assert names(inner)[0] == "0.module.weight"


def test_a_child_called_module_beside_nothing_keeps_its_name():
    """A head beside it must change nothing."""
    model = nn.ModuleDict({"module": body()})
    torch_init.init_(model, "he", seed=3)
    larger = nn.ModuleDict({"module": body(), "head": nn.Linear(4, 2)})
    torch_init.init_(larger, "he", seed=3)
    assert names(model)[0] == "module.0.weight"
    assert all(map(torch.equal, model.parameters(), larger.parameters()))


def test_names_that_collide_are_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))
            self._orig_mod = nn.LayerNorm(2)

    with pytest.raises(ValueError, match=r"model: expected names that differ, got .*weight"):
        names(Odd())


def test_tied_parameters_are_one_under_the_embeddings_name():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    plan = torch_init.plan(model, [rule("*", torch_init.normal_), rule("head.*", torch_init.ones_)])
    assert [row.name for row in plan.rows] == ["embed.weight"]
    assert plan["embed.weight"].site.aliases == ["head.weight"]
    assert plan["head.weight"] is plan["embed.weight"]
    assert plan.idle_rules == [
        "head.*: matches no parameter; head.weight is tied to embed.weight and goes by that name"
    ]
    assert "tied: head.weight" in str(plan)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_the_order_of_tied_parameters_changes_nothing(kind):
    def build(*order):
        layers = {
            "embed": kind(5, 4, padding_idx=2),
            "a_head": nn.Linear(4, 5, bias=False),
            "z_head": nn.Linear(4, 5, bias=False),
        }
        layers["a_head"].weight = layers["z_head"].weight = layers["embed"].weight
        model = nn.ModuleDict({name: layers[name] for name in order})
        rows = torch_init.init_(model, rule("*", torch_init.xavier_normal_), seed=3).rows
        return rows, find_sites("test", model)[0].aliases, model["embed"].weight

    rows, aliases, weight = build("embed", "a_head", "z_head")
    assert (rows[0].name, aliases) == ("embed.weight", ["a_head.weight", "z_head.weight"])
    assert torch.all(weight[2] == 0)
    other_rows, other_aliases, other_weight = build("z_head", "a_head", "embed")
    assert ([r.name for r in other_rows], other_aliases) == (["embed.weight"], aliases)
    assert torch.equal(weight, other_weight)


def test_the_padding_row_of_any_tied_embedding_is_zero():
    model = nn.ModuleDict({"a": nn.Embedding(5, 4), "b": nn.Embedding(5, 4, padding_idx=2)})
    model["b"].weight = model["a"].weight
    torch_init.init_(model, rule("*", torch_init.ones_), seed=3)
    assert model["a"].weight.sum(1).tolist() == [4, 4, 0, 4, 4]


def test_tied_layers_go_by_the_least_name():
    layer = nn.Linear(3, 3)
    for order in (("b", "a", "c"), ("c", "b", "a")):
        assert names(nn.ModuleDict(dict.fromkeys(order, layer))) == ["a.weight", "a.bias"]


def test_shared_modules_are_one():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert names(model) == ["0.weight", "0.bias"]
    assert find_sites("test", model)[0].aliases == ["2.weight"]


def test_a_module_that_holds_its_parent_ends():
    model = nn.Sequential(nn.Linear(2, 2))
    model.add_module("again", nn.Sequential())
    model.again.add_module("up", model)
    assert names(model) == ["0.weight", "0.bias"]
    blocks = nn.ModuleList([nn.Sequential(), nn.Sequential()])
    for block in blocks:
        block.add_module("up", blocks)
        block.add_module("layer", nn.Linear(2, 2, bias=False))
    assert names(blocks) == ["0.layer.weight", "1.layer.weight"]


def test_rename():
    stage = nn.Sequential(nn.Linear(4, 4))
    whole = nn.ModuleDict({"layers": nn.ModuleList([nn.Sequential(nn.Linear(4, 4))])})
    torch_init.init_(whole, "he", seed=1)
    torch_init.init_(stage, "he", seed=1, rename=lambda name: f"layers.0.{name}")
    assert torch.equal(stage[0].weight, whole["layers"][0][0].weight)
    with pytest.raises(TypeError, match=r"rename: expected a str, got None for 0.weight"):
        torch_init.plan(stage, "he", rename=lambda name: None)


def test_buffers_are_listed_and_left_alone():
    model = nn.Sequential(nn.BatchNorm1d(3))
    model.register_buffer("table", torch.arange(4.0), persistent=False)
    found = [(name, persistent) for name, _, persistent in find_buffers(model)]
    assert found == [
        ("table", False),
        ("0.running_mean", True),
        ("0.running_var", True),
        ("0.num_batches_tracked", True),
    ]
    before = [buffer.clone() for buffer in model.buffers()]
    torch_init.init_(model, "he")
    assert all(map(torch.equal, before, model.buffers()))


@pytest.mark.parametrize("parametrization", ["weight_norm", "spectral_norm", "orthogonal"])
def test_parametrised_weights(parametrization):
    """They go by the plain name, and are what the plain weight would be, as far as they can."""
    plain = nn.Sequential(nn.Linear(6, 6))
    torch_init.init_(
        plain, [rule("*", torch_init.zeros_), rule("*.weight", torch_init.orthogonal_)]
    )
    model = nn.Sequential(getattr(parametrizations, parametrization)(nn.Linear(6, 6)))
    rules = [rule("*", torch_init.zeros_), rule("*.weight", torch_init.orthogonal_)]
    report = torch_init.init_(model, rules)
    assert [row.name for row in report.rows] == ["0.weight", "0.bias"]
    assert report.complete
    torch.testing.assert_close(model[0].weight, plain[0].weight, atol=1e-5, rtol=0)


def test_a_parametrised_buffer_is_no_parameter():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.full((2,), 0.5))

        def forward(self, x):
            return x * self.scale

        def right_inverse(self, x):
            return x / self.scale

    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.ones(2))
    parametrize.register_parametrization(model, "mask", Half())
    torch_init.init_(model, rule("*", torch_init.constant_, val=3.0))
    assert names(model) == ["weight", "bias", "parametrizations.mask.0.scale"]
    assert torch.all(model.parametrizations.mask.original == 2)


def test_what_no_parameter_is_computed_from_was_not_loaded():
    site = find_sites("test", parametrizations.weight_norm(nn.Linear(2, 2)))[0]
    assert len(site.parameters()) == 2
    for parameter in site.parameters():
        parameter._is_hf_initialized = True
    assert site.loaded
    site.parameters = list
    assert not site.loaded


def test_parametrisation_without_an_inverse_is_refused():
    class Squared(nn.Module):
        def forward(self, x):
            return x * x

    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Squared())
    with pytest.raises(ValueError, match=r"right_inverse.*parameter weight"):
        torch_init.plan(layer, "he")


def test_lazy_parameters_are_refused_by_name():
    with pytest.raises(ValueError, match=r"plan: 0.weight: tensor: .*uninitialised.*forward pass"):
        torch_init.plan(nn.Sequential(nn.LazyLinear(3)), "he")


def test_what_is_no_model():
    with pytest.raises(TypeError, match=r"plan: model: expected a torch.nn.Module, got Tensor"):
        torch_init.plan(torch.zeros(3), "he")


def test_path_leads_from_the_model_to_the_owner():
    model = body()
    (*_, site) = find_sites("test", wrapped_in_checkpoint(model))
    assert site.path[0] is model
    assert site.path[-1] is site.module
    assert type(site.path[1]).__name__ == "CheckpointWrapper"


def test_a_wrapper_that_passes_attributes_on_is_not_parametrised_itself():
    def parametrised():
        return nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))

    class Passing(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("inner"), name)

    for model, prefix in (
        (torch.compile(parametrised()), ""),
        (wrapped_in_checkpoint([None, parametrised()])[1], ""),
        (nn.Sequential(Passing(parametrised())), "0.inner."),
    ):
        assert names(model) == [prefix + "weight", prefix + "bias"]
