"""Of CuPy's ``linalg``."""

from numpy.linalg import LinAlgError

from cupy import _calls, _functions

for _path, _found in _calls.surface().items():
    _module, _, _name = _path.rpartition(".")
    if _module == "cupy.linalg" and _found and _name not in ("LinAlgError", "matmul"):
        globals()[_name] = _functions.function(_path)

matmul = _functions.matmul
__all__ = [_name for _name in globals() if not _name.startswith("_")]
