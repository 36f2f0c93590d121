# SPDX-License-Identifier: Apache-2.0
"""Which numbered modules are blocks of a stack: layer, num_layers and stack of sites."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import torch_init
from torch_init import rule
from torch_init.model.sites import find_sites


class Block(nn.Module):
    def __init__(self, experts=0, inside="experts"):
        super().__init__()
        self.up = nn.Linear(2, 2, bias=False)
        if experts:
            expert = [nn.ModuleDict({"w1": nn.Linear(2, 2, bias=False)}) for _ in range(experts)]
            self.add_module(inside, nn.ModuleList(expert))
        else:
            self.down = nn.Linear(2, 2, bias=False)


class Other(Block):
    pass


class Written(nn.Module):
    """A block without layers of its own."""

    def __init__(self):
        super().__init__()
        self.w1 = nn.Parameter(torch.empty(2, 2))
        self.w2 = nn.Parameter(torch.empty(2, 2))


def stack(*blocks):
    return nn.ModuleDict({"h": nn.ModuleList(blocks)})


def model(blocks=3):
    return nn.ModuleDict({"embed": nn.Embedding(3, 2), "h": nn.ModuleList(many(Block, blocks))})


def many(kind, number, *arguments):
    return [kind(*arguments) for _ in range(number)]


def linear():
    return nn.Linear(2, 2, bias=False)


def pair():
    return nn.Sequential(linear(), nn.ReLU())


def feed_forward():
    return nn.ModuleDict({"mlp": nn.Sequential(linear(), nn.ReLU(), linear())})


def sharded(block):
    """fully_shard changes a module's class so."""
    mixin = type("FSDPModule", (), {})
    block.__class__ = type("FSDPBlock", (mixin, type(block)), {})
    return block


