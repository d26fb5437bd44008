"""Functions of the stand-in, with the signatures that surface.txt has of CuPy's."""

import numpy as np
from gpu_stand_in import gpu

from cupy import cuda
from cupy._calls import call, done, fresh, host, known_dtype, waited
from cupy._calls import signature as signature_of
from cupy._ndarray import ndarray

# What CuPy gives as a view where it can.
VIEWS = [
    "reshape",
    "ravel",
    "transpose",
    "permute_dims",
    "swapaxes",
    "moveaxis",
    "expand_dims",
    "squeeze",
    "broadcast_to",
    "broadcast_arrays",
    "flip",
    "matrix_transpose",
    "diagonal",
    "split",
    "atleast_1d",
    "atleast_2d",
]
# Where CuPy waits: a shape or the way depends on values.
WAITING = {"nonzero", "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values", "bincount"}
# These take no arrays, or dtypes beside them.
OF_THE_HOST = {"broadcast_shapes", "can_cast", "isdtype", "issubdtype", "promote_types"}
LISTS = {"concat", "concatenate", "stack", "hstack", "vstack", "column_stack"}


class ufunc:
    """An elementwise function; of all that NumPy's take, it knows `out`, `dtype` and `casting`."""

    def __init__(self, name):
        self.__name__ = self.name = f"cupy_{name}"
        self._ufunc = getattr(np, name)
        self.nin, self.nout = self._ufunc.nin, self._ufunc.nout

    def __call__(self, *args, **kwargs):
        out, dtype, casting = kwargs.pop("out", None), kwargs.pop("dtype", None), kwargs.pop("casting", "same_kind")
        if kwargs:
            raise TypeError(f"Wrong arguments {kwargs}")
        if len(args) == self.nin + 1 and self.nout == 1:
            *args, out = args
        if len(args) != self.nin:
            raise TypeError(f"Wrong number of arguments for {self.name}: {len(args)}")
        for one in args:
            if not isinstance(one, (ndarray, np.generic, bool, int, float, complex)):
                raise TypeError(f"Unsupported type {type(one)}")
        if out is not None and not isinstance(out, ndarray):
            raise TypeError(f"Output arguments type must be cupy.ndarray, got {type(out)}")
        options = {} if dtype is None else {"dtype": known_dtype(dtype)}
        return call(self._ufunc, args, {**options, "casting": casting}, out=out)


def matmul(*args, out=None, dtype=None, casting="same_kind"):
    if not all(isinstance(one, ndarray) for one in args):
        raise TypeError(f"Unsupported type {[type(one) for one in args]}")
    return call(np.matmul, args, {} if dtype is None else {"dtype": dtype}, out=out)


def function(path):
    """Return a function of CuPy, done with NumPy's of the same name."""
    signature = signature_of(path)
    name = path.rpartition(".")[2]
    numpys = getattr(np.linalg if ".linalg." in path else np, name)

    def made(*args, **kwargs):
        given, named = _told(signature, args, kwargs)
        out = named.pop("out", None)
        if out is not None and not isinstance(out, ndarray):
            raise TypeError(f"Argument 'out' has incorrect type (expected cupy.ndarray, got {type(out)})")
        if name in OF_THE_HOST:
            return numpys(*given, **named)
        arrays = []
        host([*given, *named.values()], arrays)
        first = given[0][0] if name in LISTS and given[0] else given[0]
        if not isinstance(first, ndarray):
            raise TypeError(f"Only cupy arrays are taken by {path}, got {type(first)}")
        if name in WAITING:
            waited(*arrays)
        return call(numpys, given, named, out=out, view=name in VIEWS)

    made.__name__ = made.__qualname__ = name
    made.__signature__ = signature
    return made


