# SPDX-License-Identifier: Apache-2.0
"""The face of scikit-learn's estimators: an RBM as a step of a Pipeline."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from torch_init.errors import check_choice, describe
from torch_init.rbm.data import Rows
from torch_init.rbm.likelihood import pseudo_likelihood
from torch_init.rbm.machine import RBM
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Spin, Units

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    fix = "Install it: pip install 'torch-init[rbm]'"
    expected = "the package scikit-learn, 1.6 or newer"
    raise ImportError(
        describe("rbm", "RBMTransformer", "no scikit-learn", expected, fix)
    ) from error

_VISIBLE: dict[str, Callable[[int], Units]] = {
    "bernoulli": Bernoulli,
    "spin": Spin,
    "gaussian": Gaussian,
}
_HIDDEN: dict[str, Callable[[int], Units]] = {"bernoulli": Bernoulli, "spin": Spin, "nrelu": NReLU}


_TRAINING = (
    "batch_size",
    "algorithm",
    "k",
    "learning_rate",
    "momentum",
    "weight_decay",
    "schedule",
)


def _has_pseudo_likelihood(estimator: "RBMTransformer") -> bool:
    return estimator.visible != "gaussian"


class RBMTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A restricted Boltzmann machine with scikit-learn's interface; arrays in, arrays out.

    For Pipeline, GridSearchCV, set_output and the rest; it can be cloned and pickled.

    Args:
        n_components: hidden units.
        visible: "bernoulli" (data in [0, 1]), "spin" ([-1, 1]) or "gaussian"; hidden: "bernoulli",
            "spin" or "nrelu".
        learning_rate, batch_size, n_iter: of training; n_iter counts epochs.
        algorithm, k, momentum, weight_decay, schedule: see torch_init.rbm.fit.
        verbose: show a progress bar.
        random_state: an int, the seed; a numpy RandomState that a seed is drawn from; None: from
            NumPy's own.

    Attributes:
        machine_: the trained RBM.
        history_: what fit recorded.
        n_features_in_, feature_names_in_: how many features X had, and their names if it had any.

    Example:
        >>> import numpy as np
        >>> features = torch_init.rbm.RBMTransformer(3, n_iter=2).fit_transform(np.eye(6))
        >>> features.shape
        (6, 3)
    """

    def __init__(
        self,
        n_components: int = 256,
        *,
        visible: str = "bernoulli",
        hidden: str = "bernoulli",
        learning_rate: float | None = None,
        batch_size: int = 100,
        n_iter: int = 10,
        algorithm: str = "cd",
        k: int = 1,
        momentum: Any = None,
        weight_decay: float = 2e-4,
        schedule: str = "constant",
        verbose: bool = False,
        random_state: Any = 0,
    ) -> None:
        self.n_components = n_components
        self.visible, self.hidden = visible, hidden
        self.learning_rate, self.batch_size, self.n_iter = learning_rate, batch_size, n_iter
        self.algorithm, self.k, self.momentum = algorithm, k, momentum
        self.weight_decay, self.schedule = weight_decay, schedule
        self.verbose, self.random_state = verbose, random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> "RBMTransformer":
        """Train a new machine on X, (samples, features)."""
        check_choice("RBMTransformer", "visible", self.visible, tuple(_VISIBLE))
        check_choice("RBMTransformer", "hidden", self.hidden, tuple(_HIDDEN))
        X = validate_data(self, X)
        visible = _VISIBLE[self.visible](X.shape[1])
        hidden = _HIDDEN[self.hidden](_plain(self.n_components))
        machine = RBM(visible, hidden, seed=self._seed())
        options = {name: _plain(getattr(self, name)) for name in _TRAINING}
        epochs = _plain(self.n_iter)
        self.history_ = machine.fit(X, epochs=epochs, progress=bool(self.verbose), **options)
        self.machine_ = machine
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the hidden units' means, (samples, n_components), float32."""
        states = self._states("transform", X)
        with torch.no_grad():
            features: np.ndarray = self.machine_.hidden_mean(states).numpy()
        return features

    @available_if(_has_pseudo_likelihood)
    def score_samples(self, X: Any) -> np.ndarray:
        """Return the pseudo-likelihood of each sample, in nats over all features: exact.

        scikit-learn's BernoulliRBM estimates the same figure from one feature of each sample. Grey
        levels are means: see torch_init.rbm.pseudo_likelihood. Gaussian units have none.
        """
        scores = pseudo_likelihood(self.machine_, self._states("score_samples", X))
        result: np.ndarray = scores.numpy()
        return result

    @property
    def _n_features_out(self) -> int:
        """Asked by get_feature_names_out: rbmtransformer0, rbmtransformer1, ..."""
        return self.machine_.hidden.size

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _states(self, function: str, X: Any) -> torch.Tensor:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        return Rows(f"RBMTransformer.{function}", "X", X, self.machine_).whole()


def _plain(value: Any) -> Any:
    """A number of NumPy's, as grids of parameters hold them, as one of Python's."""
    return value.item() if isinstance(value, np.generic) else value
