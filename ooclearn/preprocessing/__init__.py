"""Scaling and row-wise transformers, with scikit-learn's names, parameters and results."""

from ooclearn.preprocessing.max_abs import MaxAbsScaler
from ooclearn.preprocessing.min_max import MinMaxScaler
from ooclearn.preprocessing.rowwise import Binarizer, Normalizer
from ooclearn.preprocessing.standard import StandardScaler

__all__ = ["Binarizer", "MaxAbsScaler", "MinMaxScaler", "Normalizer", "StandardScaler"]
