"""Shelves: arrays on a shelf."""

from ooclearn_shelf.array import Shelf

__all__ = ["Shelf"]
