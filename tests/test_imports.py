"""Importing ooclearn, and asking for its backends, imports no optional library, and needs none."""

from __future__ import annotations

import subprocess
import sys

import pytest

OPTIONAL = ["cupy", "dask", "distributed", "pandas", "polars", "pyarrow", "rich", "torch", "jax"]

# scikit-learn itself imports pandas (and that PyArrow) and rich, where they are installed: not counted.
INSTALLED = f"""
import sys
import sklearn.linear_model
before = set(sys.modules)
{{statement}}
print([name for name in {OPTIONAL} if name in sys.modules and name not in before])
"""
ABSENT = f"""
import sys

class Absent:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] in {OPTIONAL}:
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Absent)
{{statement}}
print([name for name in {OPTIONAL} if name in sys.modules])
"""


@pytest.mark.parametrize("code", [INSTALLED, ABSENT], ids=["installed", "absent"])
@pytest.mark.parametrize(
    "statement",
    [
        "import ooclearn",
        "import ooclearn.backend; assert {'numpy', 'dask'} <= set(ooclearn.backend.backends())",
    ],
    ids=["package", "backends"],
)
def test_no_optional_library_is_imported(statement, code, tmp_path):
    command = [sys.executable, "-c", code.format(statement=statement)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_names_are_imported_when_they_are_asked_for(tmp_path):
    code = """
import sys
import ooclearn
print([name for name in sys.modules if name.startswith("ooclearn.")])
assert {*ooclearn.__all__, "preprocessing"} <= set(dir(ooclearn))
names = {}
exec("from ooclearn import *", names)
assert set(ooclearn.__all__) <= set(names)
assert all(getattr(ooclearn, name) is names[name] for name in ooclearn.__all__)
assert ooclearn.linear_model.Ridge().alpha == 1.0
assert not hasattr(ooclearn, "nothing")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
