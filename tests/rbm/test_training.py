# SPDX-License-Identifier: Apache-2.0
"""fit(): what it learns, from which data, what it records and refuses."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from torch_init import rbm


def bars_and_stripes(side):
    """Every picture of full rows or full columns, 2^(side + 1) of them, two of them twice."""
    pictures = []
    for bits in itertools.product([0.0, 1.0], repeat=side):
        line = torch.tensor(bits)
        pictures += [line[:, None].expand(side, side), line.expand(side, side)]
    return torch.stack(pictures).flatten(1)


def patterns(count=200, seed=0):
    """Three patterns of 12 units with 5 % of the units flipped."""
    generator = torch.Generator().manual_seed(seed)
    prototypes = (torch.rand(3, 12, generator=generator) < 0.5).float()
    rows = prototypes[torch.randint(3, (count,), generator=generator)]
    return (rows - (torch.rand(count, 12, generator=generator) < 0.05).float()).abs()


@pytest.mark.parametrize("seed", range(5))
def test_bars_and_stripes(seed):
    """The optimum is -41.59; CD-1 stays below -47, CD-10 with 9 hidden units has to reach -43.5."""
    data = bars_and_stripes(3)
    made = rbm.RBM(9, 9, seed=seed)
    found = []
    made.fit(
        data,
        epochs=4000,
        batch_size=16,
        k=10,
        learning_rate=0.2,
        momentum=0.0,
        weight_decay=0.0,
        monitors=(),
        monitor_every=200,
        callback=lambda made, _: found.append(rbm.log_likelihood(made, data).sum().item()),
    )
    assert max(found) >= -43.5
    assert max(found) <= -41.5887


ALGORITHMS = {
    "cd": {"algorithm": "cd"},
    "cd-means": {"algorithm": "cd", "k": 3, "reconstruction": "means"},
    "cd-plain": {"algorithm": "cd", "centered": False, "schedule": "linear", "l1": 1e-4},
    "cd-samples": {"algorithm": "cd", "statistics": "samples"},
    "pcd": {"algorithm": "pcd", "k": 2, "learning_rate": 0.05, "schedule": "linear"},
    "pcd-samples": {
        "algorithm": "pcd",
        "statistics": "samples",
        "chains": 30,
        "learning_rate": 0.05,
    },
    "fpcd": {"algorithm": "fpcd", "learning_rate": 0.02},
    "pt": {"algorithm": "pt", "temperatures": 5, "learning_rate": 0.05},
}


@pytest.mark.parametrize("options", ALGORITHMS.values(), ids=ALGORITHMS)
def test_every_algorithm_learns(options):
    """By far more than the best machine without weights."""
    data = patterns(600)
    made = rbm.RBM(12, 8, seed=1)
    means = data.mean(0).clamp(1e-3, 1 - 1e-3)
    independent = (data * means.log() + (1 - data) * (1 - means).log()).sum(1).mean().item()
    made.fit(data, epochs=60, batch_size=20, **options)
    assert rbm.log_likelihood(made, data).mean() > independent + 1.5


def test_dropout_still_reconstructs():
    """Its likelihood is that of a machine with 70 % of its hidden units; no weight is rescaled."""
    made = rbm.RBM(12, 8, seed=1)
    history = made.fit(patterns(600), epochs=60, batch_size=20, dropout=0.3)
    assert history["reconstruction"][-1] < 0.5 * patterns(600).var(0).mean()
    assert not same(made, trained(patterns(600), epochs=60, batch_size=20))


@pytest.mark.parametrize("hidden", [rbm.Bernoulli(5), rbm.Spin(5)], ids=["bernoulli", "spin"])
def test_units_that_dropout_takes_out_learn_nothing(hidden):
    """At a rate of 1 - 1e-9 all are out, in every row: as if they were not there."""
    made = rbm.RBM(rbm.Bernoulli(12), hidden, std=0.5)
    before = made.weight.detach().clone()
    made.fit(patterns(), epochs=1, dropout=1 - 1e-9, weight_decay=0.0, centered=False)
    assert torch.equal(made.weight, before)


@pytest.mark.parametrize(
    "units",
    [
        (rbm.Spin(12), rbm.Spin(8)),
        (rbm.Bernoulli(12), rbm.Spin(8)),
        (rbm.Softmax(12, categories=3), rbm.Bernoulli(8)),
        (rbm.Bernoulli(12), rbm.Softmax(9, categories=3)),
    ],
    ids=["spin", "bernoulli-spin", "softmax", "bernoulli-softmax"],
)
@pytest.mark.parametrize("algorithm", ["cd", "pcd"])
def test_every_kind_of_units_learns(units, algorithm):
    made = rbm.RBM(*units, seed=1)
    if isinstance(units[0], rbm.Softmax):
        first = torch.randint(3, (400,), generator=torch.Generator().manual_seed(0))
        data = torch.nn.functional.one_hot(first, 3).float().repeat(1, 4)  # four equal groups
    else:
        data = patterns(400) if isinstance(units[0], rbm.Bernoulli) else 2 * patterns(400) - 1
    before = None
    untrained = rbm.RBM(*units, std=0.0)
    untrained.fit(data, epochs=1, learning_rate=0.0)
    before = rbm.log_likelihood(untrained, data).mean()
    made.fit(data, epochs=40, batch_size=20, algorithm=algorithm, learning_rate=0.05)
    assert rbm.log_likelihood(made, data).mean() > before + 1


@pytest.mark.parametrize("hidden", [rbm.Bernoulli(6), rbm.NReLU(6)], ids=["bernoulli", "nrelu"])
@pytest.mark.parametrize("learned", [False, True])
def test_gaussian_machines_reconstruct(hidden, learned):
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(500, 2, generator=generator) @ torch.randn(2, 8, generator=generator)
    data = data / data.std(0)
    made = rbm.RBM(rbm.Gaussian(8, learn_variance=learned), hidden)
    history = made.fit(data, epochs=40, batch_size=25, learning_rate=0.01)
    assert history["reconstruction"][-1] < 0.6 * data.var().item()
    if learned:
        assert made.log_variance.mean() < -0.3  # there is less noise than the variance of 1
        assert made.log_variance.isfinite().all()
    else:
        assert (made.log_variance == 0).all()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def trained(data, **options):
    made = rbm.RBM(12, 5)
    made.fit(data, **({"epochs": 2, "batch_size": 32} | options))
    return made


def test_all_forms_of_rows_are_the_same(tmp_path):
    data = patterns()
    want = trained(data)
    mapped = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(200, 12))
    mapped[:] = data.numpy()
    grey = np.memmap(tmp_path / "bytes", np.uint8, "w+", shape=(200, 3, 4))
    grey[:] = (255 * data.numpy()).reshape(200, 3, 4)
    labelled = TensorDataset(data.view(200, 1, 12), torch.zeros(200))
    forms = [data.numpy(), data.double(), data.bool(), data.tolist(), mapped, grey, labelled]
    for form in forms:
        assert same(trained(form), want), type(form)
    assert not same(trained(data, seed=1), want)
    assert not same(trained(data, shuffle=False), want)


def test_all_forms_of_batches_are_the_same():
    data = patterns()
    want = trained(data, shuffle=False, visible_bias="keep")
    batches = list(data.split(32))
    loader = DataLoader(TensorDataset(data, torch.zeros(200)), batch_size=32)
    for form in (batches, loader, [batch.numpy() for batch in batches]):
        assert same(trained(form, visible_bias="keep"), want)


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (torch.full((4, 12), torch.nan), ValueError, "not finite"),
        (torch.full((4, 12), 2.0), ValueError, r"values in \[2, 2\]"),
        (torch.zeros(4, 11), ValueError, r"shape \(N, 12\)"),
        (torch.zeros(0, 12), ValueError, "no rows"),
        ([], ValueError, "no batches"),
        (iter([torch.zeros(4, 12)]), TypeError, "only once"),
        (None, TypeError, "NoneType"),
        ("digits", TypeError, "str"),
        (np.eye(12, dtype=np.uint8), ValueError, "pass bool or float"),
        (torch.zeros(4, 12, dtype=torch.complex64), TypeError, "complex64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_data_change_nothing(data, error, text):
    made = rbm.RBM(12, 5)
    before = [parameter.clone() for parameter in made.parameters()]
    with pytest.raises(error, match=text):
        made.fit(data)
    assert all(torch.equal(a, b) for a, b in zip(before, made.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": (0.1, 0.2, 0.3)}, "momentum"),
        ({"algorithm": "sml"}, "algorithm"),
        ({"schedule": "quadratic"}, "schedule"),
        ({"monitors": ["loss"]}, "monitors"),
        ({"sparsity_target": 2.0}, "sparsity_target"),
        ({"algorithm": "pcd", "dropout": 0.5}, "dropout"),
        ({"algorithm": "pcd", "adapt_temperatures": True}, "adapt_temperatures"),
        ({"algorithm": "pcd", "reconstruction": "means"}, "reconstruction"),
        ({"patience": 3, "monitors": ()}, "patience"),
        ({"resume": True}, "resume"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_options_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        rbm.RBM(12, 5).fit(patterns(), **options)
    with pytest.raises(TypeError, match=r"expected epochs, .*, got learnrate"):
        rbm.RBM(12, 5).fit(patterns(), learnrate=1)


def test_sampled_statistics_need_states():
    with pytest.raises(ValueError, match="binarize"):
        rbm.RBM(12, 5).fit(torch.full((4, 12), 0.5), statistics="samples")
    rbm.RBM(12, 5).fit(torch.full((4, 12), 0.5), statistics="samples", binarize="sample")
    with pytest.raises(ValueError, match="statistics"):
        rbm.RBM(rbm.Gaussian(12), 5).fit(patterns(), statistics="samples")


def test_constant_columns_keep_finite_biases():
    data = patterns()
    data[:, 0], data[:, 1] = 0, 1
    made = trained(data)
    assert made.visible_bias.abs().max() < 20
    gaussian = rbm.RBM(rbm.Gaussian(12, learn_variance=True), 5)
    gaussian.fit(data, epochs=3)
    assert all(parameter.isfinite().all() for parameter in gaussian.parameters())


def test_divergence_is_reported():
    made = rbm.RBM(rbm.Gaussian(12), rbm.NReLU(5))
    with pytest.raises(FloatingPointError, match="learning_rate"):
        made.fit(1e4 * torch.randn(100, 12), learning_rate=10.0, epochs=20, momentum=0.9)


def test_sparsity_target_is_approached():
    sparse = trained(patterns(), epochs=60, sparsity_target=0.05, sparsity_cost=1.0)
    assert abs(sparse.hidden_mean(patterns()).mean() - 0.05) < 0.03
    assert trained(patterns(), epochs=60).hidden_mean(patterns()).mean() > 0.2


def test_weight_penalties_shrink_weights_only():
    plain = trained(patterns(), epochs=20)
    decayed = trained(patterns(), epochs=20, weight_decay=0.2)
    sparse = trained(patterns(), epochs=20, l1=0.1)
    assert decayed.weight.norm() < 0.7 * plain.weight.norm()
    assert (sparse.weight.abs() < 0.02).float().mean() > (plain.weight.abs() < 0.02).float().mean()
    zero_rate = trained(patterns(), learning_rate=0.0, weight_decay=0.5, visible_bias="keep")
    assert same(zero_rate, rbm.RBM(12, 5))


def test_schedules_end_where_they_say():
    from torch_init.rbm.options import SCHEDULES

    assert all(factor(0.0) == 1 for factor in SCHEDULES.values())
    assert SCHEDULES["linear"](1.0) == 0 and abs(SCHEDULES["cosine"](1.0)) < 1e-15
    assert math.isclose(SCHEDULES["exponential"](1.0), 0.01)
    assert same(trained(patterns(), schedule=lambda done: 1.0), trained(patterns()))


def test_monitors_are_recorded_and_lazy(monkeypatch):
    from torch_init.rbm import monitors

    calls = []
    original = monitors.MONITORS["reconstruction"]
    monkeypatch.setitem(
        monitors.MONITORS, "reconstruction", lambda m: calls.append(m.epoch) or original(m)
    )
    made = rbm.RBM(12, 5)
    seen = []
    history = made.fit(
        patterns(),
        validation=patterns(50, seed=1),
        epochs=7,
        monitor_every=3,
        monitors=list(rbm.MONITORS),
        callback=lambda _, record: seen.append(record["epoch"]),
    )
    assert calls == seen == [3, 6, 7] == [record["epoch"] for record in history.records]
    assert all(math.isfinite(history[name][-1]) for name in rbm.MONITORS)
    assert "pseudo_likelihood" in str(history)
    trained(patterns(), monitors=())
    assert calls == [3, 6, 7]


def test_patience_stops_early():
    data = patterns(40)
    made = rbm.RBM(12, 5)
    history = made.fit(data, epochs=50, learning_rate=0.0, patience=4, visible_bias="keep")
    assert history.stopped_early and history.records[-1]["epoch"] == 5
    still = {"learning_rate": 0.0, "visible_bias": "keep"}
    history = made.fit(data, epochs=50, patience=4, monitor_every=2, **still)
    assert history["epoch"] == [2, 4, 6]  # patience counts epochs, not looks


def test_monitors_without_a_figure_are_refused():
    """Before the run, not at the end of its first epoch."""
    made = rbm.RBM(rbm.Gaussian(12), 5)
    with pytest.raises(ValueError, match="'pseudo_likelihood' of Gaussian units"):
        made.fit(patterns(), monitors=["weight_norm", "pseudo_likelihood"])
    with pytest.raises(ValueError, match="without validation"):
        made.fit(patterns(), monitors=["free_energy_gap"], patience=2)
    assert same(made, rbm.RBM(rbm.Gaussian(12), 5))


def test_the_callers_generators_are_left_alone():
    before = torch.random.get_rng_state()
    trained(patterns(), algorithm="pcd", binarize="sample")
    assert torch.equal(before, torch.random.get_rng_state())


def test_progress_bar(capsys):
    rbm.RBM(12, 5).fit(patterns(), epochs=2, progress=True)
    assert "4/4" in capsys.readouterr().err
    rbm.RBM(12, 5).fit(patterns(), epochs=2, progress=False)
    assert capsys.readouterr().err == ""


def test_a_second_fit_starts_from_what_the_first_learned():
    """Neither learned nor frozen visible biases are set from the data, unless asked to."""
    made = rbm.RBM(12, 5)
    made.fit(patterns(), epochs=2)
    before = [p.detach().clone() for p in made.parameters()]
    made.fit(patterns(seed=1), epochs=1, learning_rate=0.0)
    assert all(map(torch.equal, before, made.parameters()))
    made.fit(patterns(seed=1), epochs=1, learning_rate=0.0, visible_bias="data")
    assert not torch.equal(before[1], made.visible_bias)

    frozen = rbm.RBM(12, 5)
    frozen.visible_bias.requires_grad_(False)
    frozen.fit(patterns(), epochs=1)
    assert not frozen.visible_bias.any()
