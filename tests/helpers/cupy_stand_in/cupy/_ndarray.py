"""The array of the stand-in."""

import gpu_stand_in as stand_in
import numpy as np
from gpu_stand_in import gpu
from numpy.lib.array_utils import byte_bounds

from cupy import _calls, cuda
from cupy._calls import call, done, fresh, known_dtype, waited


class ndarray:
    """Values in memory of the device, which the host has to ask for."""

    __slots__ = ("__weakref__", "_a", "base", "data")
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        dtype = known_dtype(dtype)
        shape = (int(shape),) if np.ndim(shape) == 0 else tuple(map(int, shape))
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        owned = memptr is None
        if owned:
            memptr = cuda.MemoryPool().malloc(nbytes)
        if memptr.ptr % dtype.itemsize:
            gpu.hazard(f"an address that is no multiple of the {dtype.itemsize} bytes of {dtype}")
        chunk, lo, hi = memptr._span(nbytes)
        if owned:
            with stand_in.lock:
                cuda.get_current_stream()._queue.settle()  # it may have been another array's
                chunk.memory[lo:hi] = stand_in.POISON
        self.data, self.base = memptr, None
        self._a = np.ndarray(shape, dtype, buffer=chunk.memory, offset=lo, strides=strides, order=order or "C")

    def _seen(self, values):
        out = ndarray.__new__(type(self))
        out._a, out.base = values, self if self.base is None else self.base
        chunk = self.data.mem._chunk
        offset = values.ctypes.data - chunk.address if values.size else 0
        out.data = cuda.MemoryPointer(self.data.mem, offset)
        return out

    def _note(self, queue, tick, *, write):
        if self.data.device_id != queue.device:
            gpu.hazard(f"Array device must be same as the current device: {self.data.device_id}, {queue.device}")
        if self._a.size:
            chunk = self.data.mem._chunk
            lo, hi = byte_bounds(self._a)
            chunk.note(lo - chunk.address, hi - chunk.address, queue, tick, write=write)

    # What is known without asking the device.

    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    strides = property(lambda self: self._a.strides)
    flags = property(lambda self: self._a.flags)
    device = property(lambda self: self.data.device)
    T = property(lambda self: self._seen(self._a.T))
    mT = property(lambda self: self._seen(self._a.mT))
    real = property(lambda self: self._seen(self._a.real))

    @property
    def shape(self):
        return self._a.shape

    @shape.setter
    def shape(self, shape):
        self._a = self._a.reshape(shape, copy=False)

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "version": 3}

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # What the host asks for: it waits for the stream.

    def get(self, stream=None, order="C", out=None, blocking=True):
        with self.device:
            whole = self if self._a.flags.c_contiguous or not self.size else self.copy()
        if out is not None:
            if self.dtype != out.dtype:
                raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
            if self.shape != out.shape:
                raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
        target = np.empty(self.shape, self.dtype, order=order) if out is None else out
        stream = cuda.get_current_stream(self.data.device_id) if stream is None else stream
        if not blocking and self.size:
            whole.data.copy_to_host_async(target.ctypes.data, self.nbytes, stream)
            return target
        with self.device, stream:
            values = done(lambda: whole._a, (whole,))
        stream.synchronize()
        gpu.ledger.fetched(self.nbytes)
        target[...] = values
        return target

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self._a.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        if stream is not None:
            self.data.copy_from_host_async(np.ascontiguousarray(arr).ctypes.data, self.nbytes, stream)
            return
        done(lambda: self._a.__setitem__(..., arr), (), (self,))
        gpu.ledger.sent(self.nbytes)
        cuda.get_current_stream().synchronize()

    def item(self):
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def __bool__(self):
        if self.size == 0:
            return False
        if self.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
            )
        return bool(self.get())

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __complex__(self):
        return complex(self.get())

    def __repr__(self):
        return repr(self.get())

    def __str__(self):
        return str(self.get())

    def __format__(self, format_spec):
        return format(self.get(), format_spec)

    def __reduce__(self):
        from cupy import array

        return array, (self.get(),)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    # What it refuses, and what it answers to NumPy.

    def __array__(self, dtype=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        import cupy

        if "out" in kwargs:
            (kwargs["out"],) = kwargs["out"]
        if method != "__call__" or not hasattr(cupy, ufunc.__name__):
            return NotImplemented
        known = (ndarray, np.ndarray, np.generic, bool, int, float, complex)
        if not all(isinstance(x, known) for x in (*inputs, kwargs.get("out", 0))):
            return NotImplemented
        return getattr(cupy, ufunc.__name__)(*inputs, **kwargs)

    def __array_function__(self, func, types, args, kwargs):
        import cupy

        home = cupy
        for name in [*func.__module__.split(".")[1:], func.__name__]:
            home = getattr(home, name, None)
        if home is None or not all(kind in (ndarray, np.ndarray) for kind in types):
            return NotImplemented
        return home(*args, **kwargs)

    def __dlpack_device__(self):
        return (2, 0)  # kDLCUDA

    # Rows and cells.

    def __getitem__(self, slices):
        index, arrays = _index(slices)
        if not arrays:
            values = self._a[index]
            if not isinstance(values, np.ndarray):
                values = self._a[(*index, ...)]
            return self._seen(values)
        if any(x.dtype.kind == "b" for x in arrays):
            waited(*(x for x in arrays if isinstance(x, ndarray)))
        there = [x for x in arrays if isinstance(x, ndarray)]
        return fresh(done(lambda: self._a[index], [self, *there]))

    def __setitem__(self, slices, value):
        index, arrays = _index(slices)
        there = [x for x in arrays if isinstance(x, ndarray)]
        if isinstance(value, ndarray):
            if value.size > 1 and any(x.dtype.kind == "b" for x in arrays):
                waited(*there)
            values = value._a
            there.append(value)
        elif arrays:
            values = np.asarray(value)
        else:
            if isinstance(value, np.ndarray) and value.shape != ():
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            if not np.isscalar(value) and not isinstance(value, np.ndarray):
                raise TypeError(f"Unsupported type {type(value)}")
            values = value
        done(lambda: self._a.__setitem__(index, values), there, (self,))

    def fill(self, value):
        self[...] = value

    # Other arrays of the same values.

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        dtype = known_dtype(dtype)
        if not copy and dtype == self.dtype:
            return self
        if self.dtype.kind == "c" and dtype.kind not in "cb":
            raise NotImplementedError("the stand-in does not warn of imaginary parts that are lost")
        return fresh(done(lambda: self._a.astype(dtype), (self,)))

    def copy(self, order="C"):
        return fresh(done(lambda: self._a.copy(order), (self,)))

    def view(self, dtype=None, type=None):
        return self._seen(self._a.view() if dtype is None else self._a.view(known_dtype(dtype)))

    def reshape(self, *shape, order="C", copy=None):
        return call(np.ndarray.reshape, (self, *shape), {"order": order, "copy": copy}, view=True)

    def transpose(self, *axes):
        return self._seen(self._a.transpose(*axes))

    def flatten(self, order="C"):
        return fresh(done(lambda: self._a.flatten(order), (self,)))

    def dot(self, b, out=None):
        if not isinstance(b, ndarray):
            raise TypeError(f"Argument 'b' has incorrect type (expected cupy._core.core._ndarray_base, got {type(b)})")
        return call(np.dot, (self, b), {}, out=out)


ndarray.__module__ = "cupy"


def _index(slices):
    """Return an index for NumPy, and the arrays in it, of either library."""
    parts = slices if isinstance(slices, tuple) else (slices,)
    index, arrays = [], []
    for one in parts:
        if isinstance(one, ndarray):
            if one.dtype.kind not in "biu":
                raise IndexError(
                    f"arrays used as indices must be of integer or boolean type. (actual: {one.dtype.type})"
                )
            arrays.append(one)
            index.append(one._a)
        elif isinstance(one, (list, tuple, np.ndarray)):
            values = np.asarray(one)
            values = values.astype(np.int32) if not values.size and isinstance(one, (list, tuple)) else values
            gpu.ledger.sent(values.nbytes)
            arrays.append(values)
            index.append(values)
        else:
            index.append(one)
    return tuple(index), arrays


def _method(name):
    def method(self, *args, **kwargs):
        import cupy

        bound = _calls.signature(f"cupy.ndarray.{name}").bind(self, *args, **kwargs)
        (_, first), *others = bound.arguments.items()
        return getattr(cupy, name)(first, **dict(others))

    method.__name__ = name
    return method


METHODS = """
all any argmax argmin argsort conj cumprod cumsum diagonal max mean min nonzero prod ptp ravel repeat round
searchsorted squeeze std sum swapaxes take trace var
"""
for _name in METHODS.split():
    setattr(ndarray, _name, _method(_name))


def _operator(name, ufunc, *, swapped=False):
    def binary(self, other):
        import cupy

        if getattr(other, "__array_ufunc__", ufunc) is None:
            return NotImplemented
        return getattr(cupy, ufunc)(*((other, self) if swapped else (self, other)))

    def in_place(self, other):
        import cupy

        return getattr(cupy, ufunc)(self, other, out=self)

    method = in_place if name.startswith("__i") else binary
    method.__name__ = name
    setattr(ndarray, name, method)


for _name, _ufunc in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "matmul": "matmul",
}.items():  # fmt: skip  (a table)
    _operator(f"__{_name}__", _ufunc)
    _operator(f"__r{_name}__", _ufunc, swapped=True)
    if _name != "matmul":
        _operator(f"__i{_name}__", _ufunc)
for _name, _ufunc in {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}.items():  # fmt: skip  (a table)
    _operator(f"__{_name}__", _ufunc)
for _name, _ufunc in {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}.items():

    def _unary(self, _ufunc=_ufunc):
        import cupy

        return getattr(cupy, _ufunc)(self)

    setattr(ndarray, f"__{_name}__", _unary)
