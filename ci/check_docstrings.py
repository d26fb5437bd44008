"""Check that what users call is documented in full: every parameter with its type, every result, examples.

Looked at are the classes and functions in ``__all__`` of ooclearn and of the modules that users import from, and the
public methods and properties of these classes, with the validation of numpydoc. Left out is

- what another package defines: scikit-learn's methods, where a class only inherits them;
- what carries out a protocol: fifteen statistics would say the same of ``merge`` fifteen times. The classes of
  `PROTOCOLS` document their members, and are looked at themselves;
- a parameter of a dataclass that its section "Attributes" describes, and those of an error that its base describes.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate

import ooclearn
from ooclearn.backend import Backend
from ooclearn.blocks import Blocks
from ooclearn.device import Device
from ooclearn.events import Observer
from ooclearn.rowmaps import RowMap
from ooclearn.sources import Source
from ooclearn.statistics.protocol import Statistic, Summed

ROOT = Path(__file__).resolve().parent.parent

# What those import who write a statistic, a row map or a backend, beside the modules of `import ooclearn`.
MORE_MODULES = ("device", "events", "rowmaps", "table")

CHECKS = {
    "GL08": "no docstring",
    "SS01": "no summary",
    "SS03": "a summary without a full stop",
    "PR01": "a parameter that is not documented",
    "PR02": "a documented parameter that there is not",
    "PR03": "parameters in another order",
    "PR04": "a parameter without a type",
    "PR07": "a parameter without a description",
    "RT01": "no section Returns",
    "RT03": "a result without a description",
    "YD01": "no section Yields",
}

# Each with its optional members, which the section "Methods" of the class describes.
PROTOCOLS: dict[type, tuple[str, ...]] = {
    Backend: (),
    Blocks: (),
    Device: (),
    Observer: (),
    RowMap: ("launched",),
    Source: ("expect", "name_at", "opened"),
    Statistic: ("before", "after", "contains", "within", "summable"),
    Summed: (),
}


def members(cls: type) -> Iterator[tuple[str, type]]:
    """Yield the public methods and properties of a class that this project defines, and the class that does."""
    own = {one.name for one in fields(cls)} if is_dataclass(cls) else set()
    for name in sorted({*dir(cls)} - own):
        definer = next((one for one in cls.__mro__ if name in vars(one)), None)
        if name.startswith("_") or definer is None or not definer.__module__.startswith("ooclearn"):
            continue
        member = vars(definer)[name]
        if isinstance(member, property) or callable(getattr(cls, name, None)):
            yield name, definer


def carries_out(definer: type, name: str) -> bool:
    """Say whether a member of a class carries out a protocol, whose own class documents it."""
    for protocol, optional in PROTOCOLS.items():
        own = [one for one in vars(protocol) if not one.startswith("_")]
        required = [one for one in own if callable(getattr(protocol, one))]
        alike = issubclass(protocol, Protocol) and all(hasattr(definer, one) for one in required)
        if name in {*own, *optional} and definer not in PROTOCOLS and (protocol in definer.__mro__ or alike):
            return True
    return False


def public() -> Iterator[tuple[str, Any, type | None]]:
    """Yield the path of each public object, the object, and for a method the class that defines it."""
    classes: dict[type, str] = {cls: f"{cls.__module__}.{cls.__qualname__}" for cls in PROTOCOLS}
    for module in ("", *sorted({*ooclearn._MODULES, *MORE_MODULES})):
        path = f"ooclearn.{module}".rstrip(".")
        holder = import_module(path)
        for name in holder.__all__:
            found = getattr(holder, name)
            if inspect.isclass(found) and found.__module__.startswith("ooclearn"):
                classes.setdefault(found, f"{path}.{name}")
            elif inspect.isfunction(found):
                yield f"{path}.{name}", found, None
    for cls, path in classes.items():
        yield path, cls, None
        for name, definer in members(cls):
            if not carries_out(definer, name):
                yield f"{path}.{name}", getattr(cls, name), definer


def taken(cls: Any) -> set[str]:
    """Return the parameters of a class that are documented, or need not be, elsewhere than in its Parameters."""
    if issubclass(cls, Protocol) or (issubclass(cls, Exception) and "__init__" not in vars(cls)):
        return {"*args", "**kwargs", *inspect.signature(cls).parameters}
    if not is_dataclass(cls):
        return set()
    described = {name.strip() for entry in ClassDoc(cls)["Attributes"] for name in entry.name.split(",")}
    return {one.name for one in fields(cls)} & {*described, "parts"}


def problems_of(path: str, found: Any) -> Iterator[str]:
    """Yield what is wrong with the docstring of an object."""
    report = validate(path)
    # What users begin with shows how: the names of `import ooclearn`, and every estimator.
    shown = path.count(".") == 1 or (inspect.isclass(found) and hasattr(found, "get_params"))
    for code, message in report["errors"]:
        if code not in CHECKS and not (code == "EX01" and shown):
            continue
        if code == "PR01" and inspect.isclass(found):
            missing = set(re.findall(r"'([^']+)'", message)) - taken(found)
            if not missing:
                continue
            message = f"Parameters {sorted(missing)} not documented"  # noqa: PLW2901  (less than numpydoc names)
        file = Path(report["file"]).relative_to(ROOT) if report["file"] else path
        yield f"{file}:{report['file_line']}: {path}: {message} ({code})"


def main() -> int:
    """Print what is wrong; return the exit code."""
    problems: set[str] = set()
    seen: set[Any] = set()
    for path, found, definer in public():
        # A method that several classes inherit is looked at once.
        key = found if definer is None else (definer, path.rpartition(".")[2])
        if key not in seen:
            seen.add(key)
            problems.update(problems_of(path, found))
    print("\n".join(sorted(problems)) or f"{len(seen)} public objects are documented in full")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
