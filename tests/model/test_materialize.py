# SPDX-License-Identifier: Apache-2.0
"""Models on the meta device get memory, values and buffers, and nothing is garbage unsaid."""

import pytest
import torch
from torch import nn

import torch_init
from torch_init import rule


def on_meta(make):
    with torch.device("meta"):
        return make()


def body():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_same_as_made_with_memory(dtype):
    model = on_meta(body)
    report = torch_init.materialize_(model, "he", seed=3, dtype=dtype)
    assert report.problems == []
    real = body()
    for parameter in real.parameters():
        parameter.data = parameter.data.to(dtype or torch.float32)
    assert report.fingerprint == torch_init.init_(real, "he", seed=3).fingerprint
    assert all(map(torch.equal, model.state_dict().values(), real.state_dict().values()))
    assert model[1].running_var.dtype == torch.float32
    assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))
    assert all(p.requires_grad for p in model.parameters())


def test_values_are_those_of_the_dtype_asked_for():
    """Bounds are kept after rounding, so the plan must know the dtype that is to come."""
    model = on_meta(lambda: nn.Linear(64, 64, bias=False))
    bounded = rule("*", torch_init.trunc_normal_, std=0.0123, bounds="sigma")
    torch_init.materialize_(model, bounded, dtype=torch.bfloat16)
    alone = torch.empty(64, 64, dtype=torch.bfloat16)
    torch_init.trunc_normal_(alone, std=0.0123, bounds="sigma", seed=0, name="weight")
    assert torch.equal(model.weight, alone)


def test_tied_parameters_stay_tied_and_attributes_stay():
    def make():
        model = nn.ModuleDict({"embed": nn.Embedding(9, 4), "head": nn.Linear(4, 9, bias=False)})
        model["head"].weight = model["embed"].weight
        model["embed"].weight.tag = "kept"
        return model

    model = on_meta(make)
    torch_init.materialize_(model, rule("*", torch_init.normal_))
    assert model["head"].weight is model["embed"].weight
    assert model["embed"].weight.tag == "kept"
    assert isinstance(model["embed"].weight, nn.Parameter)


def test_what_has_memory_stays_where_it_is():
    model = on_meta(body)
    loaded = nn.Linear(8, 4)
    model[3] = loaded
    pointer, value = loaded.weight.data_ptr(), loaded.weight.detach().clone()
    rules = ["he", rule("3.*", torch_init.keep)]
    torch_init.materialize_(model, rules, dtype=torch.bfloat16)
    assert model[3].weight.data_ptr() == pointer
    assert torch.equal(model[3].weight, value)
    assert model[3].weight.dtype == torch.float32
    assert model[0].weight.dtype == torch.bfloat16


def test_frozen_parameters_are_not_left_as_garbage():
    model = on_meta(lambda: nn.Linear(3, 3).requires_grad_(False))
    report = torch_init.materialize_(model, rule("*", torch_init.ones_))
    assert (model.weight == 1).all()
    assert report["weight"].status == "init"
    assert not model.weight.requires_grad


def test_a_kept_parameter_on_the_meta_device_is_an_error():
    model = on_meta(body)
    with pytest.raises(ValueError, match=r"3.weight.*on the meta device.*nothing to keep"):
        torch_init.materialize_(model, ["he", rule("3.weight", torch_init.keep)])
    assert all(p.is_meta for p in model.parameters())
    with pytest.raises(ValueError, match=r"0.bias.*nothing to keep"):
        torch_init.materialize_(model, rule("*.weight", torch_init.ones_), strict=False)


class Rotary(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / 10.0 ** torch.arange(0, 4), persistent=False)
        self.register_buffer("ids", torch.arange(4), persistent=False)
        self.weight = nn.Parameter(torch.empty(4))


def test_unknown_buffers_are_loud():
    model = on_meta(lambda: nn.Sequential(Rotary()))
    with pytest.warns(UserWarning, match=r"0.inv_freq: a buffer whose values were not rebuilt"):
        report = torch_init.materialize_(model, rule("*", torch_init.ones_))
    assert report.problems == [
        "0.inv_freq: a buffer whose values were not rebuilt",
        "0.ids: a buffer whose values were not rebuilt",
    ]
    assert model[0].inv_freq.isnan().all()
    assert "0.inv_freq" in str(report)


def test_buffers_that_the_caller_rebuilds():
    def rebuild(name, module):
        assert name == "0"
        module.inv_freq.copy_(1.0 / 10.0 ** torch.arange(0, 4))
        module.ids = torch.arange(4)

    model = on_meta(lambda: nn.Sequential(Rotary()))
    report = torch_init.materialize_(model, rule("*", torch_init.ones_), buffers=rebuild)
    assert report.problems == []
    assert torch.equal(model[0].inv_freq, Rotary().inv_freq)
    assert torch.equal(model[0].ids, torch.arange(4))


def test_stray_tensors_are_told():
    model = on_meta(lambda: nn.Linear(2, 2))
    model.freqs = torch.empty(3, device="meta")
    with pytest.warns(UserWarning, match="freqs: an attribute on the meta device"):
        torch_init.materialize_(model, "he")


def test_transformers_rebuild_their_own_buffers():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=50,
        tie_word_embeddings=False,
    )
    model = on_meta(lambda: transformers.LlamaForCausalLM(config))
    report = torch_init.materialize_(model, "llama", seed=1, dtype=torch.bfloat16)
    assert report.problems == []
    real = transformers.LlamaForCausalLM(config)
    for name, buffer in real.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
    assert model(torch.arange(6)[None]).logits.isfinite().all()


def test_errors_leave_the_model_on_the_meta_device():
    model = on_meta(body)
    for arguments, text in [
        ({"device": "meta"}, "device: expected one with memory, got meta"),
        ({"device": "xpu"}, "device: expected a device that is there"),
        ({"dtype": torch.int32}, "dtype: expected a floating-point dtype"),
        ({"dtype": "bfloat16"}, "dtype: expected a floating-point dtype"),
    ]:
        with pytest.raises((TypeError, ValueError), match=f"materialize_: {text}"):
            torch_init.materialize_(model, "he", **arguments)
    with pytest.raises(ValueError, match="materialize_: rules: expected a rule for every"):
        torch_init.materialize_(model, rule("0.*", torch_init.zeros_))
    assert all(p.is_meta for p in model.parameters())


def test_parametrised_models():
    def make():
        return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)))

    model = on_meta(make)
    torch_init.materialize_(model, "he", seed=1)
    real = make()
    torch_init.init_(real, "he", seed=1)
    assert torch.equal(model[0].weight, real[0].weight)


def test_recurrent_layers_use_the_weights_that_they_share():
    with torch.device("meta"):
        model = nn.ModuleList([nn.LSTM(3, 4), nn.LSTM(3, 4)])
    model[1].weight_ih_l0 = model[0].weight_ih_l0
    torch_init.materialize_(model, "torch-default")
    assert model[1].weight_ih_l0 is model[0].weight_ih_l0
    assert model[1]._flat_weights[0] is model[0].weight_ih_l0
