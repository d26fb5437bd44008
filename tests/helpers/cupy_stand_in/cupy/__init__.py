"""A stand-in for CuPy, of NumPy's arrays: what it refuses is what CuPy refuses; see gpu_stand_in.py."""

import numpy as np
from numpy import (
    bool_,
    complex64,
    complex128,
    complexfloating,
    dtype,
    e,
    finfo,
    float16,
    float32,
    float64,
    floating,
    iinfo,
    inexact,
    inf,
    int8,
    int16,
    int32,
    int64,
    int_,
    integer,
    intp,
    nan,
    newaxis,
    number,
    pi,
    signedinteger,
    uint8,
    uint16,
    uint32,
    uint64,
    unsignedinteger,
)

from cupy import _calls, cuda, fft, linalg, random
from cupy import _functions as _functions
from cupy._functions import ufunc
from cupy._ndarray import ndarray

bool = bool_
__version__ = "14.2.0"
for _path, _found in _calls.surface().items():
    _module, _, _name = _path.rpartition(".")
    if _module == "cupy" and _name not in globals():
        if _name in vars(_functions):
            globals()[_name] = vars(_functions)[_name]
        elif _found == " ufunc":
            if isinstance(getattr(np, _name, None), np.ufunc):
                globals()[_name] = ufunc(_name)
        elif _found:
            globals()[_name] = _functions.function(_path)

del np
