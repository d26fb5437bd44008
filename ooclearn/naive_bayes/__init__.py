"""Naive Bayes classifiers, from one pass."""

from ooclearn.naive_bayes.categorical import CategoricalNB
from ooclearn.naive_bayes.counts import BernoulliNB, ComplementNB, MultinomialNB
from ooclearn.naive_bayes.gaussian import GaussianNB

__all__ = ["BernoulliNB", "CategoricalNB", "ComplementNB", "GaussianNB", "MultinomialNB"]
