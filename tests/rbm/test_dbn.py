# SPDX-License-Identifier: Apache-2.0
"""Deep belief nets: stacking, fine-tuning up and down, labels, unrolling."""

import pytest
import torch
from machines import machine, visible_law

from torch_init import rbm


def patterns(count=600):
    """Three patterns of 16 units with little noise, and which one it is."""
    generator = torch.Generator().manual_seed(1)
    prototypes = (torch.rand(3, 16, generator=generator) < 0.5).float()
    labels = torch.randint(3, (count,), generator=generator)
    noise = (torch.rand(count, 16, generator=generator) < 0.05).float()
    return (prototypes[labels] - noise).abs(), labels, prototypes


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    data, labels, _ = patterns()
    dbn = rbm.DBN([16, 12, 14], classes=3)
    dbn.fit(data, labels, epochs=20, batch_size=20)
    return dbn


def test_labelled_units_by_enumeration():
    made = machine((rbm.Labelled(6, classes=3), rbm.Bernoulli(4)))
    states = made.visible.states()
    assert len(states) == made.visible.num_states == 24
    log_z = rbm.log_partition(made)
    assert abs(torch.logsumexp(-made.free_energy(states), 0).item() - log_z) < 1e-12
    law = visible_law(made)
    rows = torch.multinomial(law, 20_000, True, generator=torch.Generator().manual_seed(0))
    visible, _ = made.gibbs(states[rows], 6, seed=1)
    numbers = (visible @ states.T - 0.5 * (states**2).sum(1)).argmax(1)
    counts = torch.bincount(numbers, minlength=24).double()
    floor = 0.5 * (law * (1 - law) / 20_000).sqrt().sum()
    assert 0.5 * (counts / 20_000 - law).abs().sum() < 4 * floor


def test_labels_are_learned(trained):
    data, labels, _ = patterns()
    assert (trained.predict(data) == labels).float().mean() > 0.97


def test_samples_of_a_clamped_label_are_of_its_class(trained):
    _, _, prototypes = patterns()
    for label, prototype in enumerate(prototypes):
        samples = trained.sample(100, 200, label=label, seed=0)
        nearest = (samples[:, None] - prototypes).abs().sum(-1).argmin(1)
        assert (nearest == label).float().mean() > 0.9, prototype
    assert torch.equal(trained.sample(4, 5, seed=1), trained.sample(4, 5, seed=1))
    assert trained.sample(4, 5).shape == (4, 16)


def test_up_down_unties_the_weights_and_keeps_what_is_known(trained):
    data, labels, prototypes = patterns()
    dbn = rbm.DBN([16, 12, 14], classes=3)
    dbn.load_state_dict(trained.state_dict())
    dbn.up_down(data, labels, epochs=10, batch_size=20, learning_rate=0.05)
    generative, recognition = dbn.generative[0], dbn.machines[0].weight
    assert generative.shape == recognition.shape and not torch.equal(generative, recognition)
    assert (dbn.predict(data) == labels).float().mean() > 0.97
    samples = dbn.sample(300, 200, seed=0)
    distance = (samples[:, None] - prototypes).abs().sum(-1).amin(1).mean()
    assert distance < 3  # of 16 units; far patterns differ in 8


def test_up_down_improves_a_spoilt_generative_net():
    """From random generative weights it learns to generate again."""
    data, _, _ = patterns()
    dbn = rbm.DBN([16, 12, 14])
    dbn.fit(data, epochs=10, batch_size=20)
    dbn.up_down(data, epochs=1, batch_size=600, learning_rate=0.0)
    with torch.no_grad():
        dbn.generative[0].normal_(generator=torch.Generator().manual_seed(0)).mul_(0.01)

    def error():
        features = dbn.below_top(data)
        return (torch.sigmoid(dbn.down_field(0, features)) - data).abs().mean()

    before = error()
    dbn.up_down(data, epochs=20, batch_size=20, learning_rate=0.1)
    assert error() < 0.6 * before


def test_mirrored_layers_start_from_the_transpose():
    data, _, _ = patterns()
    dbn = rbm.DBN([16, 12, 16])
    dbn.fit(data, epochs=2, batch_size=50, learning_rate=0.0, weight_decay=0.0)
    assert torch.equal(dbn.machines[1].weight, dbn.machines[0].weight.T)
    assert torch.equal(dbn.machines[1].hidden_bias, dbn.machines[0].visible_bias)


@pytest.mark.parametrize("tuned", [False, True])
def test_autoencoder_is_the_net_unrolled(tuned):
    data, _, _ = patterns()
    dbn = rbm.DBN([16, 12, rbm.Bernoulli(4)])
    dbn.fit(data, epochs=10, batch_size=20)
    if tuned:
        dbn.up_down(data, epochs=1)
    encoder, decoder = dbn.autoencoder()
    torch.testing.assert_close(encoder(data), dbn.transform(data))
    code = encoder(data)
    want = torch.sigmoid(dbn.down_field(0, dbn.top.visible_mean(code)))
    torch.testing.assert_close(decoder(code), want)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, 0.01)
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.binary_cross_entropy(decoder(encoder(data)), data)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]  # 0.2 nats a unit are noise
    torch.testing.assert_close(dbn.transform(data), code.detach())  # the net has its own


