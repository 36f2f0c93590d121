# SPDX-License-Identifier: Apache-2.0
"""Automatic mixed precision: what is measured is unscaled, and what underflows is named."""

import math

import pytest
import torch
from flow_networks import batch, mlp, observe
from torch import nn

import torch_init


def scaled_step(model, scaler, optimizer, x, y, factor=1.0):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = nn.functional.cross_entropy(model(x), y) * factor
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()


def test_gradients_are_divided_by_the_scale_of_their_step():
    model = mlp(3, 32, nn.ReLU, 2.0)
    x, y = batch(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=1)
    with torch_init.watch(model, optimizer, scaler=scaler, histogram=True) as flow:
        for _ in range(3):  # the scale doubles after each step
            scaled_step(model, scaler, optimizer, x, y)
    weight_norm = model[0].weight.grad.norm().item()  # the scaler unscaled it before the step
    with torch.autocast("cpu", torch.bfloat16):
        plain = observe(model, x, y, histogram=True)
    report = flow.report()
    assert report.is_scaled and report.steps == 3
    assert scaler.get_scale() == 2.0**15
    for row, wanted in zip(report.rows, plain.rows, strict=True):
        # Powers of two scale bfloat16 exactly.
        assert row.gradient_rms == pytest.approx(wanted.gradient_rms, rel=1e-6)
        assert row.gradient_absmax == pytest.approx(wanted.gradient_absmax, rel=1e-6)
        assert row.gradient_histogram == [3 * n for n in wanted.gradient_histogram]
    for parameter in report.parameters:
        assert parameter.steps == 3
        assert parameter.gradient_norm > 0
    weight = next(p for p in report.parameters if p.name == "0.weight")
    assert weight.gradient_norm == pytest.approx(weight_norm, rel=1e-3)


def test_gradients_that_the_optimizer_itself_unscales():
    norms = []
    for fused in (False, True):
        model = mlp(2, 16, nn.ReLU, 2.0)
        x, y = batch(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        with torch_init.watch(model, optimizer, scaler=scaler) as flow:
            scaled_step(model, scaler, optimizer, x, y)
        norms.append([p.gradient_norm for p in flow.report().parameters])
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_dtypes_under_autocast_are_recorded():
    model = mlp(2, 16, nn.ReLU, 2.0)
    x, y = batch(model)
    with torch_init.watch(model) as flow, torch.autocast("cpu", torch.bfloat16):
        nn.functional.cross_entropy(model(x), y).backward()
    assert {row.dtype for row in flow.report().rows} == {"bfloat16"}


def test_a_step_that_the_scaler_skips_is_a_warning():
    model = mlp(2, 16, nn.ReLU, 2.0)
    x, y = batch(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    with torch_init.watch(model, optimizer, scaler=scaler) as flow:
        scaled_step(model, scaler, optimizer, x, y, factor=1e6)
    report = flow.report()
    assert (report.verdict.kind, report.verdict.severity) == ("non_finite", "warning")
    assert "GradScaler" in report.verdict.cause


def half_model(scale):
    model = mlp(4, 32, nn.ReLU, 2.0).half()
    x, y = batch(model, 512)
    with torch_init.watch(model) as flow:
        out = model(x.half())
        (nn.functional.cross_entropy(out.float(), y) * scale).backward()
    return flow.report()


def test_underflow_in_half_precision_names_a_layer_and_a_scale():
    report = half_model(1e-2)
    (verdict,) = [v for v in report.verdicts if v.kind == "underflow"]
    assert verdict.layer in {row.layer for row in report.rows}
    assert "GradScaler(init_scale=2.0**" in verdict.suggestion
    exponent = int(verdict.suggestion.split("**")[1].split(")")[0])
    mended = half_model(1e-2 * 2.0**exponent)
    assert [v.kind for v in mended.verdicts] == ["ok"], str(mended)


def test_no_underflow_in_single_precision():
    assert observe(mlp(4, 32, nn.ReLU, 2.0), scale=1e-6).verdict.kind == "ok"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-25, 1e-12, 1.0, 1e12, 1e18])
def test_tiny_and_huge_gradients_have_the_right_size(dtype, size):
    """Squares of these leave float32's range."""
    model = nn.Sequential(nn.Linear(4, 4)).to(dtype)
    with torch_init.watch(model) as flow:
        (model(torch.randn(8, 4, dtype=dtype)).sum() * size).backward()
    (row,) = flow.report().rows
    assert row.gradient_rms == pytest.approx(size, rel=1e-6)


def test_lost_updates_in_bfloat16():
    model = mlp(2, 64, nn.ReLU, 2.0).bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    x, y = batch(model)
    with torch_init.watch(model, optimizer) as flow:
        nn.functional.cross_entropy(model(x.bfloat16()), y).backward()
        optimizer.step()
    verdict = flow.report().verdict
    assert verdict.kind == "update_too_small"
    assert "rounding to bfloat16" in verdict.cause
    assert not math.isnan(flow.report().parameters[0].update_rms)
