# SPDX-License-Identifier: Apache-2.0
"""torch's default dtype and device are about new tensors of the user's, not about a machine's."""

import pytest
import torch

import torch_init
from torch_init import rbm

ROWS = (torch.rand(20, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
LABELS = torch.arange(20) % 3


def machine(visible=6, hidden=4):
    return rbm.RBM(visible, hidden, seed=0, device="cpu", dtype=torch.float32)


def trained(made, **options):
    made.fit(ROWS, epochs=2, batch_size=7, validation=ROWS[:3], **options)
    return made


def assert_same(a, b):
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(x, y)


@pytest.fixture
def default_dtype(request):
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def no_default_device():
    """A default device whose tensors have no values: what is made on it by mistake is an error."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


ALGORITHMS = ["cd", "pcd", "fpcd", "pt"]


@pytest.fixture(scope="module")
def plain():
    """Machines that were trained with the usual defaults."""
    return {name: trained(machine(), algorithm=name) for name in ALGORITHMS}


# The step writes shifts of the biases as float32 whatever the default: into memory of float64 they
# were other numbers, into that of half precision they went beyond its end.
@pytest.mark.parametrize(
    "default_dtype", [torch.float64, torch.float16], indirect=True, ids=["float64", "float16"]
)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_default_dtype_does_not_change_what_is_trained(plain, default_dtype, algorithm):
    assert_same(trained(machine(), algorithm=algorithm), plain[algorithm])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_machine_trains_beside_another_default_device(plain, no_default_device, algorithm):
    assert_same(trained(machine(), algorithm=algorithm), plain[algorithm])


@pytest.mark.parametrize("temperatures", [1, 4])
def test_temperatures_adapt_beside_another_default_device(no_default_device, temperatures):
    how = {"temperatures": temperatures, "adapt_temperatures": True}
    made = trained(machine(), algorithm="pt", **how)
    assert rbm.mosaic(made.weight.detach(), (2, 3)).isfinite().all()


@pytest.mark.parametrize(
    ("visible", "hidden"),
    [(rbm.Gaussian(6, learn_variance=True), rbm.NReLU(4)), (6, rbm.Softmax(2, categories=2))],
    ids=["gaussian-nrelu", "bernoulli-softmax"],
)
def test_float_machines_train_beside_another_default_device(no_default_device, visible, hidden):
    made = trained(machine(visible, hidden))
    assert made.sample(3, steps=2, seed=0).isfinite().all()


def test_estimates_work_beside_another_default_device(plain, no_default_device):
    made = plain["cd"]
    rbm.ais(made, ROWS, betas=10, seed=0)
    rbm.reverse_ais(made, ROWS, ROWS, betas=10)
    rbm.log_partition(made)
    rbm.pseudo_likelihood(made, ROWS, flips=2)


def test_deep_belief_nets_work_beside_another_default_device(no_default_device):
    dbn = rbm.DBN([6, 5, 4], classes=3, seed=0, device="cpu")
    dbn.fit(ROWS, LABELS.tolist(), epochs=1, batch_size=7)
    dbn.up_down(ROWS, LABELS, epochs=1)
    dbn.sample(2, steps=2, label=[0, 1], seed=0)
    assert dbn.predict(ROWS).shape == (20,)


def test_pretraining_and_checks_work_beside_another_default_device(no_default_device):
    linear = torch.nn.Linear
    layers = [linear(6, 5, device="cpu"), torch.nn.Sigmoid(), linear(5, 2, device="cpu")]
    model = torch.nn.Sequential(*layers)
    torch_init.rbm_pretrain(model, ROWS, epochs=1)
    assert torch_init.check(model, ROWS, verbose=False).rows
    assert torch_init.expected(model).rows
