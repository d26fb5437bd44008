"""Let an environment use this tree as the installed distribution, without building it; and say what that requires.

    python ci/tree.py requires [EXTRA ...] [-- GROUP ...]     requirements, one a line
    python ci/tree.py install [PYTHON]                        into the environment of the python that runs this

What an editable install writes is written here: a path file, and the metadata by which backends are found. Neither a
network nor hatchling is needed. With PYTHON, the packages that this python sees can be seen too, after the
environment's own; `--system-site-packages` shows those of the system alone, and not of another environment.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (ROOT, ROOT / "backends")


def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(extras: list[str], groups: list[str]) -> list[str]:
    """Return what the distribution needs, with some of its extras and of the dependency groups of this tree."""
    found = project()
    wanted = list(found["project"]["dependencies"])
    for extra in extras:
        wanted += found["project"]["optional-dependencies"][extra]
    for group in groups:
        wanted += [one for one in found["dependency-groups"][group] if isinstance(one, str)]
    return list(dict.fromkeys(wanted))


def install(python: str | None) -> None:
    """Write the path file and the metadata; with `python`, let its packages be seen too."""
    about = project()["project"]
    text = (ROOT / "ooclearn" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert version is not None
    site = Path(sysconfig.get_path("purelib"))
    info = site / f"{about['name']}-{version[1]}.dist-info"
    info.mkdir(exist_ok=True)
    lines = ["Metadata-Version: 2.1", f"Name: {about['name']}", f"Version: {version[1]}"]
    lines += [f"Requires-Dist: {one}" for one in about["dependencies"]]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in about["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    (info / "INSTALLER").write_text("ci/tree.py\n", encoding="utf-8")
    (site / "ooclearn.pth").write_text("".join(f"{path}\n" for path in SOURCES), encoding="utf-8")
    if python is not None:
        code = "import json, sys; print(json.dumps([p for p in sys.path if p.endswith(('site-packages', 'dist-packages'))]))"
        seen = json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)
        # By `addsitedir`, so that path files there count too; the name comes last in the order of path files.
        (site / "zz-packages-of-another-python.pth").write_text(
            "".join(f"import site; site.addsitedir({path!r})\n" for path in seen), encoding="utf-8"
        )


def main(arguments: list[str]) -> int:
    """Do one or the other; return the exit code."""
    match arguments:
        case ["requires", *names]:
            at = names.index("--") if "--" in names else len(names)
            print("\n".join(requirements(names[:at], names[at + 1 :])))
        case ["install", *python] if len(python) <= 1:
            install(python[0] if python else None)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
