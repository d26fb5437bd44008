"""Linear and quadratic discriminant analysis, from one pass."""

from ooclearn.discriminant_analysis.linear import LinearDiscriminantAnalysis
from ooclearn.discriminant_analysis.quadratic import QuadraticDiscriminantAnalysis

__all__ = ["LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis"]
