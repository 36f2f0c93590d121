# SPDX-License-Identifier: Apache-2.0
"""Machines whose parameters hold NaN or infinities: refused by name, and left as they are."""

import pytest
import torch

from torch_init import rbm

ROWS = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
UNITS = {"bernoulli": (3, 2), "gaussian": (rbm.Gaussian(3), 2)}
CALLS = {
    "fit": lambda made: made.fit(ROWS, epochs=1, progress=False),
    "sample": lambda made: made.sample(2, steps=1, seed=0),
    "gibbs": lambda made: made.gibbs(ROWS, seed=0),
    "ais": lambda made: rbm.ais(made, None, betas=3),
    "reverse_ais": lambda made: rbm.reverse_ais(made, ROWS, None, betas=3),
    "log_partition": rbm.log_partition,
    "log_likelihood": lambda made: rbm.log_likelihood(made, ROWS, 0.0),
    "pseudo_likelihood": lambda made: rbm.pseudo_likelihood(made, ROWS),
}


@pytest.mark.parametrize("parameter", ["weight", "visible_bias", "hidden_bias"])
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("call", CALLS)
def test_parameters_that_are_not_finite_are_refused_by_name(call, units, value, parameter):
    if (call, units) == ("pseudo_likelihood", "gaussian"):
        pytest.skip("Gaussian units have no pseudo-likelihood")
    made = rbm.RBM(*UNITS[units], seed=0)
    CALLS[call](made)
    with torch.no_grad():
        made.get_parameter(parameter).view(-1)[1] = value
    before = {name: kept.clone() for name, kept in made.state_dict().items()}
    with pytest.raises(ValueError, match=rf"{call}: \w+\.{parameter}: .*not finite"):
        CALLS[call](made)
    for name, kept in made.state_dict().items():
        torch.testing.assert_close(kept, before[name], rtol=0, atol=0, equal_nan=True)


def test_fit_takes_a_checkpoint_over_parameters_that_are_not_finite(tmp_path):
    whole = rbm.RBM(3, 2, seed=0)
    whole.fit(ROWS, epochs=1, checkpoint=tmp_path)
    made = rbm.RBM(3, 2, seed=0)
    with torch.no_grad():
        made.weight.fill_(torch.nan)
    made.fit(ROWS, epochs=1, checkpoint=tmp_path, resume=True)
    assert torch.equal(made.weight, whole.weight)
