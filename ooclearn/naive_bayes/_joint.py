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
        X : container of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`
            One column for each of ``classes_``.
        """
        return self._mapped("predict_joint_log_proba", X)
