"""Check that imports point one way, and that importing ooclearn imports no optional library.

The layers, lowest first; a module imports from its own layer and those below it::

    foundations   exceptions, types, config, events and small helpers over the array API
    data          blocks, tables, statistics, row maps, storage, the backend protocol
    driver        feeds, folding, passes, plans, and what watches them
    base          what estimators share
    estimators    everything that is not named here: preprocessing, incremental, pipeline, ...
    top           the public names, the command line, the shipped checks; imported by nobody below

Adapters import ooclearn, never the other way round: they are found by their entry point. Imports for the type
checker only (``if TYPE_CHECKING``) may point anywhere; so may those inside ``ooclearn/__init__.py``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A package stands for all of its modules.
LAYERS = {
    "foundations": [
        "_compat",
        "_filters",
        "_forking",
        "_namespace",
        "buffers",
        "config",
        "events",
        "exceptions",
        "products",
        "tiles",
        "types",
        "unlooked",
        "workers",
    ],
    "data": [
        "affine",
        "backend",
        "blocks",
        "mapped",
        "not_arrays",
        "rowmaps",
        "sources",
        "statistics",
        "storage",
        "table",
    ],
    "driver": [
        "device",
        "diagnostics",
        "feeds",
        "folding",
        "passes",
        "plan",
        "preparation",
        "residents",
        "returning",
        "ring",
        "sending",
        "sharing",
        "summing",
    ],
    "base": ["base", "validation"],
    "estimators": [],
    "top": ["", "__main__", "demo", "testing"],
}
HEIGHT = {name: height for height, names in enumerate(LAYERS.values()) for name in names}
ESTIMATORS = list(LAYERS).index("estimators")

# What a core installation has: the dependencies of pyproject.toml, and what scikit-learn itself requires.
CORE = {"array_api_compat", "joblib", "numpy", "scipy", "sklearn", "threadpoolctl"}
# What an adapter is the adapter of; by the name of its module.
OWN = {"cupy": {"cupy", "cupyx"}, "dask": {"cloudpickle", "dask", "distributed"}}


@dataclass(frozen=True)
class Import:
    """One imported module, where, and whether it happens when the importing module is imported."""

    file: Path
    line: int
    module: str
    at_import: bool

    def says(self, what: str) -> str:
        """Return a message about this import."""
        return f"{self.file}:{self.line}: imports {self.module}: {what}"


def imports_of(file: Path, known: set[str]) -> Iterator[Import]:
    """Yield the imports of `file` that happen when it runs; `known` tells modules from names in them."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))

    def walk(node: ast.AST, *, at_import: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for statement in node.orelse:
                yield from walk(statement, at_import=at_import)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, at_import)
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            # Of a name that is no module, the module it is in.
            modules = (full & known) | ({node.module} if full - known else set())
            for module in sorted(modules):
                yield Import(file, node.lineno, module, at_import)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_import=at_import and not inside)

    yield from walk(tree, at_import=True)


def module_of(file: Path) -> str:
    """Return the dotted name of `file`, which is relative to a source root."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def height(module: str) -> int:
    """Return the layer of a module of ooclearn, as a number."""
    return HEIGHT.get(module.partition(".")[2].partition(".")[0], ESTIMATORS)


def check_core(imports: list[Import]) -> Iterator[str]:
    """Yield what is wrong with the imports of ooclearn."""
    names = list(LAYERS)
    for one in imports:
        importer = module_of(one.file)
        package = one.module.partition(".")[0]
        if package == "ooclearn_backends":
            yield one.says("adapters are found by their entry point, the core never imports one")
        elif package == "ooclearn":
            below, above = height(importer), height(one.module)
            testing = one.module.split(".")[1:2] == ["testing"]
            if testing and importer.split(".")[1:2] != ["testing"]:
                yield one.says("nothing in ooclearn imports ooclearn.testing")
            elif importer != "ooclearn" and above > below:
                yield one.says(f"that is in the layer {names[above]!r}, above {names[below]!r}")
        elif one.at_import and package not in CORE and package not in sys.stdlib_module_names:
            yield one.says("not a core dependency; import it in the function that needs it")


def check_adapters(imports: list[Import]) -> Iterator[str]:
    """Yield what is wrong with the imports of the adapters."""
    for one in imports:
        package = one.module.partition(".")[0]
        own = next(
            (libraries for name, libraries in OWN.items() if one.file.stem.lstrip("_").startswith(name)),
            set(),
        )
        if package in CORE | own | {"ooclearn", "ooclearn_backends"} or package in sys.stdlib_module_names:
            continue
        yield one.says(f"this adapter is not that library's (its own: {', '.join(sorted(own)) or 'none'})")


def check_cycles(imports: list[Import]) -> Iterator[str]:
    """Yield the first circle of modules of ooclearn that need one another in order to be imported."""
    needs: dict[str, set[str]] = {}
    for one in imports:
        importer = module_of(one.file)
        if one.at_import and one.module.startswith("ooclearn.") and importer != one.module:
            needs.setdefault(importer, set()).add(one.module)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> str | None:
        if module in path:
            return " -> ".join((*path[path.index(module) :], module))
        if module in done:
            return None
        for needed in sorted(needs.get(module, ())):
            if circle := visit(needed, (*path, module)):
                return circle
        done.add(module)
        return None

    for module in sorted(needs):
        if circle := visit(module, ()):
            yield f"imports go in a circle: {circle}"
            return


def main() -> int:
    """Print what is wrong; return the exit code."""
    core = sorted(path.relative_to(ROOT) for path in (ROOT / "ooclearn").rglob("*.py"))
    source = ROOT / "backends"
    adapters = sorted(path.relative_to(ROOT) for path in (source / "ooclearn_backends").rglob("*.py"))
    known = {module_of(file) for file in core} | {module_of(file.relative_to("backends")) for file in adapters}
    of_core = [one for file in core for one in imports_of(file, known)]
    of_adapters = [one for file in adapters for one in imports_of(file, known)]
    problems = [*check_core(of_core), *check_adapters(of_adapters), *check_cycles(of_core)]
    # pytest would put the folder on the path, and a `backends/numpy.py` would then be `import numpy`.
    problems += [f"{path.relative_to(ROOT)}: backends/ holds packages, never a module" for path in source.glob("*.py")]
    if not core or not adapters:
        problems.append("found no modules to check")
    print("\n".join(problems) or f"{len(core)} modules and {len(adapters)} adapters import downwards")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
