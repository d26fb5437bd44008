"""The labels of a classification: which can occur, which have, and which must not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ooclearn.exceptions import DataError, DataWarning, warn
from ooclearn.statistics import DistinctState
from ooclearn.types import Array

__all__ = ["Labels", "balanced_weights", "classes_from"]

# So many classes are compared with one by one.
_FEW = 4


def classes_from(found: DistinctState | None, given: Any, *, several: bool) -> Any:
    """Return what to pass as ``classes``: those given, or else those that a pass has found in y.

    Parameters
    ----------
    found : DistinctState or None
        Of y.
    given : array-like, list of array-like or None
        By the user; these rule.
    several : bool
        Whether each column of y is a target of its own. If not, columns are the labels of an indicator matrix.

    Returns
    -------
    ndarray or list of ndarray
        One sorted array for a one-dimensional y; a list of arrays for several targets; the numbers of the columns for
        an indicator matrix.
    """
    if given is not None:
        many = isinstance(given, (list, tuple)) and len(given) > 0 and np.ndim(given[0]) == 1
        return [np.unique(one) for one in given] if many else np.unique(np.asarray(given))
    assert found is not None
    values = [column.values for column in found.columns]
    for column in values:
        if column.dtype.kind == "f" and not np.array_equal(column, np.trunc(column)):
            raise ValueError(
                "Unknown label type: continuous. Maybe you are trying to fit a classifier, which expects discrete "
                "classes on a regression target with continuous values."
            )
    if several:
        return values
    return values[0] if len(values) == 1 else np.arange(len(values))


def balanced_weights(found: DistinctState) -> dict[Any, float]:
    """Return the weight of each class that scikit-learn's ``class_weight="balanced"`` gives for all of y."""
    if len(found.columns) != 1:
        raise ValueError('class_weight="balanced" is for a single target; pass the weights, one dict for each')
    (column,) = found.columns
    weights = found.rows / (len(column.values) * column.counts.astype(np.float64))
    return dict(zip(column.values.tolist(), weights.tolist(), strict=True))


@dataclass
class Labels:
    """The labels that can occur, and those that have.

    Parameters
    ----------
    classes : ndarray, list of ndarray or None
        None for anything but classification.
    given : bool
        By the user, for all of y: then y may lack some.
    found : DistinctState or None
        What a pass over y has found.
    """

    classes: Any
    given: bool = False
    found: DistinctState | None = None
    _missing: list[set[Any]] = field(init=False)

    def __post_init__(self) -> None:
        each = self.classes if isinstance(self.classes, list) else [self.classes]
        self._missing = [set(classes.tolist()) for classes in each] if self.given else []

    @classmethod
    def known(cls, classes: Any, given: Any) -> Labels:
        """Return the labels of an estimator that was trained with `classes`; if `given` anew, they must be the same."""
        if given is not None and classes is not None:
            several = isinstance(classes, list)
            again = classes_from(None, given, several=several)
            if not (all(map(_equal, again, classes)) if several else _equal(again, classes)):
                raise ValueError(f"`classes={given!r}` is not the same as on the first call, which was: {classes!r}")
        return cls(classes)

    def _pairs(self, y: Array | None) -> Iterator[tuple[Array, Array]]:
        """Yield the classes of each target and its column of `y`; nothing for an indicator matrix."""
        if y is None or self.classes is None or hasattr(y, "tocsr"):
            return
        if isinstance(self.classes, list):
            yield from zip(self.classes, y.T if y.ndim == 2 else [y], strict=True)
        elif y.ndim == 1 or y.shape[1] == 1:
            yield self.classes, y.reshape(-1)

    def check(self, y: Array | None) -> None:
        """Raise if a label is not among the classes: some estimators would count it as of another, without a word."""
        for column, (classes, labels) in enumerate(self._pairs(y)):
            strange = ~_among(labels, classes)
            if not strange.any():
                continue
            row = int(np.argmax(strange))
            label = labels[row].item() if hasattr(labels[row], "item") else labels[row]
            raise DataError(
                f"label {label!r} is not among the {len(classes)} classes; classes should include all valid labels "
                "that can be in y",
                rows=(row, row + 1),
                column=column if isinstance(self.classes, list) else None,
                part="y",
            )

    def see(self, y: Array | None) -> None:
        """Take note of the labels of a block."""
        if any(self._missing):
            for missing, (_, labels) in zip(self._missing, self._pairs(y), strict=False):
                missing.difference_update(np.unique(labels).tolist())

    def warn_unseen(self) -> None:
        """Warn, once, of classes that were given and have not occurred."""
        missing = sorted({label for each in self._missing for label in each}, key=str)
        self._missing = []
        if missing:
            names = ", ".join(map(repr, missing))
            warn(
                f"classes {names} were given and do not occur in y; the model knows nothing of them",
                DataWarning,
            )

    def share(self, label: Any) -> float | None:
        """Return the share of the rows that have `label`, where it is known."""
        if self.found is None or len(self.found.columns) != 1:
            return None
        (column,) = self.found.columns
        return float(column.counts[np.searchsorted(column.values, label)]) / self.found.rows


def _among(labels: Array, classes: Array) -> Array:
    # Numbers are never text: NumPy would compare the digits.
    kinds = {"O" if values.dtype.kind == "O" else values.dtype.kind in "fiub" for values in (labels, classes)}
    if kinds == {True, False}:
        return np.zeros(len(labels), dtype=bool)
    if 0 < len(classes) <= _FEW and labels.dtype == classes.dtype and labels.dtype.kind in "fiub":
        # Some comparisons are several times as fast as sorting, or counting by position.
        return np.logical_or.reduce([labels == one for one in classes])
    return np.isin(labels, classes)


def _equal(a: Array, b: Array) -> bool:
    return isinstance(a, np.ndarray) and np.array_equal(a, b)
