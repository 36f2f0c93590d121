# SPDX-License-Identifier: Apache-2.0
"""LSUV scales the layers that its batch reaches, and says which it does not."""

import pytest
import torch
from torch import nn

import torch_init


class Branches(nn.Module):
    """Of its four layers forward calls one, uses one's weight, and gives one nothing to do."""

    def __init__(self):
        super().__init__()
        self.called, self.read, self.unused, self.empty = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        x = nn.functional.linear(self.called(x), self.read.weight)
        return torch.cat([x, self.empty(x[:0])])


def test_unreached_layers_are_named():
    torch.manual_seed(0)
    model, batch = Branches(), 5 * torch.randn(64, 8)
    names = ["read.weight", "unused.weight", "empty.weight"]
    with pytest.warns(UserWarning, match=f"did not reach {', '.join(names)}: not scaled") as said:
        report = torch_init.lsuv_(model, batch)
    assert said[0].filename == __file__
    assert [row.name for row in report.rows] == ["called.weight"]
    assert report.unreached == names
    assert "\nunused.weight  not reached, not scaled" in str(report)
    assert model.called(batch).std().item() == pytest.approx(1, abs=0.1)
    for name in names:
        alone = torch_init.orthogonal_(torch.empty(8, 8), seed=0, name=name)
        assert torch.equal(model.get_parameter(name), alone)


@pytest.mark.parametrize(
    ("model", "where", "text"),
    [
        (Branches(), lambda site: site.name in ("called.weight", "read.weight"), "read.weight"),
        (nn.ModuleDict({"a": Branches()}), None, "any layer.*a.called.weight, .*a.empty.weight"),
    ],
    ids=["chosen", "none"],
)
def test_unreached_layers_that_are_errors(model, where, text):
    before = [p.detach().clone() for p in model.parameters()]
    if isinstance(model, nn.ModuleDict):
        model.forward = lambda x: x
    with pytest.raises(ValueError, match=f"batch: expected one that reaches.*{text}. Have forward"):
        torch_init.lsuv_(model, torch.randn(64, 8), where=where)
    assert all(map(torch.equal, before, model.parameters()))
