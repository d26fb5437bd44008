"""Check that private names of scikit-learn and Dask stand in ooclearn/_compat.py, with their reasons."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ooclearn", "backends", "tests", "ci")
COMPAT = Path("ooclearn/_compat.py")
LIBRARIES = {"dask", "distributed", "sklearn"}


def private(name: str) -> bool:
    """Say whether a dotted name has a private part."""
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


def dotted(node: ast.expr) -> str | None:
    """Return ``a.b.c`` for an expression of that form."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return None


def imports(tree: ast.Module) -> Iterator[tuple[int, str, str, str]]:
    """Yield line, imported name, local name and what that stands for, of the imports of those libraries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                if first in LIBRARIES:
                    yield (
                        node.lineno,
                        alias.name,
                        alias.asname or first,
                        alias.name if alias.asname else first,
                    )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield alias.lineno, name, alias.asname or alias.name, name


def uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of each private name of those libraries."""
    bound = {}
    for line, name, local, meant in imports(tree):
        bound[local] = meant
        if private(name):
            yield line, name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and (path := dotted(node)):
            local, _, rest = path.partition(".")
            if local in bound:
                yield node.lineno, f"{bound[local]}.{rest}"


def main() -> int:
    """Print what is wrong; return the exit code."""
    problems = []
    counted = 0
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            file = path.relative_to(ROOT)
            tree = ast.parse(path.read_text(encoding="utf-8"))
            reasons = ast.get_docstring(tree) or ""
            for line, name in uses(tree):
                counted += 1
                if file != COMPAT:
                    problems.append(f"{file}:{line}: {name} is private; use it through {COMPAT}")
                elif f"`{name.rpartition('.')[2]}`" not in reasons:
                    problems.append(f"{file}:{line}: say in the docstring of the module why {name} is needed")
    print("\n".join(problems) or f"{counted} private names, all in {COMPAT} and with their reasons")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
