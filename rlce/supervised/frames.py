"""Data frames: what estimators make of typed columns, and the same as a scikit-learn transformer.

pandas is an optional dependency, so it is imported only where it is used.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from rlce.supervised.columns import Columns
from rlce.supervised.splits import NUMBERS, kind_of

if TYPE_CHECKING:
    import pandas as pd


def is_frame(X: Any) -> bool:
    """True for a DataFrame of pandas or polars."""
    return hasattr(X, "columns") and hasattr(X, "dtypes") and getattr(X, "ndim", 2) == 2


def as_pandas(X: Any, name: str = "X") -> pd.DataFrame:
    """A DataFrame of pandas; one of pandas as it is.

    Raises:
        TypeError: ``X`` is no DataFrame.

    Example:
        >>> as_pandas([[1.0]])
        Traceback (most recent call last):
        TypeError: X must be a DataFrame, because the columns were learnt from one, got list
    """
    import pandas as pd

    if isinstance(X, pd.DataFrame):
        return X
    if not is_frame(X):
        raise TypeError(f"{name} must be a DataFrame, because the columns were learnt from one, got {type(X).__name__}")
    return pd.DataFrame({column: X[column].to_numpy() for column in X.columns})


def has_types(X: Any) -> bool:
    """True for a DataFrame that is more than a matrix: with text, dates, categories, or gaps.

    Example:
        >>> import pandas as pd
        >>> has_types(pd.DataFrame({"a": [1.0, 2.0]})), has_types(pd.DataFrame({"a": [1.0, None]}))
        (False, True)
    """
    if not is_frame(X):
        return False
    frame = as_pandas(X)
    numeric = all(_is_numeric(frame.iloc[:, column]) for column in range(frame.shape[1]))
    return not numeric or bool(frame.isna().any(axis=None))


def learn_columns(frame: pd.DataFrame) -> Columns:
    """The columns that estimators learn from a frame.

    Numbers are never taken for identifiers, as in an array; text that differs in nearly every row is left out.
    """
    numeric = [_is_numeric(frame.iloc[:, position]) for position in range(frame.shape[1])]
    return Columns.learn(frame, keep=[name for name, kept in zip(frame.columns, numeric, strict=True) if kept])


def _is_numeric(series: pd.Series) -> bool:
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "biuf":
        return True
    return kind_of(series) in NUMBERS


class TableEncoder(TransformerMixin, BaseEstimator):
    """Turn a DataFrame with numbers, text, categories, dates and gaps into rows of floats.

    `rlce.Classifier` and `rlce.Regressor` do this inside when they are given such a frame; use this class in front of
    another estimator. What becomes of each kind of column is described at `Columns`. Rows are not scaled.

    Args:
        max_categories: the largest number of categories of a text column with an output; the most frequent win.
        leave_out: names of columns that are not inputs.
        keep: names of columns that are no identifiers, whatever they look like.

    Attributes:
        columns_: what was learnt, a `Columns`.
        n_features_in_: the number of columns of the frame.
        feature_names_in_: their names.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"age": [30.0, None, 40.0], "city": ["Ulm", "Bonn", "Ulm"]})
        >>> encoder = TableEncoder().fit(frame)
        >>> encoder.get_feature_names_out().tolist()
        ['age', 'age is missing', 'city = Bonn', 'city = Ulm']
        >>> encoder.transform(frame)[1].tolist()
        [0.0, 1.0, 1.0, 0.0]
    """

    columns_: Columns

    def __init__(
        self, *, max_categories: int = 100, leave_out: Collection[str] = (), keep: Collection[str] = ()
    ) -> None:
        self.max_categories = max_categories
        self.leave_out = leave_out
        self.keep = keep

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn medians and categories.

        Args:
            X: a DataFrame of pandas or polars, ``[N, D]``.
            y: not used.

        Returns:
            The transformer.

        Raises:
            TypeError: X is no DataFrame.
            ValueError: as `Columns.learn`.

        Warns:
            UserWarning: for each column that is left out.
        """
        frame = as_pandas(X)
        columns = Columns.learn(frame, leave_out=self.leave_out, keep=self.keep, max_categories=self.max_categories)
        validate_data(self, X, skip_check_array=True)
        self.columns_ = columns
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Turn a frame into rows of floats, ``[N, D]`` → ``[N, outputs]`` float32.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            TypeError: X is no DataFrame.
            ValueError: as `Columns.matrix`.
        """
        check_is_fitted(self)
        frame = as_pandas(X)
        validate_data(self, X, reset=False, skip_check_array=True)
        return self.columns_.matrix(frame)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the outputs, ``[outputs]``; ``input_features`` is not used."""
        check_is_fitted(self)
        return np.array(self.columns_.outputs, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = tags.input_tags.categorical = tags.input_tags.allow_nan = True
        tags.no_validation = True  # scikit-learn's checks pass arrays
        return tags
