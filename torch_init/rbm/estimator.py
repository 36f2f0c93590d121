# SPDX-License-Identifier: Apache-2.0
"""The face of scikit-learn's estimators: an RBM as a step of a Pipeline."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from torch_init.errors import check_choice, describe
from torch_init.rbm.data import Rows, as_source
from torch_init.rbm.history import History
from torch_init.rbm.likelihood import pseudo_likelihood
from torch_init.rbm.machine import RBM
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Spin, Units

_UNITS: dict[str, Callable[[int], Units]] = {
    "bernoulli": Bernoulli,
    "spin": Spin,
    "gaussian": Gaussian,
}
_HIDDEN: dict[str, Callable[[int], Units]] = {"bernoulli": Bernoulli, "spin": Spin, "nrelu": NReLU}


class RBMTransformer:
    """A restricted Boltzmann machine with scikit-learn's interface; arrays in, arrays out.

    It needs no scikit-learn, and works in its Pipeline, clone and GridSearchCV. It can be pickled.

    Args:
        n_components: hidden units.
        visible: "bernoulli" (data in [0, 1]), "spin" or "gaussian"; hidden: "bernoulli", "spin" or
            "nrelu".
        learning_rate, batch_size, n_iter: of training; n_iter counts epochs.
        algorithm, k, momentum, weight_decay, schedule: see torch_init.rbm.fit.
        verbose: show a progress bar.
        random_state: an int, the seed.

    Attributes:
        machine_: the trained RBM. n_features_in_: its visible units. history_: of fit.

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
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.visible, self.hidden = visible, hidden
        self.learning_rate, self.batch_size, self.n_iter = learning_rate, batch_size, n_iter
        self.algorithm, self.k, self.momentum = algorithm, k, momentum
        self.weight_decay, self.schedule = weight_decay, schedule
        self.verbose, self.random_state = verbose, random_state
        self.machine_: RBM | None = None
        self.history_: History | None = None

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"RBMTransformer({arguments})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return self.machine_ is not None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> "RBMTransformer":
        """Set arguments of the constructor."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                expected = "one of " + ", ".join(known)
                raise ValueError(describe("RBMTransformer", "params", repr(name), expected))
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any = None) -> "RBMTransformer":
        """Train a new machine on X, (samples, features)."""
        check_choice("RBMTransformer", "visible", self.visible, tuple(_UNITS))
        check_choice("RBMTransformer", "hidden", self.hidden, tuple(_HIDDEN))
        X = np.asarray(X) if not isinstance(X, torch.Tensor) else X
        if X.ndim != 2:
            got = f"shape {tuple(X.shape)}"
            raise ValueError(describe("RBMTransformer.fit", "X", got, "(samples, features)"))
        machine = RBM(
            _UNITS[self.visible](X.shape[1]),
            _HIDDEN[self.hidden](self.n_components),
            seed=self.random_state,
        )
        self.history_ = machine.fit(
            X,
            epochs=self.n_iter,
            batch_size=self.batch_size,
            algorithm=self.algorithm,
            k=self.k,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            progress=self.verbose,
        )
        self.machine_, self.n_features_in_ = machine, X.shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the hidden units' means, (samples, n_components), float32."""
        machine = self._fitted("transform")
        with torch.no_grad():
            features: np.ndarray = machine.hidden_mean(self._states("transform", X)).numpy()
        return features

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Train on X and return its features."""
        return self.fit(X).transform(X)

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the pseudo-likelihood of each sample, in nats over all features: exact.

        scikit-learn's BernoulliRBM estimates the same figure from one feature of each sample.
        """
        machine = self._fitted("score_samples")
        with torch.no_grad():
            scores = pseudo_likelihood(machine, self._states("score_samples", X))
        result: np.ndarray = scores.numpy()
        return result

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return rbm0, rbm1, ..."""
        return np.asarray([f"rbm{i}" for i in range(self.n_components)], dtype=object)

    def _fitted(self, function: str) -> RBM:
        if self.machine_ is None:
            text = describe(f"RBMTransformer.{function}", "self", "no machine", "a fitted one")
            raise AttributeError(text)
        return self.machine_

    def _states(self, function: str, X: Any) -> torch.Tensor:
        machine = self._fitted(function)
        X = X if isinstance(X, torch.Tensor) else np.asarray(X)
        source = as_source(f"RBMTransformer.{function}", X, machine)
        assert isinstance(source, Rows)
        states = source.pick(torch.arange(source.count))
        machine.check_states(f"RBMTransformer.{function}", "X", states)
        return states
