# SPDX-License-Identifier: Apache-2.0
"""Rules: which parameters they match, and what they refuse."""

import json
import re

import pytest
import torch
from torch import nn

import torch_init
from torch_init import rule


def names_matched(model, *arguments, **keywords):
    plan = torch_init.plan(model, rule(*arguments, **keywords), strict=False)
    return [row.name for row in plan.rows if row.status == "init"]


def model():
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Conv1d(4, 4, 3), nn.LayerNorm(4)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("*", ["0.weight", "0.bias", "1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias"]),
        ("*.bias", ["0.bias", "1.0.bias", "1.1.bias"]),
        ("1.*.weight", ["1.0.weight", "1.1.weight"]),
        ("0.[wb]*", ["0.weight", "0.bias"]),
        ("0.WEIGHT", []),
        (re.compile(r"\d\.\d\.weight"), ["1.0.weight", "1.1.weight"]),
        (re.compile("weight"), []),  # all of the name must match
    ],
    ids=str,
)
def test_name(name, expected):
    assert names_matched(model(), name, torch_init.zeros_) == expected


def test_glob_with_a_dot_matches_a_bare_name():
    assert names_matched(nn.Linear(2, 2), "*.weight", torch_init.zeros_) == ["weight"]
    assert names_matched(nn.Linear(2, 2), re.compile(r".*\.weight"), torch_init.zeros_) == []


def test_module_and_where():
    zeros = torch_init.zeros_
    assert names_matched(model(), "*", zeros, module=nn.LayerNorm) == ["1.1.weight", "1.1.bias"]
    both = (nn.Linear, nn.Conv1d)
    assert names_matched(model(), "*.bias", zeros, module=both) == ["0.bias", "1.0.bias"]
    wide = names_matched(model(), where=lambda p: len(p.shape) == 3, initialiser=zeros)
    assert wide == ["1.0.weight"]


def test_later_rules_win():
    rules = [rule("*", torch_init.ones_), rule("0.*", torch_init.zeros_)]
    plan = torch_init.plan(model(), rules)
    assert plan["0.weight"].scheme == "zeros_()"
    assert plan["0.weight"].overridden == ("*",)
    assert plan["1.1.bias"].scheme == "ones_()"
    assert plan["1.1.bias"].overridden == ()


def test_callable_arguments_are_given_the_site():
    blocks = nn.ModuleDict({"h": nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])})
    seen = []

    def std(p):
        seen.append((p.name, p.layer, p.num_layers, tuple(p.shape), p.fans, p.leaf, p.module_name))
        assert p.model is blocks
        assert p.module is blocks["h"][p.layer]
        return 0.1 / (p.layer + 1)

    plan = torch_init.plan(blocks, rule("*.weight", torch_init.normal_, std=std), strict=False)
    assert [plan[f"h.{i}.weight"].std for i in range(3)] == [0.1, 0.05, 0.1 / 3]
    assert seen[1] == ("h.1.weight", 1, 3, (4, 4), (4, 4), "weight", "h.1")
    assert plan["h.1.weight"].scheme == "normal_(std=0.05)"


