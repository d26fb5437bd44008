"""Matrix decompositions from one pass, with scikit-learn's names, parameters and results."""

from ooclearn.decomposition.incremental_pca import IncrementalPCA
from ooclearn.decomposition.pca import PCA
from ooclearn.decomposition.truncated_svd import TruncatedSVD

__all__ = ["PCA", "IncrementalPCA", "TruncatedSVD"]