def _told(signature, args, kwargs):
    """Return what CuPy would take by position, and by name what is not as it would be anyway."""
    given, named = [], {}
    for key, value in signature.bind(*args, **kwargs).arguments.items():
        parameter = signature.parameters[key]
        if parameter.kind is parameter.VAR_POSITIONAL:
            given += value
        elif parameter.kind is parameter.VAR_KEYWORD:
            named |= value
        elif parameter.default is parameter.empty:
            given.append(value)
        elif not (value is parameter.default or (np.isscalar(value) and value == parameter.default)):
            named[key] = known_dtype(value) if key == "dtype" else value
    return given, named


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    if subok:
        raise NotImplementedError
    if isinstance(obj, ndarray):
        wanted = obj.dtype if dtype is None else known_dtype(dtype)
        return obj if copy is not True and wanted == obj.dtype else obj.astype(wanted)
    arrays = []
    if isinstance(obj, (list, tuple)) and obj:
        values = _nested(obj, arrays)
        if arrays:
            return fresh(done(lambda: np.array(values, dtype), arrays))
    if copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    values = np.array(obj, dtype=dtype, ndmin=ndmin)
    known_dtype(values.dtype)
    gpu.ledger.sent(values.nbytes)
    out = fresh(values)
    if blocking:
        cuda.get_current_stream().synchronize()
    return out


def _nested(obj, arrays):
    if isinstance(obj, ndarray):
        arrays.append(obj)
        return obj._a
    return [_nested(one, arrays) for one in obj] if isinstance(obj, (list, tuple)) else obj


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, False if copy is False else (True if copy else None), blocking=blocking)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    if isinstance(a, ndarray):
        return a.get(stream=stream, order=order, out=out, blocking=blocking)
    return np.asarray(a, order=order)


def astype(x, dtype, /, *, copy=True):
    return x.astype(dtype, copy=copy)


def arange(start, stop=None, step=1, dtype=None):
    return fresh(np.arange(start, stop, step, dtype) if stop is not None else np.arange(0, start, step, dtype))


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order=order)


def zeros(shape, dtype=float, order="C"):
    return full(shape, 0, dtype, order)


def ones(shape, dtype=float, order="C"):
    return full(shape, 1, dtype, order)


def full(shape, fill_value, dtype=None, order="C"):
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, ndarray) else np.array(fill_value).dtype
    out = ndarray(shape, dtype, order=order)
    out[...] = fill_value
    return out


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    return ndarray(prototype.shape if shape is None else shape, prototype.dtype if dtype is None else dtype)


def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    return full_like(a, 0, dtype, order, subok, shape)


def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    return full_like(a, 1, dtype, order, subok, shape)


def full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None):
    out = empty_like(a, dtype, order, subok, shape)
    out[...] = fill_value
    return out


def eye(N, M=None, k=0, dtype=float, order="C"):
    return fresh(np.eye(N, M, k, known_dtype(dtype), order))


def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    return fresh(np.linspace(start, stop, num, endpoint, retstep, dtype, axis))


def reshape(a, newshape, order="C", *, copy=None):
    return a.reshape(newshape, order=order, copy=copy)


def where(condition, x=None, y=None):
    if x is None or y is None:
        waited(condition)
        return call(np.nonzero, (condition,), {})
    for one in (condition, x, y):
        if not isinstance(one, (ndarray, np.generic, bool, int, float, complex)):
            raise TypeError(f"Unsupported type {type(one)}")
    return call(np.where, (condition, x, y), {})


def copyto(dst, src, casting="same_kind", where=None):
    arrays = []
    values, mask = host(src, arrays), host(True if where is None else where, arrays)
    done(lambda: np.copyto(dst._a, values, casting, mask), arrays, (dst,))


def copy(a, order="K"):
    return a.copy()


def clip(a, a_min, a_max, out=None):
    return call(np.clip, (a, a_min, a_max), {}, out=out)


def result_type(*arrays_and_dtypes):
    return np.result_type(*(x._a if isinstance(x, ndarray) else x for x in arrays_and_dtypes))


def ndim(a):
    return a.ndim


def shape(a):
    return a.shape


def get_default_memory_pool():
    return _pool


def get_default_pinned_memory_pool():
    return _pinned_pool


_pool = cuda.MemoryPool()
_pinned_pool = cuda.PinnedMemoryPool()
