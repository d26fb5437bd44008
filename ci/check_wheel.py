"""Build the wheel through the sdist, look at what is in it, and use it where no optional library is."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"ooclearn": ROOT, "ooclearn_backends": ROOT / "backends"}
GROUP = "ooclearn.backends"

# Run in an environment of the wheel and the core dependencies, outside the checkout.
USE = """
import sys
from importlib.metadata import entry_points, version
import numpy as np
import ooclearn
from ooclearn.backend import backends
from ooclearn.preprocessing import StandardScaler
assert sys.prefix in ooclearn.__file__, ooclearn.__file__
assert ooclearn.__version__ == version("ooclearn")
names = {point.name for point in entry_points(group="ooclearn.backends")}
assert set(backends()) == names, (set(backends()), names)
scaled = StandardScaler().fit_transform(np.arange(12.0).reshape(6, 2))
assert abs(scaled.mean()) < 1e-12
optional = {"cupy", "dask", "distributed", "pandas", "polars", "pyarrow", "rich", "torch"} & set(sys.modules)
assert not optional, optional
"""


def build(out: Path) -> Path:
    """Return the wheel, built from the sdist of the checkout."""
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stdout)
    (wheel,) = out.glob("*.whl")
    return wheel


def problems_of(wheel: Path) -> list[str]:
    """Return what is wrong with the contents of `wheel`."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (info,) = {name.split("/")[0] for name in names if name.split("/")[0].endswith(".dist-info")}
        points = configparser.RawConfigParser(delimiters=["="])
        points.read_string(archive.read(f"{info}/entry_points.txt").decode())
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["entry-points"][GROUP]

    problems = []
    top = {name.split("/")[0] for name in names}
    if top != {*PACKAGES, info}:
        problems.append(f"top-level names are {sorted(top)}, expected {sorted({*PACKAGES, info})}")
    found = dict(points[GROUP]) if points.has_section(GROUP) else {}
    if found != declared:
        problems.append(f"entry points are {found}, expected {declared}")
    wanted = {f"{info}/licenses/LICENSE"}
    wanted |= {value.partition(":")[0].replace(".", "/") + ".py" for value in declared.values()}
    for package, root in PACKAGES.items():
        wanted |= {f"{package}/py.typed"}
        files = (path for path in (root / package).rglob("*") if path.is_file() and path.suffix != ".pyc")
        wanted |= {path.relative_to(root).as_posix() for path in files}
    return problems + [f"{name} is missing" for name in sorted(wanted - names)]


def use(wheel: Path, folder: Path) -> None:
    """Install `wheel` in an environment that borrows only dependencies, and fit an estimator there."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-qq", "--no-deps", "--no-index", wheel], check=True)
    # Behind the wheel's own folder; path files in there, the editable ooclearn's among them, have no effect.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    subprocess.run([python, "-W", "error", "-c", USE], check=True, cwd=folder, env=clean)


def main() -> int:
    """Print what is wrong; return the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder / "dist")
        problems = problems_of(wheel)
        if not problems:
            use(wheel, folder)
        print("\n".join(problems) or f"{wheel.name} holds ooclearn and ooclearn_backends, and works")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
