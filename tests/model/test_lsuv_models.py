# SPDX-License-Identifier: Apache-2.0
"""LSUV of attention, parametrised and wrapped models, and of layers that are to be left alone."""

from collections import OrderedDict
from copy import deepcopy

import pytest
import torch
from lsuv_networks import mlp, outputs
from torch import nn

import torch_init


@pytest.mark.parametrize("norm_first", [True, False])
def test_attention(norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    batch = torch.randn(16, 10, 32)
    report = torch_init.lsuv_(model, batch)
    names = [row.name for row in report.rows[:6]]
    attention = "layers.0.self_attn."
    assert names == [
        *(f"{attention}in_proj_weight[{i}]" for i in range(3)),
        f"{attention}out_proj.weight",
        "layers.0.linear1.weight",
        "layers.0.linear2.weight",
    ]
    kinds = (nn.Linear, nn.MultiheadAttention)
    assert outputs(model, batch, kinds) == pytest.approx([1] * 9, abs=0.1)


def test_projections_of_their_own_widths():
    torch.manual_seed(0)

    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(16, 2, kdim=8, vdim=12, batch_first=True)

        def forward(self, q, k, v):
            return self.attend(q, k, value=v)[0]

    model = Cross()
    batch = (9 * torch.randn(8, 5, 16), torch.randn(8, 7, 8), torch.randn(8, 7, 12))
    report = torch_init.lsuv_(model, batch)
    assert len(report.rows) == 4
    q = batch[0] @ model.attend.q_proj_weight.T
    assert q.std().item() == pytest.approx(1, abs=0.1)
    assert model(*batch).std().item() == pytest.approx(1, abs=0.1)


def test_weight_norm_and_keyword_batches():
    torch.manual_seed(0)

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))

        def forward(self, *, x):
            return self.fc(x)

    model = Named()
    batch = {"x": 7 * torch.randn(64, 16)}
    torch_init.lsuv_(model, batch)
    assert model(**batch).std().item() == pytest.approx(1, abs=0.1)


class DeepSpeedEngine(nn.Sequential):
    """Stands for DeepSpeed's, which is told by its name."""


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: DeepSpeedEngine(OrderedDict(module=model)),
    ],
    ids=["DataParallel", "AveragedModel", "compile", "engine"],
)
def test_wrappers(wrap):
    torch.manual_seed(0)
    bare, batch = mlp(3, nn.ReLU), 7 * torch.randn(128, 64)
    wrapped = wrap(deepcopy(bare))
    wrapped(batch)  # a compiled model may have left the hooks of later calls out
    report = torch_init.lsuv_(wrapped, batch, seed=3)
    assert report == torch_init.lsuv_(bare, batch, seed=3)
    assert torch.equal(wrapped(batch), bare(batch))


@pytest.mark.parametrize("way", ["frozen", "loaded"])
def test_frozen_and_loaded_layers_are_left_alone(way):
    torch.manual_seed(0)
    model = mlp(3, nn.ReLU).append(nn.MultiheadAttention(64, 4, vdim=32))
    model.forward = lambda x: model[6](*[model[:6](x)] * 2, x[:, :32])
    left = [*model[2].parameters(), model[6].q_proj_weight, model[6].out_proj.weight]
    for parameter in left:
        nn.init.normal_(parameter, std=0.5)
        if way == "frozen":
            parameter.requires_grad_(False)
        else:
            parameter._is_hf_initialized = True
    before = [p.detach().clone() for p in left]
    batch = torch.randn(256, 64)
    report = torch_init.lsuv_(model, batch)
    names = ["0.weight", "4.weight", "6.k_proj_weight", "6.v_proj_weight"]
    assert [row.name for row in report.rows] == names
    assert all(map(torch.equal, before, left))
    first, between, last = outputs(model, batch, nn.Linear)
    assert first == pytest.approx(1, abs=0.1) and last == pytest.approx(1, abs=0.1)
    assert between > 1.5  # it flows on as it is
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="convolutions that are not frozen, loaded or left out"):
        torch_init.lsuv_(model, batch)
