# SPDX-License-Identifier: Apache-2.0
"""check() and expected(): one shot, and the model as it was."""

import pytest
import torch
from flow_networks import Structured, batch, mlp
from flow_zoo import generator
from torch import nn

import torch_init


class Stateful(nn.Module):
    """Draws random numbers, has buffers, and behaves differently in training."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm = nn.Linear(8, 16), nn.BatchNorm1d(16)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.norm(self.fc(x)))))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("function", ["check", "expected"])
def test_everything_is_restored(function, training, capsys):
    model = Stateful().train(training)
    model.fc.weight.grad = torch.full_like(model.fc.weight, 3.0)
    gradient = model.fc.weight.grad
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    x = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
    getattr(torch_init, function)(model, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.fc.weight.grad is gradient and (gradient == 3).all()
    assert model.head.weight.grad is None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert {m.training for m in model.modules()} == {training}
    assert not model.fc._forward_hooks and x.grad is None and not x.requires_grad
    assert bool(capsys.readouterr().out) == (function == "check")


def test_an_optimizer_in_the_backward_pass_does_not_step():
    model = mlp(2, 8, nn.ReLU, 2.0)
    before = model[0].weight.detach().clone()
    steps = []

    def step(parameter):
        steps.append(parameter)
        with torch.no_grad():
            parameter.sub_(parameter.grad)

    model[0].weight.register_post_accumulate_grad_hook(step)
    torch_init.check(model, torch.randn(16, 8), verbose=False)
    assert not steps and torch.equal(model[0].weight, before)
    model(torch.randn(16, 8)).sum().backward()
    assert steps


def test_inputs_get_no_gradient():
    x = torch.randn(16, 8, requires_grad=True)
    for inputs in (x, (x,), {"input": x}):
        torch_init.check(mlp(2, 8, nn.ReLU, 2.0), inputs, verbose=False)
    assert x.grad is None


def test_everything_is_restored_after_an_error():
    model = Stateful()
    before = {k: v.clone() for k, v in model.state_dict().items()}

    def fails(output):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        torch_init.check(model, torch.randn(32, 8), fails)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not model.fc._forward_hooks


@pytest.mark.parametrize(
    "loss",
    [None, torch.arange(32) % 10, torch.zeros(32, 10), lambda out: out.square().mean()],
    ids=["none", "labels", "values", "function"],
)
def test_losses(loss):
    model = mlp(20, 32, nn.Sigmoid, 1.0)
    x, _ = batch(model, 32)
    report = torch_init.check(model, x, loss, verbose=False)
    assert report.verdict.kind == "vanishing"
    assert all(p.gradient_norm > 0 for p in report.parameters[-2:])


def test_inputs_as_tuple_and_dict():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, a, b):
            return self.fc(a) + b

    x = torch.randn(8, 4)
    for inputs in ((x, x), {"a": x, "b": x}):
        assert torch_init.check(Two(), inputs, verbose=False).rows[0].calls == 1


def test_models_that_return_dicts():
    report = torch_init.check(Structured("dict"), torch.randn(8, 8), verbose=False)
    assert report.rows[0].backward_calls == 1


@pytest.mark.parametrize(
    ("inputs", "loss", "error", "match"),
    [
        (torch.randn(4, 8), "mse", TypeError, "check: loss"),
        (torch.randn(4, 8), lambda out: out, ValueError, "check: loss: .* one number"),
        (torch.randn(4, 8), lambda out: out.detach().sum(), ValueError, "without a graph"),
        ({0: torch.randn(4, 8)}, None, TypeError, "check: inputs"),
    ],
)
def test_bad_arguments(inputs, loss, error, match):
    with pytest.raises(error, match=match):
        torch_init.check(mlp(2, 8, nn.ReLU, 2.0), inputs, loss)
    with pytest.raises(TypeError, match="check: model"):
        torch_init.check("model", torch.randn(2))


@pytest.mark.parametrize("function", [torch_init.check, torch_init.expected])
def test_a_batch_of_nothing_is_refused(function):
    x = torch.randn(4, 8)[:0]
    for inputs in (x, (x, torch.ones(8)), {"input": x}):
        with pytest.raises(
            ValueError, match=rf"{function.__name__}: inputs: .* one example, got .*8"
        ):
            function(mlp(2, 8, nn.ReLU, 2.0), inputs)


@pytest.mark.parametrize("function", [torch_init.check, torch_init.expected])
def test_inference_mode_is_to_be_left(function):
    model, x = mlp(2, 8, nn.ReLU, 2.0), torch.randn(4, 8)
    with torch.inference_mode():
        with pytest.raises(RuntimeError, match=f"{function.__name__}: mode: .* Leave it"):
            function(model, x)
        with torch.inference_mode(False):
            function(model, x)


def test_a_frozen_model_is_told():
    model, x = mlp(2, 8, nn.ReLU, 2.0).requires_grad_(False), torch.randn(4, 8)
    for loss in (None, torch.arange(4), lambda out: out.sum()):
        with pytest.raises(ValueError, match=r"check: model: .* no parameter requires grad"):
            torch_init.check(model, x, loss)
    torch_init.check(model, x.requires_grad_(), verbose=False)


def test_expected_of_convolutions_agrees_with_measurement():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(32, 64, 3, stride=2, padding=1, groups=2), nn.ReLU()]
    layers += [nn.Conv2d(64, 64, 3, dilation=2), nn.ReLU(), nn.ConvTranspose2d(64, 64, 2, stride=2)]
    model = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(64, 64, 1))
    for name, module in model.named_modules():
        if hasattr(module, "weight"):
            transposed = isinstance(module, nn.ConvTranspose2d)
            options = {"groups": getattr(module, "groups", 1)} if not transposed else {}
            torch_init.he_(module.weight, transposed=transposed, seed=0, name=name, **options)
            torch_init.zeros_(module.bias)
    report = torch_init.check(model, torch.randn(4, 3, 20, 20), verbose=False)
    for row in report.weighted:
        assert row.rms == pytest.approx(row.expected_rms, rel=0.12), row.layer
        assert row.gradient_norm == pytest.approx(row.expected_gradient_norm, rel=0.12), row.layer


def test_transposed_convolutions_meet_few_taps_at_the_border():
    x = torch.randn(16, 64, 1, 1, generator=torch.Generator().manual_seed(0))
    report = torch_init.check(generator(), x, verbose=False)
    assert [v.kind for v in report.verdicts] == ["ok"]
    for row in report.weighted:
        assert row.rms == pytest.approx(row.expected_rms, rel=0.12), row.layer


def test_expected_of_a_frozen_model_and_of_a_residual_sum():
    from flow_networks import residual_stack

    model = residual_stack(8, 256).requires_grad_(False)
    prediction = torch_init.expected(model)
    # Each block adds a branch of He's variance, which doubles the square twice and halves it once.
    ratio = prediction["7.branch.0"].rms / prediction["0.branch.0"].rms
    assert ratio == pytest.approx(3**3.5, rel=0.05)
    assert "0.branch.0" in str(prediction)
    with pytest.raises(KeyError):
        prediction["nothing"]


def test_expected_needs_inputs_where_it_cannot_make_them_up():
    with pytest.raises(ValueError, match="expected: inputs"):
        torch_init.expected(nn.Sequential(nn.Conv2d(3, 3, 3)))
    with pytest.raises(TypeError, match="expected: model"):
        torch_init.expected(3)


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.actor, self.critic = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 1)

    def forward(self, x):
        hidden = torch.tanh(self.body(x))
        return hidden, self.actor(hidden), self.critic(hidden)


def test_without_a_loss_every_output_has_a_gradient():
    report = torch_init.check(ActorCritic(), torch.randn(32, 8), verbose=False)
    assert [v.kind for v in report.verdicts] == ["ok"]
    assert [row.backward_calls for row in report.weighted] == [1, 1, 1]


def test_labels_of_tokens_are_told_how_to_fit():
    model = nn.Sequential(nn.Embedding(9, 16), nn.Linear(16, 9))
    tokens = torch.arange(12).view(2, 6) % 9
    with pytest.raises(ValueError, match=r"lambda y: .*flatten\(0, -2\), labels\.flatten\(\)"):
        torch_init.check(model, tokens, tokens)
    with pytest.raises(ValueError, match="Labels are int64, one for each row"):
        torch_init.check(model, tokens, tokens[:, 0].int())
    with pytest.raises(ValueError, match=r"loss: expected the output's, \(2, 6, 9\), got"):
        torch_init.check(model, tokens, torch.ones(2, 9))
    report = torch_init.check(
        model,
        tokens,
        lambda y: nn.functional.cross_entropy(y.flatten(0, -2), tokens.flatten()),
        verbose=False,
    )
    assert report.initial_loss.classes == 9


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (torch.arange(1, 11), r"1 \.\.\. 10"),
        (torch.arange(10) - 1, r"-1 \.\.\. 8"),
        (torch.full((10,), 255, dtype=torch.uint8), r"255 \.\.\. 255"),
    ],
    ids=["from one", "minus one", "uint8"],
)
def test_labels_out_of_range_are_told_their_range(labels, got):
    model, x = mlp(2, 8, nn.ReLU, 2.0), torch.randn(10, 8)
    with pytest.raises(ValueError, match=rf"loss: expected labels in 0 \.\.\. 9, got {got}\. -100"):
        torch_init.check(model, x, labels)
    with pytest.raises(
        ValueError, match=r"labels in 0 \.\.\. 0, got 0 \.\.\. 1\. .* floating-point"
    ):
        torch_init.check(nn.Linear(8, 1), x, torch.arange(10) % 2)


def test_labels_of_an_output_without_classes():
    model = nn.Sequential(nn.Linear(8, 1), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"expected targets for an output of .* shape \(10,"):
        torch_init.check(model, torch.randn(10, 8), torch.arange(10))


def test_labels_of_pixels_and_those_left_out():
    model, x = nn.Conv2d(1, 4, 3, padding=1), torch.randn(2, 1, 6, 6)
    labels = (torch.arange(72) % 4).view(2, 6, 6)
    labels[0, 0] = -100
    report = torch_init.check(model, x, labels, verbose=False)
    assert report.initial_loss.classes == 4
    with pytest.raises(ValueError, match=r"labels in 0 \.\.\. 3, got 1 \.\.\. 4"):
        torch_init.check(model, x, labels + (labels >= 0).long())


class Shift(nn.Module):
    def forward(self, x):
        return torch.ops.aten.add.Scalar(x, 1.0)


@pytest.mark.parametrize("layer", [Shift(), nn.RMSNorm(64)])
def test_a_sum_with_a_number_has_one_input(layer):
    """In the graph. The gradient is that of its input."""
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), layer, nn.Linear(64, 4))
    rows = torch_init.check(model, torch.randn(32, 16), verbose=False).rows
    assert rows[2].expected_gradient_norm is not None
    if isinstance(layer, Shift):
        assert rows[1].expected_gradient_norm == rows[2].expected_gradient_norm
