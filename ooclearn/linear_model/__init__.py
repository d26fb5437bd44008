"""Linear models fitted by blocks, with scikit-learn's names, parameters and results."""

from ooclearn.linear_model.coordinate_descent import ElasticNet, Lasso
from ooclearn.linear_model.glm import GammaRegressor, PoissonRegressor, TweedieRegressor
from ooclearn.linear_model.least_squares import LinearRegression
from ooclearn.linear_model.logistic import LogisticRegression
from ooclearn.linear_model.ridge import Ridge
from ooclearn.linear_model.ridge_cv import RidgeCV
from ooclearn.linear_model.sgd_classifier import SGDClassifier
from ooclearn.linear_model.sgd_regressor import SGDRegressor

__all__ = [
    "ElasticNet",
    "GammaRegressor",
    "Lasso",
    "LinearRegression",
    "LogisticRegression",
    "PoissonRegressor",
    "Ridge",
    "RidgeCV",
    "SGDClassifier",
    "SGDRegressor",
    "TweedieRegressor",
]
