# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's face and the pictures."""

import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from torch_init import rbm


def digits():
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels


def test_estimator_in_a_pipeline():
    X, y = digits()
    steps = [
        ("rbm", rbm.RBMTransformer(100, n_iter=15, batch_size=20)),
        ("classifier", LogisticRegression(max_iter=200)),
    ]
    model = Pipeline(steps).fit(X[:1000], y[:1000])
    assert model.score(X[1000:], y[1000:]) > 0.8  # other writers' digits; chance is 0.1
    choices = {"rbm__n_components": [2, 32], "rbm__n_iter": [3]}
    found = GridSearchCV(Pipeline(steps), choices, cv=2, error_score="raise")
    assert found.fit(X[:300], y[:300]).best_params_["rbm__n_components"] == 32


def test_estimator_is_cloned_pickled_and_repeats():
    X, _ = digits()
    model = rbm.RBMTransformer(10, n_iter=1, random_state=3)
    assert clone(model).get_params() == model.get_params()
    features = model.fit_transform(X)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.transform(X), features)
    assert np.array_equal(clone(model).fit_transform(X), features)
    assert not np.array_equal(clone(model).set_params(random_state=4).fit_transform(X), features)
    assert list(model.get_feature_names_out()[:2]) == ["rbm0", "rbm1"]


def test_score_is_the_pseudo_likelihood_that_scikit_learn_estimates():
    from sklearn.neural_network import BernoulliRBM

    X = (digits()[0] > 0.5).astype(np.float32)
    ours = rbm.RBMTransformer(16, n_iter=3).fit(X)
    # An int would give every call the same features.
    theirs = BernoulliRBM(16, n_iter=1, random_state=np.random.RandomState(0)).fit(X[:10])
    theirs.components_ = ours.machine_.weight.detach().numpy().astype(np.float64)
    theirs.intercept_hidden_ = ours.machine_.hidden_bias.detach().numpy().astype(np.float64)
    theirs.intercept_visible_ = ours.machine_.visible_bias.detach().numpy().astype(np.float64)
    np.testing.assert_allclose(theirs.transform(X), ours.transform(X), atol=1e-5)
    estimates = np.stack([theirs.score_samples(X) for _ in range(40)])
    error = estimates.mean() - ours.score_samples(X).mean()
    assert abs(error) < 4 * estimates.std() / math.sqrt(estimates.size)


def test_estimator_errors():
    with pytest.raises(AttributeError, match="a fitted one"):
        rbm.RBMTransformer().transform(np.eye(3))
    with pytest.raises(ValueError, match="'n_hidden'"):
        rbm.RBMTransformer().set_params(n_hidden=3)
    with pytest.raises(ValueError, match="visible"):
        rbm.RBMTransformer(visible="poisson").fit(np.eye(3))
    with pytest.raises(ValueError, match=r"\(samples, features\)"):
        rbm.RBMTransformer().fit(np.zeros(3))


def test_machines_are_pickled():
    made = rbm.RBM(rbm.Gaussian(5, learn_variance=True), rbm.NReLU(3))
    again = pickle.loads(pickle.dumps(made))
    assert torch.equal(made.weight, again.weight) and again.hidden == made.hidden


def test_mosaic_places_every_picture():
    rows = torch.arange(24.0).view(4, 6)
    picture = rbm.mosaic(rows, (2, 3), columns=2)
    assert picture.shape == (7, 9)
    want = (rows[3] - 18) / 5
    torch.testing.assert_close(picture[4:6, 5:8], want.view(2, 3))
    assert (rbm.mosaic(torch.ones(1, 4)) == 0).all()
    with pytest.raises(ValueError, match="6 pixels for 2 x 2"):
        rbm.mosaic(rows)


def test_figures_are_drawn(tmp_path):
    made = rbm.RBM(16, 9)
    history = made.fit(torch.rand(30, 16), epochs=2)
    figures = [
        rbm.receptive_fields(made),
        rbm.fantasies(made, (2, 8), steps=(1, 3)),
        rbm.learning_curves(history),
    ]
    for number, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 1000
