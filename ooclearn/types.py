"""Type aliases and structural types shared by the whole library."""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeAlias

__all__ = ["Array", "Namespace"]

# The array API standard has no static type that NumPy, Dask and CuPy arrays all satisfy.
Array: TypeAlias = Any
Namespace: TypeAlias = ModuleType | Any
