# SPDX-License-Identifier: Apache-2.0
"""The loss that a classifier begins with is that of a guess, or the verdict says why not."""

import math

import pytest
import torch
from flow_networks import batch, kinds, mlp
from torch import nn
from torch.nn import functional

import torch_init
from torch_init.flow.initial_loss import initial_loss


def check(model, x, y, *arguments):
    return torch_init.check(model, x, y, *arguments, verbose=False)


def test_a_correct_start_is_at_the_loss_of_a_guess():
    model = mlp(3, 256, nn.ReLU, 2.0)
    report = check(model, *batch(model, 256))
    # Logits of variance 1, of ten units that see similar examples: 1 +- 3 sqrt(2 / 9).
    assert 0 < report.initial_loss.excess < 1.2
    assert 0.3 < report.initial_loss.logit_std < 1.6
    assert kinds(report) == ["ok"]


def test_an_output_layer_of_zeros_begins_at_exactly_that():
    model = mlp(3, 64, nn.ReLU, 2.0)
    torch_init.zeros_(model[-1].weight)
    assert check(model, *batch(model)).initial_loss.value == pytest.approx(math.log(10), abs=1e-6)


def test_a_large_output_layer_is_named():
    model = mlp(3, 64, nn.ReLU, 2.0)
    torch_init.normal_(model[-1].weight, std=1.0, seed=0, name="head")
    report = check(model, *batch(model))
    verdict = report.verdict
    assert (verdict.kind, verdict.layer, verdict.severity) == ("initial_loss", "6", "warning")
    assert f"begins at {report.initial_loss.value:.3g}" in verdict.measured
    assert "ln 10 = 2.30" in verdict.expected
    assert "variance is 6" in verdict.cause and "fan_in" in verdict.cause  # 64 / fan_in
    assert "torch_init.zeros_(weight)" in verdict.suggestion
    assert report.to_dict()["initial_loss"]["classes"] == 10
    torch_init.zeros_(model[-1].weight)
    assert check(model, *batch(model)).verdict.kind == "ok"


def test_half_of_the_limit_is_information():
    model = mlp(3, 64, nn.ReLU, 2.0)
    torch_init.normal_(model[-1].weight, std=0.3, seed=0, name="head")  # variance 5.8 / fan_in
    report = check(model, *batch(model))
    assert 1.5 < report.initial_loss.excess < 3
    found = [(v.kind, v.severity) for v in report.verdicts]
    assert found == [("initial_loss", "info"), ("ok", "ok")]
    report.assert_healthy()


def test_an_input_that_is_not_normalised_is_named():
    model = mlp(3, 64, nn.ReLU, 2.0)
    x, y = batch(model)
    verdict = check(model, 100 * x, y).verdict
    assert (verdict.kind, verdict.layer) == ("initial_loss", "6")
    assert "input has a root mean square of 1e+02" in verdict.cause
    assert "normalise the input" in verdict.suggestion


def test_a_signal_that_grows_is_named():
    model = mlp(3, 64, nn.ReLU, 32.0)
    verdict = next(v for v in check(model, *batch(model)).verdicts if v.kind == "initial_loss")
    assert "signal that arrives there" in verdict.cause


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_what_the_loss_is_multiplied_with_and_added_to_changes_nothing(scale):
    model = mlp(3, 64, nn.ReLU, 2.0)
    torch_init.normal_(model[-1].weight, std=1.0, seed=0, name="head")
    x, y = batch(model)
    plain = check(model, x, y)
    scaled = check(
        model,
        x,
        lambda out: scale * functional.cross_entropy(out, y) + out.square().mean() / scale,
    )
    assert scaled.initial_loss == plain.initial_loss
    assert kinds(scaled) == kinds(plain) == ["initial_loss"]


def test_trained_weights_are_not_blamed():
    model = mlp(3, 64, nn.ReLU, 2.0)
    torch_init.normal_(model[-1].weight, std=1.0, seed=0, name="head")
    x, y = batch(model)
    assert kinds(check(model, x, y)) == ["initial_loss"]
    with torch.no_grad():  # a direction that data have in common
        model[2].weight.add_(0.1)
    report = check(model, x, y)
    assert report.initial_loss.excess > 3 and kinds(report) == ["ok"]
    assert max(row.weight_spike for row in report.weighted) > 1.08


def test_spectra_are_read_only_where_a_verdict_depends_on_them(monkeypatch):
    from torch_init.flow import reading

    read = []
    monkeypatch.setattr(reading, "largest_spike", lambda weight: read.append(weight) or 1.0)
    model = mlp(3, 64, nn.ReLU, 2.0)
    check(model, *batch(model))
    assert not read
    torch_init.normal_(model[-1].weight, std=1.0, seed=0, name="head")
    check(model, *batch(model))
    assert [weight.shape for weight in read] == [(64, 64)] * 3 + [(10, 64)]


def test_biases_that_know_the_classes_shares_begin_below_it():
    model = mlp(3, 64, nn.ReLU, 2.0)
    x, _ = batch(model)
    y = torch.zeros(len(x), dtype=torch.long)
    model[-1].bias.data = torch.tensor([5.0] + [0.0] * 9)
    report = check(model, x, y)
    assert report.initial_loss.excess < -1 and kinds(report) == ["ok"]


def by_hand(logits, target, axis=1, **options):
    logs = logits.detach().log_softmax(axis)
    return functional.nll_loss(logs, target, **options).item()


LABELS = torch.arange(24) % 5
SHAPES = {
    "rows": ((24, 5), LABELS),
    "bytes": ((24, 5), LABELS.byte()),
    "one example": ((5,), LABELS[3]),
    "sequence": ((8, 5, 3), LABELS.view(8, 3)),
    "picture": ((4, 5, 3, 2), LABELS.view(4, 3, 2)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_read_whatever_the_shape(name, dtype):
    shape, target = SHAPES[name]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
    found = initial_loss(functional.cross_entropy(logits, target))
    axis = 1 if logits.dim() > 1 else 0
    assert found.classes == 5
    assert found.value == pytest.approx(by_hand(logits, target, axis), rel=1e-6)
    spread = logits.detach().var(axis, correction=0).mean().sqrt().item()
    assert found.logit_std == pytest.approx(spread, rel=1e-5)


def test_ignored_labels_are_left_out():
    logits, target = torch.randn(24, 5, requires_grad=True), LABELS.clone()
    target[::2] = -100
    loss = functional.cross_entropy(logits, target)
    assert initial_loss(loss).value == pytest.approx(loss.item(), rel=1e-6)
    assert initial_loss(functional.cross_entropy(logits, torch.full_like(target, -100))) is None


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: x.square().mean(),
        lambda x: functional.cross_entropy(x, torch.full((24, 5), 0.2)),
        lambda x: functional.nll_loss(x, LABELS),  # of no logarithms
        lambda x: functional.binary_cross_entropy_with_logits(x, torch.ones(24, 5)),
    ],
    ids=["square", "soft labels", "no logarithm", "binary"],
)
def test_other_losses_have_none(loss):
    assert initial_loss(loss(torch.randn(24, 5, requires_grad=True))) is None