UNKNOWN = None
# The module, then (layer, num_layers, stack) by the start of the name.
STACKS = {
    "a stack": (lambda: stack(*many(Block, 3)), {"h.2.": (2, 3, "h")}),
    "of one block": (lambda: stack(Block()), {"h.0.": (0, 1, "h")}),
    "an embedding beside it": (model, {"h.1.": (1, 3, "h"), "embed": (None, None, None)}),
    "experts in blocks": (
        lambda: stack(*many(Block, 3, 8)),
        {"h.2.experts.5.": (2, 3, "h"), "h.1.up": (1, 3, "h")},
    ),
    "experts in one block": (lambda: stack(Block(8)), {"h.0.experts.5.": (0, 1, "h")}),
    "like parts of blocks": (
        lambda: stack(*many(Block, 3, 8, "branches")),
        {"h.2.branches.5.": (2, 3, "h")},
    ),
    "more experts in some blocks": (
        lambda: stack(Block(), Block(2), Block(4)),
        {"h.0.": (0, 3, "h"), "h.2.experts.1.": (2, 3, "h")},
    ),
    "a numbered model": (
        lambda: nn.Sequential(model(), linear()),
        {"0.h.1.": (1, 3, "0.h"), "0.embed": (None, None, None), "1.": (None, None, None)},
    ),
    "a numbered body": (
        lambda: nn.Sequential(nn.Embedding(3, 2), stack(*many(Block, 3)), linear()),
        {"0.": (None, None, None), "1.h.2.": (2, 3, "1.h")},
    ),
    "numbered single layers": (
        lambda: nn.Sequential(stack(*many(linear, 3)), linear()),
        {"0.h.2.": (2, 3, "0.h"), "1.": (None, None, None)},
    ),
    "one block with layers in a row": (
        lambda: nn.Sequential(nn.Embedding(3, 2), feed_forward()),
        {"1.mlp.2.": (0, 1, "")},
    ),
    "two numbered models": (
        lambda: nn.ModuleList(many(model, 2)),
        {"1.h.2.": (2, 3, "1.h"), "1.embed": (None, None, None)},
    ),
    "a model and a head of layers": (
        lambda: nn.Sequential(model(), Block()),
        {"0.h.2.": (2, 3, "0.h"), "1.up": (None, None, None)},
    ),
    "in a row with others": (
        lambda: nn.Sequential(nn.Embedding(3, 2), *many(Block, 3), nn.LayerNorm(2), linear()),
        {"0.": (None, None, None), "1.": (0, 3, ""), "3.": (2, 3, ""), "5.": (None, None, None)},
    ),
    "between like layers": (
        lambda: nn.Sequential(linear(), linear(), *many(Block, 3), linear()),
        {"0.": (None, None, None), "2.up": (0, 3, ""), "5.": (None, None, None)},
    ),
    "without layers": (
        lambda: nn.Sequential(nn.Embedding(3, 2), *many(Written, 3), linear()),
        {"2.w2": (1, 3, ""), "4.": (None, None, None)},
    ),
    "of containers": (
        lambda: nn.Sequential(*many(pair, 3), nn.Sequential(linear())),
        {"1.0.": (1, 3, ""), "3.": (None, None, None)},
    ),
    "of single layers": (
        lambda: nn.Sequential(linear(), nn.ReLU(), linear(), nn.ReLU(), linear()),
        {"0.": (0, 3, ""), "4.": (2, 3, "")},
    ),
    "of one single layer": (lambda: stack(linear()), {"h.0.": (0, 1, "h")}),
    "of unlike blocks": (
        lambda: stack(Block(), Block(), Other(), Block()),
        {"h.0.": (0, UNKNOWN, "h"), "h.2.": (2, UNKNOWN, "h"), "h.3.": (3, UNKNOWN, "h")},
    ),
    "unlike blocks in a numbered model": (
        lambda: nn.Sequential(stack(Block(), Block(), Other()), linear()),
        {"0.h.0.": (0, UNKNOWN, "0.h"), "0.h.2.": (2, UNKNOWN, "0.h"), "1.": (None, None, None)},
    ),
    "between layers of other kinds": (
        lambda: nn.Sequential(Other(), *many(Block, 3), pair()),
        {"0.": (None, None, None), "1.": (0, 3, ""), "4.": (None, None, None)},
    ),
    "unlike blocks in a row": (
        lambda: nn.Sequential(Block(), Other(), Block()),
        {"0.": (0, UNKNOWN, ""), "2.": (2, UNKNOWN, "")},
    ),
    "two kinds": (
        lambda: stack(Block(), Block(), Other(), Other()),
        {"h.0.": (0, UNKNOWN, "h"), "h.3.": (3, UNKNOWN, "h")},
    ),
    "one of each kind": (
        lambda: stack(Block(), Other()),
        {"h.0.": (0, UNKNOWN, "h"), "h.1.": (1, UNKNOWN, "h")},
    ),
    "a later part": (
        lambda: nn.ModuleDict({"3": Block(), "4": Block()}),
        {"3.": (3, UNKNOWN, ""), "4.": (4, UNKNOWN, "")},
    ),
    "some compiled, some sharded": (
        lambda: stack(Block(), torch.compile(Block()), sharded(Block())),
        {"h.1.": (1, 3, "h"), "h.2.": (2, 3, "h")},
    ),
    "some parametrised": (
        lambda: nn.Sequential(parametrizations.weight_norm(linear()), linear()),
        {"0.": (0, 2, ""), "1.": (1, 2, "")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_stack(name):
    build, expected = STACKS[name]
    sites = find_sites("test", build())
    for start, place in expected.items():
        here = [site for site in sites if site.name.startswith(start)]
        assert here, start
        for site in here:
            assert (site.layer, site.num_layers, site.stack) == place, site.name


def test_blocks_that_lie_elsewhere_are_missed():
    part = stack(*many(Block, 3))
    part["h"]._modules["2"] = None
    assert {site.num_layers for site in find_sites("test", part)} == {UNKNOWN}


def test_every_site_knows_all_stacks_of_blocks():
    whole = nn.ModuleDict(
        {
            "encoder": nn.ModuleList(many(Block, 2)),
            "decoder": stack(*many(Block, 3)),
            "head": nn.Sequential(linear(), nn.ReLU(), linear()),
        }
    )
    assert find_sites("test", whole)[0].stacks == {"encoder": 2, "decoder.h": 3}


# What the part is, what rename does, and the layer that its parameters are then in.
RENAMED = {
    "a block": (Block, lambda name: f"layers.7.{name}", (7, "layers")),
    "a block with experts": (lambda: Block(8), lambda name: f"layers.7.{name}", (7, "layers")),
    "a block in a numbered model": (Block, lambda name: f"0.h.7.{name}", (7, "0.h")),
    "a stage": (
        lambda: nn.ModuleDict({"h": nn.ModuleDict({"0": Block()})}),
        lambda name: name.replace("h.0.", "h.17."),
        (17, "h"),
    ),
    "a stage of a numbered model": (
        lambda: nn.Sequential(stack(Block(8)), nn.ReLU()),
        lambda name: name.replace("0.h.0.", "10.h.17."),
        (17, "10.h"),
    ),
    "something around it": (lambda: stack(Block()), lambda name: f"net.{name}", (0, "net.h")),
    "all of the name": (Block, lambda name: "layers.7." + name.replace("up", "u"), (7, "layers")),
    "no block": (linear, lambda name: f"head.{name}", (None, None)),
}


@pytest.mark.parametrize("name", RENAMED)
def test_renamed_parts_have_the_layers_of_the_new_names(name):
    build, rename, place = RENAMED[name]
    for site in find_sites("test", build(), rename):
        assert (site.layer, site.num_layers, site.stack) == (place[0], None, place[1]), site.name


def test_a_plan_folds_the_lines_of_blocks_alone():
    text = str(torch_init.plan(nn.Sequential(model(12), linear()), rule("*", torch_init.zeros_)))
    assert "0.h.[0-11].up.weight" in text
    text = str(
        torch_init.plan(
            nn.Sequential(nn.Embedding(3, 2), *many(Block, 4)), rule("*", torch_init.zeros_)
        )
    )
    assert "[1-4].up.weight" in text
