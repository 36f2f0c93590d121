# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's face and the pictures."""

import math
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import threadpoolctl
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import check_estimator

from torch_init import rbm


@pytest.fixture(autouse=True)
def one_blas_thread():
    """scikit-learn's solvers wait for threads that busy cores do not run."""
    with threadpoolctl.threadpool_limits(1):
        yield


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
    assert np.array_equal(again.score_samples(X), model.score_samples(X))
    assert np.array_equal(clone(model).fit_transform(X), features)
    assert not np.array_equal(clone(model).set_params(random_state=4).fit_transform(X), features)


OUTSIDE = "Bernoulli units take data in [0, 1], and the check's are not"
NOT_BERNOULLI = dict.fromkeys(
    [
        "check_dict_unchanged",
        "check_dont_overwrite_parameters",
        "check_estimators_dtypes",
        "check_estimators_fit_returns_self",
        "check_estimators_overwrite_params",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_fit2d_1feature",
        "check_fit2d_1sample",
        "check_fit2d_predict1d",
        "check_fit_check_is_fitted",
        "check_fit_idempotent",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_n_features_in",
        "check_n_features_in_after_fitting",
        "check_pipeline_consistency",
        "check_positive_only_tag_during_fit",
        "check_readonly_memmap_input",
        "check_transformer_data_not_an_array",
        "check_transformer_general",
        "check_transformer_preserve_dtypes",
    ],
    OUTSIDE,
)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("gaussian", {}), ("bernoulli", NOT_BERNOULLI)],
    ids=["gaussian", "bernoulli"],
)
def test_scikit_learns_own_checks(visible, expected):
    """All pass on real-valued data; units of data in [0, 1] refuse what the list says, no more."""
    made = rbm.RBMTransformer(4, n_iter=2, visible=visible)
    results = check_estimator(made, expected_failed_checks=expected, on_fail="raise", on_skip=None)
    by_status = {}
    for result in results:
        by_status.setdefault(result["status"], set()).add(result["check_name"])
    assert by_status.get("xfail", set()) == set(expected)
    assert by_status["skipped"] <= {"check_array_api_input"}  # behind a switch of SciPy's
    assert len(by_status["passed"]) > 15


def test_names_of_features():
    X = pd.DataFrame(digits()[0][:50]).add_prefix("pixel")
    model = rbm.RBMTransformer(3, n_iter=1).set_output(transform="pandas")
    features = model.fit_transform(X)
    assert list(features.columns) == [f"rbmtransformer{i}" for i in range(3)]
    assert list(model.feature_names_in_) == list(X.columns) and model.n_features_in_ == 64
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(X.add_prefix("other"))


def test_nothing_is_learned_before_fit():
    model = rbm.RBMTransformer()
    assert not [name for name in vars(model) if name.endswith("_")]
    with pytest.raises(NotFittedError):
        model.transform(np.eye(3))


def test_random_states():
    """None draws from NumPy's generator, a RandomState from itself, ints of NumPy are seeds too."""
    X = digits()[0][:50]

    def features(random_state):
        return rbm.RBMTransformer(3, n_iter=1, random_state=random_state).fit_transform(X)

    assert np.array_equal(features(np.int64(5)), features(5))
    assert np.array_equal(features(np.random.RandomState(5)), features(np.random.RandomState(5)))
    assert not np.array_equal(features(None), features(None))


def test_parameters_from_grids_of_numpy():
    X = digits()[0][:50]
    model = rbm.RBMTransformer(np.int64(3), n_iter=np.int64(1), batch_size=np.int64(20))
    assert model.set_params(learning_rate=np.float32(0.1)).fit_transform(X).shape == (50, 3)


def test_scores_of_grey_data():
    """A density model knows its own data, though no pixel of theirs need be a state."""
    X = digits()[0]
    model = rbm.RBMTransformer(32, n_iter=10).fit(X)
    rng = np.random.default_rng(0)
    assert model.score_samples(X).mean() > model.score_samples(rng.permuted(X, axis=1)).mean() + 20
    assert not hasattr(rbm.RBMTransformer(visible="gaussian"), "score_samples")


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
    with pytest.raises(ValueError, match="'n_hidden'"):
        rbm.RBMTransformer().set_params(n_hidden=3)
    with pytest.raises(ValueError, match="visible"):
        rbm.RBMTransformer(visible="poisson").fit(np.eye(3))
    with pytest.raises(ValueError, match="Expected 2D array"):
        rbm.RBMTransformer().fit(np.zeros(3))


def test_the_estimator_names_the_extra_that_it_needs(monkeypatch):
    """And nothing else of torch_init.rbm needs scikit-learn."""
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "torch_init.rbm.estimator", raising=False)
    with pytest.raises(ImportError, match=r"no scikit-learn.*torch-init\[rbm\]"):
        rbm.RBMTransformer(3)
    with pytest.raises(AttributeError, match="Transformer"):
        _ = rbm.Transformer


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