def test_callable_arguments_are_called_for_each_block():
    packed = nn.MultiheadAttention(8, 2)
    gain = rule("in_proj_weight", torch_init.xavier_normal_, gain=lambda p: p.block + 1.0)
    row = torch_init.plan(packed, gain, strict=False)["in_proj_weight"]
    assert [piece.arguments["gain"] for piece in row.pieces] == [1.0, 2.0, 3.0]
    assert row.scheme == "xavier_normal_(gain=1); xavier_normal_(gain=2); xavier_normal_(gain=3)"


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "text"),
    [
        ((3, torch_init.zeros_), {}, TypeError, "name: expected a glob.*got 3"),
        ((re.compile(b"x"), torch_init.zeros_), {}, TypeError, "name: expected a glob"),
        (("*",), {}, TypeError, "initialiser: expected an initialiser.*got None"),
        (("*", "zeros_"), {}, TypeError, "initialiser: expected.*got 'zeros_'"),
        (("*", torch_init.zeros_), {"module": "Linear"}, TypeError, "module: .*'Linear'"),
        (("*", torch_init.zeros_), {"module": nn.ReLU()}, TypeError, "module: "),
        (("*", torch_init.zeros_), {"module": (nn.Linear, int)}, TypeError, "module: "),
        (("*", torch_init.zeros_), {"where": True}, TypeError, "where: .*got True"),
        (("*", torch_init.normal_), {"seed": 1}, TypeError, "seed: expected none.*to the plan"),
        (("*", torch_init.normal_), {"generator": None}, TypeError, "generator: expected none"),
        (("*", torch_init.keep), {"std": 1}, TypeError, "arguments: expected none beside keep"),
        (("*", torch_init.zeros_), {"split": 0}, ValueError, "split: expected an int >= 1"),
        (("*", torch_init.zeros_), {"split": (1, -1)}, ValueError, "split: expected an int >= 1"),
        (("*", torch_init.zeros_), {"split": "qkv"}, TypeError, "split: expected an int"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_rules(arguments, keywords, error, text):
    with pytest.raises(error, match=f"torch_init.rule: {text}"):
        rule(*arguments, **keywords)


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        (rule("*", torch_init.normal_, std=-1.0), ValueError, "normal_: std: .*-1.0"),
        (rule("*", torch_init.normal_, sdt=1.0), TypeError, "sdt"),
        (rule("*", torch_init.xavier_), ValueError, "at least 2 dimensions"),
        (rule("*", torch_init.zeros_, split=3), ValueError, "split: .*a divisor.*got 3"),
        (rule("*", torch_init.zeros_, split=(3, 3)), ValueError, "split: .*6 in all"),
        (rule("*", torch_init.zeros_, split=2, split_axis=2), ValueError, "split_axis"),
        (rule("*", torch_init.zeros_, split=2, split_axis="0"), ValueError, "split_axis"),
        (rule("*.bias", torch_init.zeros_, stacked=True), ValueError, "stacked"),
        (rule("*", nn.init.normal_), TypeError, "an initialiser of torch_init"),
        (rule("*", torch_init.zeros_, split=lambda p: 2.0), TypeError, "split: expected an int"),
        (rule("*", torch_init.normal_, std=lambda p: json.loads("?")), ValueError, "Expecting"),
        (rule("*", torch_init.normal_, std=lambda p: b"\xff".decode()), ValueError, "decode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_of_a_plan_name_the_parameter_and_the_rule(bad, error, text):
    linear = nn.Linear(4, 4)
    before = [p.detach().clone() for p in linear.parameters()]
    with pytest.raises(error, match=rf"{text}.*\(parameter \w+, rule .*\)"):
        torch_init.init_(linear, bad, strict=False)
    assert all(map(torch.equal, before, linear.parameters()))


@pytest.mark.parametrize(
    "rules",
    [None, 3, {"*": torch_init.zeros_}, [torch_init.zeros_]],
    ids=["None", "int", "dict", "function"],
)
def test_what_are_no_rules(rules):
    with pytest.raises(TypeError, match="plan: rules: expected a recipe's name, a Recipe, a rule"):
        torch_init.plan(nn.Linear(2, 2), rules)


def test_unknown_recipe_suggests_one():
    with pytest.raises(ValueError, match="Did you mean 'gpt2'"):
        torch_init.plan(nn.Linear(2, 2), "gtp2")


def test_an_initialiser_need_not_be_hashable():
    class Normal:
        __hash__ = None

        def __call__(self, tensor):
            torch_init.normal_(tensor, std=2.0)

    plan = torch_init.plan(nn.Linear(2, 2), rule("*", Normal()))
    assert [row.std for row in plan.rows] == [2.0, 2.0]


def test_zeros_of_either_sign_are_not_mixed_up():
    model = nn.ParameterList([torch.ones(3), torch.ones(3)])
    rules = [rule("0", torch_init.constant_, val=0.0), rule("1", torch_init.constant_, val=-0.0)]
    torch_init.init_(model, rules)
    assert [bool(p.signbit().all()) for p in model] == [False, True]
