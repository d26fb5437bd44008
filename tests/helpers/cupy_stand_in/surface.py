"""Say what a CuPy that is installed has of the names in surface.txt: ``python surface.py > new.txt``."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path

NAMES = Path(__file__).with_name("surface.txt")


def signature(found: object) -> str:
    """Return a signature as Python writes it, without types; "" where there is none."""
    of_device = "cuda" in getattr(found, "__module__", "cuda")
    if isinstance(found, (int, property)) or (inspect.isclass(found) and not of_device):
        return ""
    try:
        text = str(inspect.signature(found))  # type: ignore[arg-type]  # of any kind
    except (TypeError, ValueError):  # in the words of Cython, a type before the name
        line = (getattr(found, "__doc__", None) or "").strip().split("\n")[0]
        text = line[line.index("(") :] if line.partition("(")[0].endswith(getattr(found, "__name__", "?")) else ""
    text = re.sub(r"<class '(?:numpy\.)?(\w+)'>", r"\1", text.split(" -> ")[0])
    text = re.sub(r"(\w+): '[^']*'", r"\1", text).replace(" = ", "=")
    kinds = "_ndarray_base|MemoryPointer|BaseMemory|Py_ssize_t|ptrdiff_t|size_t|intptr_t|tuple|int|bool"
    return re.sub(rf"\b(?:{kinds}) (?=\w)", "", text)


def found(path: str) -> object:
    """Return what has a name with dots; raises where there is none."""
    home = importlib.import_module(path.partition(".")[0])
    for name in path.split(".")[1:]:
        if not hasattr(home, name):
            importlib.import_module(f"{home.__name__}.{name}")
        home = getattr(home, name)
    return home


def lines(paths: list[str]) -> list[str]:
    """Return each name with what it takes."""
    ufunc = found("cupy.ufunc")
    return [
        f"{path} ufunc" if type(what := found(path)) is ufunc and path != "cupy.ufunc" else f"{path}{signature(what)}"
        for path in paths
    ]


def names() -> list[str]:
    """Return the names in surface.txt."""
    text = NAMES.read_text(encoding="utf-8").splitlines()
    return [re.split(r"[( ]", line)[0] for line in text if line and not line.startswith("#")]


if __name__ == "__main__":
    sys.path.pop(0)  # where the stand-in is
    version = importlib.import_module("cupy").__version__
    sys.stdout.write("\n".join([f"# CuPy {version}, as surface.py has found it", *lines(names())]) + "\n")
