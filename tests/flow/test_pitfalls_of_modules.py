# SPDX-License-Identifier: Apache-2.0
"""How modules are used: several times, by several names, tied, frozen, detached, not at all."""

import torch
from flow_networks import batch, mlp, observe, rows_of
from torch import nn

import torch_init
from torch_init.model.sites import find_sites


def test_reused_modules_are_told_apart_by_call():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(8, 8)

        def forward(self, x):
            for _ in range(12):
                x = torch.tanh(self.cell(x))
            return x

    model = Net()
    with torch_init.watch(model) as flow:
        for _ in range(2):
            model(torch.randn(4, 8)).sum().backward()
    rows = rows_of(flow.report())
    calls = [rows[f"cell#{i}" if i else "cell"].calls for i in range(8)]
    assert calls == [2] * 7 + [2 * 5]  # from the eighth call on they share a row
    assert "cell#8" not in rows


def test_names_are_those_of_a_plan():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.module, self.fc = nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 8)

        def forward(self, x):
            return self.fc(self.module(x))

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer) as flow:
        model(torch.randn(4, 8)).sum().backward()
        optimizer.step()
    report = flow.report()
    assert [row.layer for row in report.rows] == ["module.0", "module.1", "fc"]
    assert {p.name for p in report.parameters} == {site.name for site in find_sites("", model)}


class Task(nn.Module):
    """Has a training step of its own, which calls parts of the model instead of the model."""

    def __init__(self):
        super().__init__()
        self.net = mlp(4, 16, nn.ReLU, 2.0)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Sequential(nn.Linear(10, 10)))])

    def training_step(self, x, y):
        return nn.functional.cross_entropy(self.blocks[0](self.net(x)), y)


def test_a_part_of_the_model_that_is_called_instead_of_it_begins_a_pass():
    model = Task()
    x, y = batch(model)
    with torch_init.watch(model) as flow:
        for _ in range(3):
            model.training_step(x, y).backward()
    rows = flow.report().rows
    assert [row.calls for row in rows] == [3] * 10
    assert rows[0].expected_rms is not None  # the structure was read


def test_a_layer_deep_inside_that_is_called_by_itself_begins_a_pass_when_it_comes_again():
    model = Task()
    with torch_init.watch(model) as flow:
        for _ in range(3):
            model.net[2](model.net[0](torch.randn(4, 16))).sum().backward()
            model.blocks[0][0][0](torch.randn(4, 10))
    assert [(row.layer, row.calls) for row in flow.report().rows] == [
        ("net.0", 3),
        ("net.2", 3),
        ("blocks.0.0.0", 3),
    ]


def test_aliases_are_listed():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.add_module("again", model[0])
    report = observe(nn.Sequential(model, nn.Linear(4, 10)), torch.randn(4, 4), torch.arange(4))
    assert report.aliases == {"0.0": ["0.again"]}
    assert rows_of(report)["0.0#1"].calls == 1


def test_tied_weights_are_one_parameter_with_two_names():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer) as flow:
        model(torch.randn(4, 8)).sum().backward()
        optimizer.step()
    names = [p.names for p in flow.report().parameters]
    assert ("0.weight", "2.weight") in names and len(names) == 3


def test_frozen_layers_are_no_fault_and_detached_ones_are():
    class Net(nn.Module):
        def __init__(self, cut):
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(8, 8) for _ in range(3))
            self.cut = cut

        def forward(self, x):
            x = torch.tanh(self.a(x))
            x = torch.tanh(self.b(x))
            return self.c(x.detach() if self.cut else x)

    frozen = Net(cut=False)
    frozen.a.requires_grad_(False)
    assert observe(frozen, torch.randn(16, 8), torch.arange(16) % 8).verdict.kind == "ok"

    verdict = observe(Net(cut=True), torch.randn(16, 8), torch.arange(16) % 8).verdict
    assert (verdict.kind, verdict.layer) == ("no_grad", "b")


def test_parameters_that_no_loss_reaches_are_named():
    model = nn.ModuleDict({"used": nn.Linear(4, 4), "unused": nn.Linear(4, 4)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer) as flow:
        for _ in range(2):
            model["used"](torch.randn(4, 4)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    report = flow.report()
    unused = next(p for p in report.parameters if p.name == "unused.weight")
    assert (unused.missing, unused.steps) == (2, 2)
    assert (report.verdict.kind, report.verdict.layer) == ("no_grad", "unused.weight")
