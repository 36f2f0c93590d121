# SPDX-License-Identifier: Apache-2.0
"""How a weight is read: fans of the logical tensor, and blocks of packed ones."""

import pytest
import torch
from torch import nn

import torch_init
from torch_init import rule
from torch_init.model.layout import blocks


class Conv1D(nn.Module):
    """Stands for transformers' class, which is told by its name and its module's."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(6, 24))


Conv1D.__module__ = "transformers.pytorch_utils"

FANS = [
    (nn.Linear(6, 24), "weight", (6, 24), ""),
    (nn.Conv2d(8, 16, 3), "weight", (72, 144), ""),
    (nn.Conv2d(32, 64, 3, groups=4), "weight", (72, 144), "groups=4"),
    (nn.Conv2d(8, 8, 5, groups=8), "weight", (25, 25), "groups=8"),
    (nn.ConvTranspose2d(32, 64, 4, stride=2), "weight", (512, 1024), "transposed"),
    (nn.ConvTranspose1d(8, 6, 3, groups=2), "weight", (12, 9), "transposed, groups=2"),
    (nn.Embedding(100, 16), "weight", (16, 16), "embedding"),
    (nn.MultiheadAttention(8, 2), "in_proj_weight", (8, 8), "3 blocks of (8, 8)"),
    (nn.LSTM(5, 7), "weight_ih_l0", (5, 7), "4 blocks of (7, 5)"),
    (nn.GRU(5, 7, bidirectional=True), "weight_hh_l0_reverse", (7, 7), "3 blocks of (7, 7)"),
    (nn.GRUCell(5, 7), "weight_ih", (5, 7), "3 blocks of (7, 5)"),
    (nn.RNN(5, 7), "weight_ih_l0", (5, 7), ""),
    (Conv1D(), "weight", (6, 24), "transposed"),
]


@pytest.mark.parametrize(("module", "leaf", "fans", "source"), FANS, ids=lambda v: type(v).__name__)
def test_fans_of_the_logical_tensor(module, leaf, fans, source):
    row = torch_init.plan(module, rule(leaf, torch_init.xavier_normal_), strict=False)[leaf]
    assert (row.fan_in, row.fan_out) == fans
    assert row.fans_from == source
    assert row.std == pytest.approx((2 / sum(fans)) ** 0.5, rel=1e-12)


def test_layout_given_in_a_rule_overrides_the_modules():
    conv = nn.Conv2d(32, 64, 3, groups=4)
    row = torch_init.plan(
        conv, rule("weight", torch_init.he_, mode="fan_out", groups=1), strict=False
    )["weight"]
    assert row.fan_out == 64 * 9
    plain = rule("in_proj_weight", torch_init.xavier_, split=1)
    row = torch_init.plan(nn.MultiheadAttention(8, 2), plain, strict=False)["in_proj_weight"]
    assert (row.fan_in, row.fan_out) == (8, 24)


def test_three_dimensions_outside_convolutions_are_remarked_on():
    model = nn.Module()
    model.experts = nn.Parameter(torch.empty(4, 8, 6))
    plain = torch_init.plan(model, rule("*", torch_init.xavier_))["experts"]
    assert "stacked=True" in plain.note
    stacked = torch_init.plan(model, rule("*", torch_init.xavier_, stacked=True))["experts"]
    assert stacked.note == ""
    assert (stacked.fan_in, stacked.fan_out) == (6, 8)
    axes = torch_init.plan(model, rule("*", torch_init.xavier_, batch_axes=0))["experts"]
    assert axes.note == ""
    assert axes.std == stacked.std


def test_blocks():
    whole = blocks((6, 4), 1, 0, False)
    assert [(b.offset, b.size, b.part) for b in whole] == [((0, 0), (6, 4), "")]
    cut = blocks((6, 4), (1, 2, 3), 0, False)
    assert [(b.offset, b.shape, b.part) for b in cut] == [
        ((0, 0), (1, 4), "block 0"),
        ((1, 0), (2, 4), "block 1"),
        ((3, 0), (3, 4), "block 2"),
    ]
    stacked = blocks((2, 6, 4), 2, -1, True)
    assert [(b.offset, b.size, b.shape, b.part, b.index) for b in stacked] == [
        ((0, 0, 0), (1, 6, 2), (6, 2), "block 0", 0),
        ((0, 0, 2), (1, 6, 2), (6, 2), "block 1", 1),
        ((1, 0, 0), (1, 6, 2), (6, 2), "block 2", 0),
        ((1, 0, 2), (1, 6, 2), (6, 2), "block 3", 1),
    ]
    assert blocks((), 1, 0, False)[0].size == ()
    assert blocks((3, 0, 2), 1, 0, True)[2].offset == (2, 0, 0)
