"""Print pip constraints that hold each package of pyproject.toml to the lowest version it allows.

These are the dependencies, the extras and the groups of the tests.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def constraints(pyproject: dict[str, Any]) -> list[str]:
    """Return one constraint for each requirement that has a floor."""
    project, groups = pyproject["project"], pyproject["dependency-groups"]
    requirements = [*project["dependencies"], *groups["test"], *groups["polars"]]
    for extra in project["optional-dependencies"].values():
        requirements += extra
    found = (re.fullmatch(r"([\w.-]+)(?:\[.*\])?>=([\d.]+)", requirement) for requirement in requirements)
    return sorted({f"{match[1]}=={match[2]}" for match in found if match})


if __name__ == "__main__":
    with (ROOT / "pyproject.toml").open("rb") as file:
        print("\n".join(constraints(tomllib.load(file))))
