"""Where rows come from and go to: one format a file."""

from ooclearn.storage.scanning import scan

__all__ = ["scan"]
