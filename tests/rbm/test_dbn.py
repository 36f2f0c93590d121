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
