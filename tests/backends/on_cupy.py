"""The CuPy adapter on the stand-in for CuPy; test_cupy.py runs these tests, where `import cupy` finds it."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier as HostSGDClassifier

import ooclearn
from ooclearn.backend import get_backend
from ooclearn.cluster import KMeans
from ooclearn.decomposition import PCA
from ooclearn.discriminant_analysis import LinearDiscriminantAnalysis
from ooclearn.exceptions import BackendError, BlockMemoryError, NonFiniteError
from ooclearn.incremental import Incremental
from ooclearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from ooclearn.naive_bayes import GaussianNB
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.testing import check_backend
from ooclearn.testing.tables import uneven_cut

cupy = pytest.importorskip("cupy", reason="test_cupy.py runs this file where a stand-in is found")
gpu_stand_in = pytest.importorskip("gpu_stand_in", reason="this is CuPy itself")

N, D = 6000, 5
BLOCKS = {"block_bytes": 2**13, "workers": 2}


@pytest.fixture(autouse=True)
def gpu():
    """The device behind the stand-in, put back as it was; nothing may have been hidden from the test."""
    gpu = gpu_stand_in.gpu
    before = gpu.memory, gpu.page_locked
    yield gpu
    gpu.memory, gpu.page_locked = before
    cupy.get_default_memory_pool().set_limit(size=0)
    hazards = list(gpu.hazards)
    gpu.forget()
    assert not hazards


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """X, targets and classes, and Blocks of the same that are read from files."""
    rng = np.random.default_rng(0)
    X = rng.normal(100, 2, (N, D)) * np.arange(1, D + 1)
    y, c = X @ np.arange(D) + rng.normal(size=N), (X[:, 1] > 200).astype(np.int64)
    folder = tmp_path_factory.mktemp("data")
    files = [folder / f"{name}.npy" for name in "Xyc"]
    for file, values in zip(files, (X, y, c), strict=True):
        np.save(file, values)
    with ooclearn.config_context(**BLOCKS):
        return X, y, c, *map(ooclearn.scan, files)


def asked_of(gpu, call):
    """Return what a call makes the device do, as the device and as the adapter count it."""
    counts = [gpu.ledger, get_backend("cupy").device().ledger]
    before = [(one.down, one.waits, one.up) for one in counts]
    call()
    after = [(one.down, one.waits, one.up) for one in counts]
    return [tuple(a - b for a, b in zip(*pair, strict=True)) for pair in zip(after, before, strict=True)]


# The stand-in.


def test_it_has_nothing_that_cupy_does_not_have():
    from cupy import _calls

    known = _calls.surface()
    homes = {"cupy": cupy, "cupy.cuda": cupy.cuda, "cupy.cuda.runtime": cupy.cuda.runtime, "cupy.linalg": cupy.linalg}
    homes |= {f"cupy.cuda.{one.__name__}": one for one in vars(cupy.cuda).values() if inspect.isclass(one)}
    homes["cupy.ndarray"] = cupy.ndarray
    for path, home in homes.items():
        for name, found in vars(home).items():
            if name.startswith("_") or (isinstance(found, types.ModuleType) and f"{path}.{name}" not in known):
                continue
            assert f"{path}.{name}" in known, f"CuPy has no {path}.{name}"
            if inspect.isfunction(found) and name not in ("matmul", "conj"):
                # Methods that hand on what they were given are bound to the signature when they are called.
                own = inspect.signature(found)
                if [one.kind for one in own.parameters.values()][1:] != [
                    inspect.Parameter.VAR_POSITIONAL,
                    inspect.Parameter.VAR_KEYWORD,
                ]:
                    assert str(own) == str(_calls.signature(f"{path}.{name}")), name


REFUSED = {
    "implicit conversion": lambda x: np.asarray(x),
    "array + NumPy's": lambda x: x + np.ones(3),
    "NumPy's + array": lambda x: np.ones(3) + x,
    "NumPy's ufunc": lambda x: np.add(x, np.ones(3)),
    "in place": lambda x: x.__iadd__(np.ones(3)),
    "== None": lambda x: x == None,  # noqa: E711  (what CuPy refuses)
    "where= of sum": lambda x: cupy.sum(x, where=x > 1),
    "where= of a ufunc": lambda x: cupy.add(x, 1, where=x > 1),
    "initial= of max": lambda x: cupy.max(x, initial=0),
    "sum of NumPy's": lambda x: cupy.sum(np.ones(3)),
    "joined with NumPy's": lambda x: cupy.concatenate([x, np.ones(3)]),
    "dot with NumPy's": lambda x: x.dot(np.ones(3)),
    "as an index": lambda x: range(x[0]),
    "a device as a key": lambda x: {x.device: 1},
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_it_refuses_by_type_what_cupy_refuses(call):
    with pytest.raises(TypeError):
        call(cupy.asarray([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("dtype", [object, "U3", "M8[s]", np.longdouble])
def test_it_has_the_dtypes_of_cupy(dtype):
    with pytest.raises(ValueError, match="Unsupported dtype"):
        cupy.asarray(np.zeros(3, dtype))


# The adapter.


@pytest.mark.parametrize("cut", [False, True])
def test_a_backend_has_its_duties(tmp_path, cut):
    def sent(values):
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(file, values)
        return ooclearn.scan(file).recut(uneven_cut(len(values))).on("cupy")

    check_backend(get_backend("cupy"), sent if cut else cupy.asarray)


def test_text_and_what_is_on_the_host_stay_there():
    backend = get_backend("cupy")
    for values in (np.array(["no", "yes"]), np.ones(3)):
        assert type(backend.to_host(values)) is np.ndarray
    assert type(backend.from_host(np.array(["no", "yes"]))) is np.ndarray


PIPELINE = make_pipeline(StandardScaler(), PCA(2), Ridge())


@pytest.mark.parametrize(
    ("model", "passes"),
    [(StandardScaler(), 1), (MinMaxScaler(), 1), (PCA(2), 1), (Ridge(), 1), (PIPELINE, 1)],
    ids=lambda one: type(one).__name__,
)
def test_one_copy_back_and_one_wait_a_pass(gpu, data, model, passes):
    X, y, _, rows, targets, _ = data
    needed = X.nbytes + (y.nbytes if model is PIPELINE or isinstance(model, Ridge) else 0)
    with ooclearn.config_context(**BLOCKS):
        assert model.explain(rows.on("cupy"), targets).n_passes == passes
        copies = gpu.ledger.copies_down
        there, here = asked_of(gpu, lambda: model.fit(rows.on("cupy"), targets))
    assert gpu.ledger.copies_down - copies == passes
    assert there == here, "the adapter's ledger leaves nothing out"
    down, waits, up = there
    assert (waits, down < 1000, needed <= up <= 1.1 * needed) == (passes, True, True)


@pytest.mark.parametrize(
    "model",
    [GaussianNB(), LinearDiscriminantAnalysis(), LogisticRegression(), SGDClassifier(), KMeans(3, n_init=1)],
    ids=lambda one: type(one).__name__,
)
def test_no_wait_and_no_copy_back_is_hidden(gpu, data, model):
    *_, rows, _, classes = data
    with ooclearn.config_context(**BLOCKS):
        (down, waits, _), (known, known_waits, _) = asked_of(gpu, lambda: model.fit(rows.on("cupy"), classes))
    assert (down, waits) == (known, known_waits)


@pytest.mark.parametrize(
    "model",
    [PIPELINE, GaussianNB(), LinearDiscriminantAnalysis(), LogisticRegression(), SGDClassifier(random_state=0)],
    ids=lambda one: type(one).__name__,
)
def test_the_same_numbers_wherever_the_rows_are(tmp_path, data, model):
    import dask.array as da

    X, y, c, rows, targets, classes = data
    target, target_blocks = (y, targets) if model is PIPELINE else (c, classes)
    chunks = da.from_array(X, chunks=(1000, D)).map_blocks(cupy.asarray)
    with ooclearn.config_context(**BLOCKS):
        expected = model.fit(rows, target_blocks).predict(X)
        places = [
            (rows.on("cupy"), target_blocks),
            (rows.on("cupy"), cupy.asarray(target)),
            (cupy.asarray(X), cupy.asarray(target)),
            (cupy.asarray(X), target),
            (chunks, da.from_array(target, chunks=1000)),
        ]
        # Ours trains on other batches where the blocks are others.
        for there in places[:1] if isinstance(model, SGDClassifier) else places:
            predicted = model.fit(*there).predict(cupy.asarray(X))
            assert type(predicted) is cupy.ndarray
            np.testing.assert_allclose(predicted.get(), expected, rtol=1e-9)
            model.predict(rows.on("cupy")).to_npy(tmp_path / "out.npy")
            np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-9)
            np.testing.assert_allclose(model.predict(chunks).compute().get(), expected, rtol=1e-9)
        with ooclearn.config_context(backend="cupy"):
            model.fit(rows, target_blocks).predict(rows).to_npy(tmp_path / "out.npy")
        np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-9)
    score = model.score(cupy.asarray(X), cupy.asarray(target))
    np.testing.assert_allclose(score, model.score(X, target), rtol=1e-9)


def test_results_come_back_by_the_ring(gpu, data, tmp_path):
    X, *_, rows, _, _ = data
    with ooclearn.config_context(**BLOCKS):
        scaler = StandardScaler().fit(X)
        out = scaler.transform(rows.on("cupy"))
        copies = gpu.ledger.copies_down
        (down, _, up), (known, waits, sent) = asked_of(gpu, lambda: out.to_npy(tmp_path / "out.npy"))
    runs = gpu.ledger.copies_down - copies
    assert (down, waits) == (known, 0)
    assert X.nbytes <= down <= X.nbytes + runs * 264, "behind each run, how many cells were refused"
    assert X.nbytes <= sent <= 1.1 * X.nbytes
    assert up - sent < X.nbytes / 10, "what the map is made of goes there once"
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), scaler.transform(X), rtol=1e-12)


def test_text_classes(data, tmp_path):
    X, _, c, rows, _, _ = data
    names = np.array(["no", "yes"])[c]
    np.save(tmp_path / "names.npy", names)
    with ooclearn.config_context(**BLOCKS):
        model = LogisticRegression().fit(rows.on("cupy"), ooclearn.scan(tmp_path / "names.npy"))
        model.predict(rows.on("cupy")).to_npy(tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), model.predict(X))


def test_a_cell_that_is_no_number_is_named(data, tmp_path):
    X = data[0].copy()
    X[4321, 3] = np.nan
    np.save(tmp_path / "X.npy", X)
    with ooclearn.config_context(**BLOCKS):
        sent = ooclearn.scan(tmp_path / "X.npy").on("cupy")
        fitted = PCA(2).fit(data[0])
        calls = [lambda: PCA(2).fit(sent), lambda: PCA(2).fit(cupy.asarray(X))]
        calls.append(lambda: fitted.transform(sent).to_npy(tmp_path / "out.npy"))
        for call in calls:
            with pytest.raises(NonFiniteError) as error:
                call()
            assert (error.value.rows, error.value.column) == ((4321, 4322), 3)


def test_the_first_rows_stay(gpu, data):
    X, *_, rows, _, classes = data
    ups = {}
    for resident in (None, 0, X.nbytes // 2):
        with ooclearn.config_context(**BLOCKS, resident_bytes=resident):
            model = LogisticRegression()
            _, (_, waits, up) = asked_of(gpu, lambda model=model: model.fit(rows.on("cupy"), classes))
        ups[resident] = up / (X.nbytes + 8 * N) / waits
    assert ups[None] < ups[X.nbytes // 2] < ups[0]
    np.testing.assert_allclose([ups[0], ups[None] * waits], 1, rtol=0.1)


class TestIncremental:
    def test_host_blocks_for_an_estimator_of_the_host(self, data):
        X, _, _, rows, _, classes = data
        with ooclearn.config_context(**BLOCKS):
            model = Incremental(HostSGDClassifier(random_state=0))
            assert "is fed host arrays" in str(model.explain(rows.on("cupy"), classes))
            expected = model.fit(rows, classes).predict(X)
            predicted = model.fit(rows.on("cupy"), classes).predict(cupy.asarray(X))
        np.testing.assert_array_equal(predicted.get(), expected)

    def test_device_blocks_for_one_that_takes_them(self, data):
        *_, rows, _, classes = data
        seen = set()

        class Taking(HostSGDClassifier):
            def partial_fit(self, X, y, classes=None, sample_weight=None):
                seen.add((type(X), type(y)))
                return self

            def __sklearn_tags__(self):
                tags = super().__sklearn_tags__()
                tags.array_api_support = True
                return tags

        with ooclearn.config_context(**BLOCKS):
            from sklearn import config_context

            os.environ.setdefault("SCIPY_ARRAY_API", "1")
            with config_context(array_api_dispatch=True):
                model = Incremental(Taking())
                assert "is fed arrays of cupy" in str(model.explain(rows.on("cupy"), classes))
                model.fit(rows.on("cupy"), classes)
        assert {one[0] for one in seen} == {cupy.ndarray}


LOADED = """
import pickle, sys
import numpy as np
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        model, X, expected = pickle.load(file)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-9)
assert "cupy" not in sys.modules
"""


def test_pickles_load_where_there_is_no_cupy(data, tmp_path):
    X, y, c, *_ = data
    files = []
    for model in (PIPELINE, LogisticRegression(), SGDClassifier(), GaussianNB()):
        model.fit(cupy.asarray(X), cupy.asarray(y if model is PIPELINE else c))
        expected = model.predict(cupy.asarray(X)).get()
        files.append(tmp_path / f"{type(model).__name__}.pkl")
        files[-1].write_bytes(pickle.dumps((model, X, expected)))
    without = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", LOADED, *map(str, files)], env=without, check=True, timeout=60)


class TestMemory:
    """What gives out is named with what to set, nothing is fitted, and with less it goes."""

    def test_of_the_device(self, gpu, data, tmp_path):
        X, *_, targets, _ = data
        expected = PIPELINE.fit(X, data[1])[-1].coef_
        model = make_pipeline(StandardScaler(), PCA(2), Ridge())
        cupy.get_default_memory_pool().free_all_blocks()
        cupy.get_default_memory_pool().set_limit(size=X.nbytes // 4)
        file = tmp_path / "X.npy"
        np.save(file, X)
        with pytest.raises(BlockMemoryError, match=r"Out of memory allocating .*Set block_bytes to 60,000 or less"):
            model.fit(ooclearn.scan(file).on("cupy"), targets)
        assert not hasattr(model[0], "mean_")
        with ooclearn.config_context(block_bytes=2**10, resident_bytes=0):
            model.fit(ooclearn.scan(file).on("cupy"), targets)
        np.testing.assert_allclose(model[-1].coef_, expected, rtol=1e-10)

    @pytest.mark.parametrize(
        "model", [PCA(2), SGDClassifier(), LogisticRegression()], ids=lambda one: type(one).__name__
    )
    def test_of_the_device_beside_an_array_in_it(self, data, model):
        X, _, c, *_ = data
        there = cupy.asarray(X)
        pool = cupy.get_default_memory_pool()
        pool.free_all_blocks()
        pool.set_limit(size=pool.used_bytes() + 4096)
        with pytest.raises(BlockMemoryError, match="Set block_bytes to 60,000 or less"):
            model.fit(there, c)

    def test_of_the_device_for_what_comes_out(self, data, tmp_path):
        X, *_ = data
        scaler = StandardScaler().fit(X)
        there = cupy.asarray(X)
        pool = cupy.get_default_memory_pool()
        pool.free_all_blocks()
        pool.set_limit(size=pool.used_bytes() + X.nbytes // 4)
        with pytest.raises(BlockMemoryError, match=r"to map an array of .* bytes as one .*Pass ooclearn\.scan"):
            scaler.transform(there)
        scaler.transform(ooclearn.scan(there, block_rows=len(X) // 40)).to_npy(tmp_path / "scaled.npy")
        np.testing.assert_allclose(np.load(tmp_path / "scaled.npy"), scaler.transform(X), rtol=1e-12)

    def test_of_pages_that_can_be_locked(self, gpu, data):
        *_, rows, _, _ = data
        cupy.get_default_pinned_memory_pool().free_all_blocks()
        gpu.page_locked = 1000
        with (
            ooclearn.config_context(**BLOCKS),
            pytest.raises(
                BlockMemoryError, match="of page-locked memory of the host cannot be had.*Set block_bytes to"
            ),
        ):
            StandardScaler().fit(rows.on("cupy"))


def test_a_driver_that_is_too_old(monkeypatch):
    monkeypatch.setattr(cupy.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match="the driver is too old .*ooclearn\\[cuda12\\]"):
        ooclearn.scan(np.ones((3, 2))).on("cupy")
