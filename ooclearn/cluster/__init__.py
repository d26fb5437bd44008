"""Clustering, by blocks."""

from ooclearn.cluster.k_means import KMeans

__all__ = ["KMeans"]
