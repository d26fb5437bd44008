"""What all naive Bayes classifiers share."""

from __future__ import annotations

from typing import Any

from ooclearn.classifying import ByClassClassifier

__all__ = ["NaiveBayes"]


class NaiveBayes(ByClassClassifier):
    """A classifier whose scores are logarithms of joint probabilities."""

    def predict_joint_log_proba(self, X: Any) -> Any:
        """Return the logarithm of the joint probability of each row and each class, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_classes)
            Columns in the order of ``classes_``. At once or lazily, as :meth:`predict` does it.
        """
        return self._mapped("predict_joint_log_proba", X)
