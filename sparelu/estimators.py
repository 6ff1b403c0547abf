"""Scikit-learn estimators: any Fitter behind ``fit`` and ``predict``."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from sparelu.catalogue import choose, fitter
from sparelu.data import Budget, Data, probabilities
from sparelu.datasets.frames import SparseRows, frame_of, inputs_of, learn_frame
from sparelu.datasets.pieces import cut
from sparelu.datasets.rows import settled
from sparelu.outcome import Status
from sparelu.run import fit

DENSITY = 0.1
"""The share of the weights that is kept where none of the four budgets is given."""


READ: dict[str, Any] = {"dtype": [np.float64, np.float32], "order": "C", "accept_sparse": "csr"}
"""What rows are taken as."""


class _SparseReLU(BaseEstimator):
    """What both estimators share: the parameters, the budget, the fit and what is known after it."""

    def __init__(  # scikit-learn wants any value taken as it is: fit checks them
        self,
        method: Any = "auto",
        hidden: Any = (100,),
        nonzeros: Any = None,
        density: Any = None,
        sparsity: Any = None,
        compression: Any = None,
        settings: Any = None,
        standardise: Any = True,
        random_state: Any = None,
        channels: Any = (),
        image: Any = None,
    ) -> None:
        self.method = method
        self.hidden = hidden
        self.nonzeros = nonzeros
        self.density = density
        self.sparsity = sparsity
        self.compression = compression
        self.settings = settings
        self.standardise = standardise
        self.random_state = random_state
        self.channels = channels
        self.image = image

    def _budget(self, data: Data) -> Budget:
        hidden = tuple(np.atleast_1d(self.hidden).tolist())
        four = {name: getattr(self, name) for name in ("nonzeros", "density", "sparsity", "compression")}
        channels = tuple(np.atleast_1d(self.channels).tolist())
        plain = {name: v.item() if isinstance(v, np.generic) else v for name, v in four.items()}
        given = Budget(hidden, channels=channels, **plain)
        if given.count(data.inputs, data.outputs, data.image) is not None:
            return given
        total = given.weights(data.inputs, data.outputs, data.image)
        floor = min(total, data.inputs + data.outputs)
        return replace(given, nonzeros=max(floor, round(DENSITY * total)))

    def _image(self) -> tuple[int, ...] | None:
        return None if self.image is None else tuple(int(n) for n in self.image)

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _input_names(self) -> tuple[str, ...]:
        return tuple(getattr(self, "feature_names_in_", ())) if self.columns_ is None else self.columns_.inputs

    def _learn(self, data: Data) -> None:
        budget = self._budget(data)
        name = choose(data, budget)[0] if self.method == "auto" else self.method
        method = fitter(name, **(self.settings or {}))
        solution = fit(method, data, budget, seed=self._seed(), standardise=self.standardise)
        if solution.status is Status.diverged:
            raise FloatingPointError(f"{name}: {solution.status.value}")
        self.solution_ = solution
        self.network_ = solution.network
        self.nnz_ = solution.network.nonzeros
        used = np.isin(np.arange(data.inputs), solution.network.used_inputs.cpu().numpy())
        self.support_ = used if self.columns_ is None else self.columns_.used(used, list(self.feature_names_in_))
        self.loss_curve_ = [row["loss"] for row in solution.history]
        self.n_iter_ = len(solution.history)

    def _scores(self, X: Any) -> np.ndarray:
        """Return network outputs (n, k) for raw rows."""
        check_is_fitted(self)
        if self.columns_ is None:
            rows = validate_data(self, X, reset=False, **READ)
            outputs = [self.network_(part) for part in cut(SparseRows(rows) if issparse(rows) else rows)]
        else:
            outputs = [self.network_(inputs_of(X, self.columns_))]
        scores: np.ndarray = torch.cat(outputs).numpy()
        return scores

    def _read(self, X: Any, y: Any, **rules: Any) -> tuple[Any, Any]:
        """Return rows (n, d) and targets, checked; of a frame that holds more than numbers, what is made of it."""
        table = frame_of(X)
        self.columns_ = None if table is None else learn_frame(table)
        if table is None or self.columns_ is None:
            x, t = validate_data(self, X, y, ensure_min_samples=2, **READ, **rules)
            return (settled(SparseRows(x)) if issparse(x) else x), t
        x, t = validate_data(self, inputs_of(X, self.columns_), y, ensure_min_samples=2, **READ, **rules)
        self.feature_names_in_ = np.asarray(table.column_names, dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        return x, t

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


PARAMETERS = """
    Parameters
    ----------
    method : str, default="auto"
        Name of a Fitter (``sparelu methods`` lists them); "auto" lets :func:`sparelu.choose` decide.
    hidden : int or tuple of int, default=(100,)
        Widths of the hidden layers.
    nonzeros, density, sparsity, compression : number, default=None
        The budget: give at most one. ``nonzeros`` counts the weights that are kept, ``density`` is their share,
        ``sparsity`` the share of zeros, ``compression`` the ratio of all to kept. With none of them the budget is a
        tenth of the weights, and never fewer than inputs + outputs as long as there are so many weights.
    settings : dict, default=None
        Hyperparameters of the method, by name.
    standardise : bool, default=True
        Train on inputs (and regression targets) of mean 0 and variance 1. The change of scale is folded into the
        weights afterwards: ``network_`` takes raw inputs. Networks with ``channels`` take images as they are.
    random_state : int, RandomState or None, default=None
        The seed; an integer is handed on as it is.
    channels : tuple of int, default=()
        For images: 3 x 3 convolutions of stride 2 with so many channels each, before the hidden layers. Methods of
        sparse training fit them, such as "rigl" and "chase".
    image : tuple of int, default=None
        The (height, width) or (height, width, colours) of the images whose numbers are the rows, pixel by pixel.

    Attributes
    ----------
    solution_ : Solution
        All that :func:`sparelu.fit` returned.
    network_ : Network
        The sparse network, on raw inputs.
    nnz_ : int
        Its nonzeros, counted as :attr:`sparelu.Network.nonzeros` says.
    support_ : ndarray of shape (n_features_in_,)
        Mask of the columns of X that reach an output.
    columns_ : Columns or None
        How the inputs of the network are made of a frame with text, dates or missing values; their names are
        ``solution_.names``.
    n_features_in_, feature_names_in_
        Number of inputs, and their names where the data had them.
    n_iter_, loss_curve_ : int, list of float
        Rounds of the method, and the training loss of each.