def nets():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(60, 10, generator=generator)
    groups = torch.nn.functional.one_hot(torch.arange(60) % 5, 5).float().repeat(1, 2)
    learned = rbm.Gaussian(10, variance=0.5, learn_variance=True)
    return {
        "2006": ([10, 8, 6, rbm.Gaussian(2)], real.sigmoid()),
        "spin": ([rbm.Spin(10), rbm.Spin(6), 3], real.tanh()),
        "gaussian": ([learned, rbm.NReLU(8), rbm.NReLU(6), 4], real),
        "softmax": ([rbm.Softmax(10, categories=5), 4, 3], groups),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("kind", ["2006", "spin", "gaussian", "softmax"])
def test_every_kind_of_net_is_unrolled(kind, dtype):
    """The encoder is transform, the decoder the means all the way down; no generator is moved."""
    layers, data = nets()[kind]
    dbn = rbm.DBN(layers)
    dbn.fit(data, epochs=2)
    dbn.to(dtype)
    before = torch.random.get_rng_state()
    encoder, decoder = dbn.autoencoder()
    assert torch.equal(before, torch.random.get_rng_state())
    code = encoder(data.to(dtype))
    torch.testing.assert_close(code, dbn.transform(data.to(dtype)))
    want = code
    for layer in reversed(list(dbn.each())):
        want = layer.visible_mean(want)
    torch.testing.assert_close(decoder(code), want)
    decoder(code).sum().backward()
    assert all(p.grad is not None for p in [*encoder.parameters(), *decoder.parameters()])


def test_codes_reconstruct_better_than_principal_components():
    """As in Hinton & Salakhutdinov (2006): two numbers for three curved clusters."""
    data, _, _ = patterns()
    dbn = rbm.DBN([16, 12, rbm.Gaussian(2)])
    dbn.fit(data, epochs=20, batch_size=20)
    encoder, decoder = dbn.autoencoder()
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, 0.02)
    for _ in range(200):
        loss = ((decoder(encoder(data)) - data) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    centred = data - data.mean(0)
    left = torch.linalg.svdvals(centred)[2:].square().sum() / data.numel()
    assert loss < 0.95 * left


def test_a_new_fit_ties_the_weights_again():
    data, labels, _ = patterns(100)
    once, twice = (rbm.DBN([16, 12, 14], classes=3) for _ in range(2))
    twice.fit(data, labels, epochs=1)
    twice.up_down(data, labels, epochs=1)
    twice.load_state_dict(once.state_dict() | untied(twice))
    for dbn in (once, twice):
        dbn.fit(data, labels, epochs=1)
    assert len(twice.generative) == 0
    assert torch.equal(once.sample(5, 3, seed=0), twice.sample(5, 3, seed=0))


def untied(dbn):
    return {name: value for name, value in dbn.state_dict().items() if "generative" in name}


def test_states_of_tied_and_untied_nets_load_into_each_other():
    data, _, _ = patterns(50)
    tied, tuned = rbm.DBN([16, 12, 8]), rbm.DBN([16, 12, 8])
    tuned.up_down(data, epochs=1, learning_rate=0.1)
    fresh = torch.nn.Sequential(rbm.DBN([16, 12, 8]))  # as a part of another module, too
    fresh.load_state_dict(torch.nn.Sequential(tuned).state_dict())
    assert torch.equal(fresh[0].sample(5, 3, seed=0), tuned.sample(5, 3, seed=0))
    tuned.load_state_dict(tied.state_dict())
    assert torch.equal(tuned.sample(5, 3, seed=0), tied.sample(5, 3, seed=0))
    assert len(tuned.generative) == 0


def test_what_is_refused_changes_nothing():
    """Neither lower machines, where only an upper one cannot take it, nor ties of the weights."""
    data, labels, _ = patterns(50)
    cases = [
        ([16, 12, 8], None, "fit", {"statistics": "samples"}, "machines above the first"),
        ([16, 12, rbm.Gaussian(2)], None, "fit", {"algorithm": "pt"}, "'pt' with Gaussian"),
        ([16, 12, 8], 3, "fit", {"labels": labels.float()}, "of ints"),
        ([16, 12, 8], 3, "fit", {"labels": labels, "validation": data}, "a pair"),
        ([16, 12, 8], None, "fit", {"validation": data + 2}, r"validation\[0\]"),
        ([16, 12, 8], None, "fit", {"sparsity": 3}, "sparsity"),
        ([16, rbm.Spin(12), 8], None, "up_down", {}, "got layers of Spin units"),
        ([16, 12, 8], None, "up_down", {"epochs": 0}, "epochs"),
        ([16, 12, 8], None, "up_down", {"learning_rate": -1.0}, "learning_rate"),
        ([16, 12, 8], None, "up_down", {"seed": "0"}, "seed"),
        ([16, 12, 8], 3, "up_down", {"labels": labels + 1}, r"values in \[1, 3\]"),
    ]
    for layers, classes, method, options, text in cases:
        dbn = rbm.DBN(layers, classes=classes)
        before = {name: value.clone() for name, value in dbn.state_dict().items()}
        with pytest.raises((TypeError, ValueError), match=text):
            getattr(dbn, method)(data, **options)
        assert before.keys() == dbn.state_dict().keys(), text
        assert all(torch.equal(before[n], value) for n, value in dbn.state_dict().items()), text


def test_held_out_rows_go_up_with_the_data():
    data, labels, _ = patterns(200)
    monitors = ["free_energy_gap"]
    for classes, held_out in ((None, data[150:]), (3, (data[150:], labels[150:]))):
        dbn = rbm.DBN([16, 12, 8], classes=classes)
        own = None if classes is None else labels[:150]
        histories = dbn.fit(data[:150], own, epochs=1, validation=held_out, monitors=monitors)
        assert all(abs(history["free_energy_gap"][0]) < 5 for history in histories)


def test_up_down_reports_divergence():
    data, _, _ = patterns(50)
    with pytest.raises(FloatingPointError, match="up_down"):
        rbm.DBN([16, 12, 8]).up_down(data, learning_rate=1e38, epochs=2)


def test_each_sample_may_have_a_label_of_its_own(trained):
    """Clamped on the whole way: a batch of labels is the samples of each label by itself."""
    labels = torch.tensor([2, 0, 1, 2])
    mixed = trained.sample(4, 20, label=labels, seed=0)
    for label in range(3):
        alone = trained.sample(4, 20, label=label, seed=0)
        assert torch.equal(mixed[labels == label], alone[labels == label])
    with pytest.raises(ValueError, match=r"\(4,\) numbers"):
        trained.sample(4, 20, label=labels[:3])
    with pytest.raises(ValueError, match="steps"):
        trained.sample(4, 0)


def test_clamped_samples_follow_the_conditional_law():
    """At the top, against enumeration: p(features | label), which no label leaves."""
    dbn = rbm.DBN([5, 3, 4], classes=3)
    dbn.machines[1] = machine((rbm.Labelled(6, classes=3), rbm.Bernoulli(4)), scale=1.0)
    dbn.machines[0] = machine((rbm.Bernoulli(5), rbm.Bernoulli(3)), scale=1.0)
    dbn = dbn.double()
    states = dbn.top.visible.states()
    law = visible_law(dbn.top)[states[:, 4] == 1]
    law = law / law.sum()
    features = states[states[:, 4] == 1][:, :3]
    want = law @ torch.sigmoid(dbn.down_field(0, features))
    samples = dbn.sample(20_000, 30, label=1, seed=0)
    error = (samples.mean(0) - want).abs() / (samples.std(0) / 20_000**0.5)
    assert error.max() < 4.5


def test_a_net_of_one_machine_gives_means_too():
    samples = rbm.DBN([6, 4]).sample(3, 5, seed=0)
    assert ((samples > 0.4) & (samples < 0.6)).all()


def test_linear_codes_and_gaussian_data():
    data = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    dbn = rbm.DBN([rbm.Gaussian(10), 8, rbm.Gaussian(2)])
    dbn.fit(data, epochs=3)
    encoder, decoder = dbn.autoencoder()
    torch.testing.assert_close(encoder(data), dbn.transform(data))
    assert decoder(encoder(data)).shape == data.shape


def test_errors():
    data, labels, _ = patterns(20)
    with pytest.raises(ValueError, match="layers"):
        rbm.DBN([16])
    with pytest.raises(ValueError, match="labels"):
        rbm.DBN([16, 12, 8], classes=3).fit(data)
    with pytest.raises(ValueError, match=r"numbers in \[0, 2\)"):
        rbm.DBN([16, 12, 8], classes=2).fit(data, labels)
    with pytest.raises(ValueError, match="classes="):
        rbm.DBN([16, 12, 8]).fit(data, labels)
    with pytest.raises(TypeError, match="classes="):
        rbm.DBN([16, 12, 8]).predict(data)
    with pytest.raises(ValueError, match="label"):
        rbm.DBN([16, 12, 8]).sample(2, label=1)
    with pytest.raises(TypeError, match="Bernoulli units in every layer"):
        rbm.DBN([16, rbm.Spin(12), 8]).up_down(data)
    with pytest.raises(TypeError, match="none"):
        rbm.DBN([16, 12, 8], classes=3).autoencoder()
