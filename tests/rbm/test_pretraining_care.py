# SPDX-License-Identifier: Apache-2.0
"""rbm_pretrain leaves alone what it does not train, also where it fails."""

import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, TensorDataset

import torch_init
from torch_init import rbm


def mlp(*sizes):
    first, second, last = sizes or (12, 8, 6)
    return nn.Sequential(
        *(nn.Linear(first, second), nn.Sigmoid()),
        *(nn.Linear(second, last), nn.Sigmoid()),
        nn.Linear(last, 2),
    )


def examples(count=60, seed=0):
    return torch.rand(count, 12, generator=torch.Generator().manual_seed(seed))


def values(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def changed(model, before):
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize("head", [None, "keep"])
def test_a_kept_head_keeps_its_float64_bits(head):
    model = mlp().double()
    before = values(model)
    torch_init.rbm_pretrain(model, examples(), epochs=1, head=head)
    assert changed(model, before) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_a_head_is_initialised_in_its_own_dtype():
    model, other = mlp().double(), mlp().double()
    torch_init.rbm_pretrain(model, examples(), epochs=1, head="he", seed=4)
    torch_init.init_(other, "he", seed=4)
    assert torch.equal(model[4].weight, other[4].weight)


def test_a_frozen_bias_keeps_its_bits_and_is_trained_with():
    model = mlp().double()
    for layer in (0, 4):
        model[layer].bias.requires_grad_(False)
    before = values(model)
    report = torch_init.rbm_pretrain(model, examples(), epochs=1)
    assert changed(model, before) == {"0.weight", "2.weight", "2.bias", "4.weight"}
    assert torch.equal(report.layers[0].machine.hidden_bias, before["0.bias"].float())


def test_the_users_hooks_do_not_run():
    model, seen = mlp(), []
    lock = threading.Lock()  # cannot be copied

    def hook(*arguments):
        with lock:
            seen.append(len(arguments))

    for module in model.modules():
        module.register_forward_hook(hook)
        module.register_forward_hook(lambda *arguments: hook(*arguments), with_kwargs=True)
        module.register_forward_pre_hook(hook)
        module.register_full_backward_hook(hook)
    torch_init.rbm_pretrain(model, examples(), epochs=1)
    assert seen == []
    model(examples())
    assert len(seen) == 3 * len(list(model.modules()))  # they are still there


class Scripted(nn.Module):
    """Keeps what is no tensor in its state_dict."""

    def __init__(self):
        super().__init__()
        self.layers, self.calls = mlp(), 3

    def forward(self, x):
        return self.layers(x)

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


def test_modules_with_extra_state():
    model = Scripted()
    report = torch_init.rbm_pretrain(model, examples(), epochs=1)
    assert torch.equal(model.layers[0].weight, report.layers[0].machine.weight)
    assert model.calls == 3


def test_validation_instead_of_a_holdout():
    data, other = examples(200), examples(80, seed=1)
    forms = [other, DataLoader(TensorDataset(other), batch_size=30)]
    reports = [torch_init.rbm_pretrain(mlp(), data, epochs=2, validation=form) for form in forms]
    for report in reports:
        assert report.layers[0].updates == 4  # all 200 rows, by 100
        assert report.layers[0].free_energy_gap == reports[0].layers[0].free_energy_gap
        machine = report.layers[1].machine
        features = report.layers[0].machine(other)
        want = rbm.log_likelihood(machine, features).mean().item()
        assert report.layers[1].log_likelihood == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"holdout": 1.0}, ValueError, "holdout: expected less than all rows"),
        ({"holdout": 1.5}, ValueError, "holdout"),
        ({"validation": 7}, TypeError, "validation"),
        ({"validation": torch.zeros(0, 12)}, ValueError, "validation: expected at least one"),
        ({"validation": torch.full((3, 12), torch.nan)}, ValueError, "validation"),
        ({"validation": torch.full((3, 12), 2.0)}, ValueError, "validation"),
        ({"validation": torch.zeros(3, 11)}, ValueError, r"examples of shape \(11,\)"),
        ({"no_such_option": 1}, TypeError, "no_such_option"),
    ],
    ids=["whole", "more", "kind", "empty", "nan", "range", "width", "option"],
)
def test_bad_options_are_refused(options, error, text):
    model = mlp()
    before = values(model)
    with pytest.raises(error, match=text):
        torch_init.rbm_pretrain(model, examples(), epochs=1, **options)
    assert changed(model, before) == set()