"""


class SparseReLURegressor(MultiOutputMixin, RegressorMixin, _SparseReLU):
    __doc__ = f"""Sparse ReLU network for one or several numeric targets.
{PARAMETERS}
    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparelu.estimators import SparseReLURegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = SparseReLURegressor(nonzeros=20, random_state=0).fit(X, y)
    """

    def fit(self, X: Any, y: Any) -> "SparseReLURegressor":
        """Fit rows ``X`` (n, d) and targets ``y`` (n,) or (n, k).

        Raises ``ValueError`` for unusable data, a budget that does not fit, or what the method refuses;
        ``FloatingPointError`` when the method diverged.
        """
        x, t = self._read(X, y, multi_output=True, y_numeric=True)
        self._learn(Data(x, t, names=self._input_names(), image=self._image(), columns=self.columns_))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return predictions for rows ``X`` (n, d): shape (n,) for one target, (n, k) for several."""
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores


class SparseReLUClassifier(ClassifierMixin, _SparseReLU):
    __doc__ = f"""Sparse ReLU network for two or more classes; labels of any kind.
{PARAMETERS}
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sparelu.estimators import SparseReLUClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = SparseReLUClassifier(nonzeros=300, random_state=0).fit(X, y)
    """

    def fit(self, X: Any, y: Any) -> "SparseReLUClassifier":
        """Fit rows ``X`` (n, d) and labels ``y`` (n,).

        Raises ``ValueError`` for unusable data, a budget that does not fit, or what the method refuses;
        ``FloatingPointError`` when the method diverged.
        """
        x, t = self._read(X, y)
        check_classification_targets(t)
        self.classes_, codes = np.unique(column_or_1d(t, warn=True), return_inverse=True)
        names, classes = self._input_names(), tuple(self.classes_.tolist())
        image = self._image()
        self._learn(Data(x, codes, "classification", names, classes, image=image, columns=self.columns_))
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return network outputs for rows ``X`` (n, d): one score for each class (n, k), or (n,) for two classes.

        Of two classes a positive score means the second.
        """
        scores = self._scores(X)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities (n, k) of the classes: softmax of the scores, or their logistic function for two
        classes.
        """
        return probabilities(self._scores(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each row of ``X`` (n, d)."""
        scores = self.decision_function(X)
        index = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        labels: np.ndarray = self.classes_[index]
        return labels
