"""Covariance estimators from one pass, with scikit-learn's names, parameters and results."""

from ooclearn.covariance.empirical import EmpiricalCovariance
from ooclearn.covariance.shrunk import OAS, LedoitWolf

__all__ = ["OAS", "EmpiricalCovariance", "LedoitWolf"]
