"""Tables on disk that are larger than the memory a process is allowed to have, for real."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

pytestmark = pytest.mark.alone

# A table of 640 MB, and 256 MiB to work in. RLIMIT_DATA counts anonymous memory, and lets the page cache alone.
ROWS, COLUMNS, BUDGET = 4_000_000, 20, 256 * 2**20


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float64, (ROWS, COLUMNS))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.int64, (ROWS,))
    rng = np.random.default_rng(0)
    for start in range(0, ROWS, 100_000):
        block = rng.standard_normal((100_000, COLUMNS))
        y[start : start + 100_000] = block[:, 0] + block[:, 1] > 0
        X[start : start + 100_000] = block * 3.0 + 50.0
    X.flush()
    y.flush()
    del X, y
    yield folder
    for file in folder.iterdir():
        file.unlink()


def limited(folder, code, *, budget=BUDGET):
    """Run `code` in a process of its own that may take `budget` bytes beyond what it has after importing."""
    program = """
    import resource, sys
    import numpy as np
    import ooclearn
    from ooclearn import Incremental, make_pipeline
    from ooclearn.diagnostics import MemorySampler, limit_memory
    from ooclearn.preprocessing import MinMaxScaler, StandardScaler
    from sklearn.linear_model import SGDClassifier
    {imports}
    with limit_memory({budget}):
    {body}
    """
    imports = "\n".join(line for line in code.splitlines() if line.startswith("import"))
    body = "\n".join(line for line in code.splitlines() if not line.startswith("import"))
    program = textwrap.dedent(program).format(imports=imports, budget=budget, body=textwrap.indent(body, "    "))
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


JOB = """
pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)))
pipe.fit(X, y)
predicted = pipe.predict(X)
assert pipe.score(X, y) > 0.95
"""


def test_the_limit_is_real(table):
    done = limited(table, "X = np.load('X.npy')")
    assert done.returncode != 0
    assert "MemoryError" in done.stderr


def test_fit_predict_and_write_from_a_file(table):
    done = limited(
        table,
        "X, y = ooclearn.scan('X.npy'), ooclearn.scan('y.npy')"
        + JOB
        + "predicted.to_npy('predicted.npy')\nprint(np.load('predicted.npy', mmap_mode='r').shape)",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"({ROWS},)"


def test_a_memory_map_passed_as_it_is(table):
    done = limited(table, "X, y = np.load('X.npy', mmap_mode='r'), np.load('y.npy', mmap_mode='r')" + JOB)
    assert done.returncode == 0, done.stderr


def test_dask_over_the_file(table):
    code = "import dask, dask.array\nX, y = ooclearn.scan('X.npy').to_dask(), ooclearn.scan('y.npy').to_dask()" + JOB
    # Dask holds a chunk as read, as put into the graph's results and as prepared; still well under the table.
    done = limited(table, code, budget=400 * 2**20)
    assert done.returncode == 0, done.stderr


def test_transform_to_disk(table):
    code = """
X = ooclearn.scan('X.npy')
MinMaxScaler().fit(X).transform(X).to_npy('scaled.npy')
assert (MinMaxScaler().fit(ooclearn.scan('scaled.npy')).data_min_ == 0).all()
"""
    done = limited(table, code)
    assert done.returncode == 0, done.stderr


def test_peak_memory_does_not_grow_with_rows(table):
    # Blocks of 4 MiB: as many as may be held at a time are held at the shortest table too. With 16 MiB it has 10
    # blocks, and whether workers ever were as far ahead as they may be is a matter of chance.
    peaks = []
    for share in (4, 2, 1):
        body = f"""
X = np.load('X.npy', mmap_mode='r')[:{ROWS // share}]
y = np.load('y.npy', mmap_mode='r')[:{ROWS // share}]
with ooclearn.config_context(block_bytes=2**22), MemorySampler() as memory:
    make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(X, y)
print(memory.peak)
"""
        done = limited(table, body)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    assert max(peaks) <= 1.1 * min(peaks), peaks
