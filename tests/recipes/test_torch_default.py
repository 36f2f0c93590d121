# SPDX-License-Identifier: Apache-2.0
"""torch-default: against torch's own modules, freshly made, and against torch's formulas."""

import math

import pytest
import torch
from recipe_models import assert_as_planned, filled
from torch import nn

import torch_init

# Large enough that a wrong bound, as opposed to chance, shows in 2 %.
MODULES = {
    "Linear": lambda: nn.Linear(300, 200),
    "Linear without bias": lambda: nn.Linear(300, 200, bias=False),
    "Bilinear": lambda: nn.Bilinear(30, 20, 40),
    "Conv1d": lambda: nn.Conv1d(30, 60, 5),
    "Conv2d": lambda: nn.Conv2d(16, 32, (3, 5)),
    "Conv3d": lambda: nn.Conv3d(8, 16, 3),
    "grouped Conv2d": lambda: nn.Conv2d(32, 64, 3, groups=4),
    "depthwise Conv2d": lambda: nn.Conv2d(256, 256, 5, groups=256),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(30, 60, 5),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(16, 64, 3, stride=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(8, 16, 3),
    "grouped ConvTranspose2d": lambda: nn.ConvTranspose2d(32, 64, 3, groups=4),
    "Embedding": lambda: nn.Embedding(300, 100, padding_idx=1),
    "EmbeddingBag": lambda: nn.EmbeddingBag(300, 100),
    "RNN": lambda: nn.RNN(60, 100, num_layers=2, bidirectional=True),
    "LSTM": lambda: nn.LSTM(60, 100, proj_size=20),
    "GRU": lambda: nn.GRU(60, 100, num_layers=2),
    "RNNCell": lambda: nn.RNNCell(60, 100),
    "LSTMCell": lambda: nn.LSTMCell(60, 100),
    "GRUCell": lambda: nn.GRUCell(60, 100),
    "MultiheadAttention": lambda: nn.MultiheadAttention(128, 4, add_bias_kv=True),
    "MultiheadAttention of unlike inputs": lambda: nn.MultiheadAttention(128, 4, kdim=64, vdim=96),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(64, 4, 128),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(64, 4, 128),
    "Transformer": lambda: nn.Transformer(64, 4, 1, 1, 128, batch_first=True),
    "LayerNorm": lambda: nn.LayerNorm((4, 5)),
    "RMSNorm": lambda: nn.RMSNorm(20),
    "GroupNorm": lambda: nn.GroupNorm(4, 20),
    "BatchNorm1d": lambda: nn.BatchNorm1d(20),
    "BatchNorm3d": lambda: nn.BatchNorm3d(20),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(20),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(20, affine=True),
    "PReLU": lambda: nn.PReLU(7, init=0.1),
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(64, 300, [100, 200]),
}


@pytest.mark.parametrize("name", MODULES)
def test_is_what_torch_draws(name):
    torch.manual_seed(0)
    module = MODULES[name]()
    for row in torch_init.plan(module, "torch-default", seed=0).rows:
        drawn = module.get_parameter(row.name).detach()
        assert_as_planned(drawn, row)
        if row.high is not None and drawn.numel() > 1000 and row.std > 0:
            assert drawn.abs().max() > 0.97 * row.high, row.name


@pytest.mark.parametrize("name", MODULES)
def test_fills_as_it_says(name):
    filled(MODULES[name](), "torch-default")


def test_every_module_of_torch_that_draws_is_here():
    drawing = {
        module
        for module in _subclasses(nn.Module)
        if module.__module__.startswith("torch.nn.modules.")
        and not module.__name__.startswith("Lazy")
        and {"reset_parameters", "_reset_parameters"} & set(vars(module))
    }
    drawing.remove(nn.modules.batchnorm._LazyNormBase)
    tried = {kind for make in MODULES.values() for kind in _kinds(make())}
    assert drawing <= tried
    assert nn.Linear in drawing


def _subclasses(module):
    for kind in module.__subclasses__():
        yield kind
        yield from _subclasses(kind)


def _kinds(module):
    return {kind for inner in module.modules() for kind in type(inner).__mro__}


@pytest.mark.parametrize(
    ("module", "bound"),
    [
        (nn.Linear(300, 20), 300**-0.5),
        (nn.Conv2d(32, 64, 3, groups=4), 72**-0.5),
        (nn.ConvTranspose2d(32, 64, 3, groups=4), 144**-0.5),  # torch reads 64 / 4 * 9, not 32
        (nn.Bilinear(30, 20, 40), 30**-0.5),
        (nn.LSTM(60, 100), 100**-0.5),
    ],
    ids=lambda part: type(part).__name__,
)
def test_follows_the_formula(module, bound):
    for row in torch_init.plan(module, "torch-default", seed=0).rows:
        assert (row.low, row.high) == pytest.approx((-bound, bound), rel=1e-12), row.name


def test_attention_is_packed_as_in_torch():
    plan = torch_init.plan(nn.MultiheadAttention(128, 4), "torch-default", seed=0)
    assert plan["in_proj_weight"].high == pytest.approx(math.sqrt(6 / (4 * 128)))
    assert plan["out_proj.weight"].high == pytest.approx(128**-0.5)


def test_a_parametrised_layer_is_drawn_as_the_layer():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(300, 20))
    plan = torch_init.plan(model, "torch-default", seed=0)
    assert {row.name: row.high for row in plan.rows} == pytest.approx(
        {"weight": 300**-0.5, "bias": 300**-0.5}
    )
    assert torch_init.init_(model, plan).problems == []


def test_what_torch_does_not_draw_is_an_error():
    module = nn.Module()
    module.scale = nn.Parameter(torch.zeros(3))
    with pytest.raises(ValueError, match="scale"):
        torch_init.plan(module, "torch-default", seed=0)


def test_linear_without_inputs_has_a_zero_bias():
    with pytest.warns(UserWarning, match="zero-element"):
        module = nn.Linear(0, 3)
    assert torch_init.plan(module, "torch-default", seed=0)["bias"].std == 0