def test_a_large_holdout_leaves_a_row_to_train_on():
    report = torch_init.rbm_pretrain(mlp(), examples(30), epochs=1, holdout=0.999)
    assert report.layers[0].updates == 1


class Interrupt(TorchFunctionMode):
    """Raises at the write number `at` to one of the parameters."""

    def __init__(self, model, at, error):
        super().__init__()
        self.own = {id(parameter) for parameter in model.parameters()}
        self.at, self.error, self.writes = at, error, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.copy_ and id(args[0]) in self.own:
            self.writes += 1
            if self.writes == self.at:
                raise self.error
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
@pytest.mark.parametrize("at", [1, 2, 4, 6])
def test_an_interrupt_while_writing_back(at, error):
    model = mlp()
    before = values(model)
    with pytest.raises(error), Interrupt(model, at, error):
        torch_init.rbm_pretrain(model, examples(), epochs=1)
    assert changed(model, before) == set()


def test_an_interrupt_while_training():
    model, before = mlp(), None
    before, state = values(model), torch.get_rng_state()
    modes = [module.training for module in model.modules()]

    def stop(machine, record):
        if machine.name == "2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        torch_init.rbm_pretrain(model, examples(), epochs=1, callback=stop)
    assert changed(model, before) == set() and torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes


def test_visible_biases_follow_all_batches_of_a_loader():
    """Sorted by class, as data on disk may be, the first batch is no fair sample."""
    data = torch.cat([torch.zeros(90, 12), torch.ones(10, 12)])
    loader = DataLoader(TensorDataset(data), batch_size=20)
    report = torch_init.rbm_pretrain(mlp(), loader, epochs=1, learning_rate=0.0)
    bias = report.layers[0].machine.visible_bias.detach()
    torch.testing.assert_close(bias, torch.logit(torch.full((12,), 0.1)))


def test_a_loader_that_is_left_half_read():
    """5,000 rows are more than fit() reads ahead; patience ends the training early."""
    loader = DataLoader(TensorDataset(examples(5000)), batch_size=100)
    report = torch_init.rbm_pretrain(
        mlp(), loader, epochs=4, patience=1, monitors=["reconstruction"], learning_rate=0.0
    )
    assert [row.epochs for row in report.layers] == [2, 2]


def test_autocast_does_not_reach_the_training():
    models = [mlp(), mlp()]
    torch_init.rbm_pretrain(models[0], examples(), epochs=2)
    with torch.autocast("cpu", torch.bfloat16):
        torch_init.rbm_pretrain(models[1], examples(), epochs=2)
    assert changed(models[1], values(models[0])) == set()


def test_computed_weights_are_refused_before_anything_is_copied():
    model = mlp()
    prune.random_unstructured(model[2], "weight", amount=0.5)
    with pytest.raises(ValueError, match="2, whose weight is computed from others"):
        torch_init.rbm_pretrain(model, examples())


class Halved(nn.Sequential):
    """Changes its input in place."""

    def forward(self, inputs):
        return super().forward(inputs.mul_(0.5))


def test_examples_are_not_written_to():
    data, before = examples(), examples()
    torch_init.rbm_pretrain(Halved(*mlp()), data, epochs=1)
    assert torch.equal(data, before)


class Killed(Exception):
    pass


@pytest.mark.parametrize("order", [3, 4])
@pytest.mark.parametrize("layer", ["0", "2"])
def test_a_loader_that_shuffles_has_to_begin_as_it_did(tmp_path, layer, order):
    """A resumed run reads the loader as often as a whole one, if its generator begins alike."""

    def pretrain(order, **options):
        generator, model = torch.Generator().manual_seed(order), mlp()
        loader = DataLoader(TensorDataset(examples()), 10, shuffle=True, generator=generator)
        torch_init.init_(model, "he", seed=0)
        torch_init.rbm_pretrain(model, loader, epochs=2, **options)
        return model

    def kill(machine, record):
        if machine.name == layer:
            raise Killed

    want, folder = values(pretrain(3)), {"checkpoint": tmp_path, "checkpoint_every": 4}
    with pytest.raises(Killed):
        pretrain(3, callback=kill, **folder)
    resumed = pretrain(order, resume=True, **folder)
    assert (changed(resumed, want) == set()) == (order == 3)
