"""Check that every rule that is switched off says why, and every test that is not run.

- ``# noqa: CODE  (reason)`` and ``# type: ignore[code]  # reason`` in Python files;
- ``reason=`` in the skips and expected failures of tests;
- a comment at each ignored rule, override and warning filter of pyproject.toml.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ooclearn", "backends", "tests", "ci", "docs")

# That the codes are named, ruff (PGH) and mypy (ignore-without-code) see to.
SWITCH = re.compile(
    r"""\#\s*(noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)? | type:\s*ignore(\[[\w, -]*\])?
             | fmt:\s*\w+ | pragma:\s*no\s*\w+)""",
    re.VERBOSE,
)
UNRUN = {"skip", "skipif", "xfail", "importorskip"}


def switches(file: Path, text: str) -> Iterator[str]:
    """Yield the comments that switch a check off without a reason."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and SWITCH.search(token.string):
            reason = SWITCH.sub("", token.string)
            if len(re.findall(r"\w+", reason)) < 2:
                yield f"{file}:{token.start[0]}: {token.string.strip()!r} needs the reason after it"


def unrun(file: Path, text: str) -> Iterator[str]:
    """Yield the skips and expected failures without a reason."""
    tree = ast.parse(text)
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and node.attr in UNRUN):
            continue
        if ast.unparse(node.value) not in {"pytest", "pytest.mark"}:
            continue
        call = called.get(id(node))
        given = call is not None and (
            any(keyword.arg == "reason" for keyword in call.keywords)
            # pytest.skip("why") and pytest.importorskip("torch") say it by themselves.
            or (bool(call.args) and (node.attr == "importorskip" or ast.unparse(node.value) == "pytest"))
        )
        if not given:
            yield f"{file}:{node.lineno}: {ast.unparse(node)} needs a reason"


def entries(tools: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the ignored rules, overridden modules and filters of tool tables, and where they stand."""
    ruff, mypy, pytest = (tools.get(name, {}) for name in ("ruff", "mypy", "pytest"))
    lint = ruff.get("lint", {})
    for rule in [*lint.get("ignore", []), *lint.get("extend-ignore", [])]:
        yield rule, "ruff ignore"
    for pattern, rules in lint.get("per-file-ignores", {}).items():
        for rule in rules:
            yield rule, f"ruff per-file-ignores {pattern}"
    for override in mypy.get("overrides", []):
        modules = override["module"]
        yield modules if isinstance(modules, str) else modules[0], "mypy override"
    for rule in pytest.get("ini_options", {}).get("filterwarnings", []):
        if rule != "error":
            yield rule, "pytest filterwarnings"


def commented(lines: list[str], entry: str, *, beside: bool) -> bool:
    """Say whether each line that holds `entry` has a comment: beside it, or else above it or its table."""
    quoted = '"' + entry.replace("\\", "\\\\") + '"'
    held = [number for number, line in enumerate(lines) if quoted in line]
    for number in held:
        above = number - 1
        while lines[above].startswith(("[", "module")):
            above -= 1
        comment = lines[number].partition(quoted)[2] if beside else lines[above].strip()
        if len(re.findall(r"\w+", comment.partition("#")[2])) < 2:
            return False
    return bool(held)


def main() -> int:
    """Print what is wrong; return the exit code."""
    problems: list[str] = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            file = path.relative_to(ROOT)
            problems += [*switches(file, text), *unrun(file, text)]
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = list(entries(tomllib.loads(text)["tool"]))
    lines = text.splitlines()
    problems += [
        f"pyproject.toml: {where}: {entry!r} has no reason beside it"
        for entry, where in found
        if not commented(lines, entry, beside=where.startswith("ruff"))
    ]
    print("\n".join(problems) or f"{len(found)} settings and every comment that switches a check off say why")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
