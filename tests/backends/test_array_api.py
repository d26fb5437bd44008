"""Arrays of torch, JAX and array-api-strict: where answers lie, what is copied to the host, what is refused."""

from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
import sys
import textwrap

import array_api_compat
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import SGDClassifier

from ooclearn.cluster import KMeans
from ooclearn.decomposition import PCA
from ooclearn.discriminant_analysis import LinearDiscriminantAnalysis
from ooclearn.exceptions import DataError
from ooclearn.incremental import Incremental
from ooclearn.linear_model import LogisticRegression, Ridge
from ooclearn.naive_bayes import GaussianNB
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from ooclearn.rowmaps import Rowwise
from ooclearn.testing import check_estimator

DEVICES = ("strict-device1", "torch", "jax", "jax-x64")


def on(*names):
    return pytest.mark.parametrize("backend", names, indirect=True)


def library(name):
    return pytest.importorskip(name, reason=f"{name} is large; ci/test --{name} installs it")


RNG = np.random.default_rng(20261121)
X = RNG.normal(3, 2, size=(2000, 12)).astype(np.float32)
Y = {
    None: None,
    "numbers": (X @ np.arange(12) + RNG.normal(size=2000)).astype(np.float32),
    "labels": X[:, :3].argmax(axis=1).astype(np.int32),
}

# The estimator, its target, and how many passes over X its fit makes; None where that depends on the table.
MODELS = {
    "StandardScaler": (StandardScaler, None, 1),
    "MinMaxScaler": (MinMaxScaler, None, 1),
    "Normalizer": (Normalizer, None, 0),
    "PCA": (lambda: PCA(3), None, 1),
    "Ridge": (Ridge, "numbers", 1),
    "pipeline": (lambda: make_pipeline(StandardScaler(), PCA(4), Ridge()), "numbers", 1),
    "KMeans": (lambda: KMeans(3, random_state=0, max_iter=5, tol=0.5), None, None),
    "LogisticRegression": (LogisticRegression, "labels", None),
    "GaussianNB": (GaussianNB, "labels", 1),
    "LinearDiscriminantAnalysis": (LinearDiscriminantAnalysis, "labels", 1),
}
METHODS = ("transform", "predict", "predict_proba", "decision_function")


def fitted(name, X, y=None, **more):
    make, target, _ = MODELS[name]
    return make().fit(X, **({} if target is None else {"y": y}), **more)


def answers(model, X):
    return {method: getattr(model, method)(X) for method in METHODS if hasattr(model, method)}


@pytest.fixture
def copies(backend, monkeypatch):
    """The bytes of each copy to the host."""
    sizes = []
    cls, to_host = type(backend.backend), type(backend.backend).to_host

    asked = []

    def counted(self, block):
        asked.append(True)
        host = to_host(self, block)
        asked.pop()
        sizes.append(host.nbytes)
        return host

    monkeypatch.setattr(cls, "to_host", counted)
    if backend.name == "torch":
        import torch

        def converted(self, *args, _array=torch.Tensor.__array__, **kwargs):
            assert asked, "there is another way to the host"
            return _array(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, "__array__", converted)
    return sizes


class TestWhereAnswersLie:
    @on(*DEVICES)
    @pytest.mark.parametrize("name", MODELS)
    def test_rows_are_not_copied_to_the_host_and_answers_are_those_of_numpy(self, backend, name, copies):
        y = Y[MODELS[name][1]]
        there, target = backend.make(X), None if y is None else backend.make(y)
        model = fitted(name, there, target)
        passes = MODELS[name][2]
        if passes is not None and MODELS[name][1] != "labels":
            assert len(copies) <= passes
        # Labels are looked at on the host; rows are not, only what is summed over them, and a sample to start k-means.
        if name != "KMeans":
            assert max(copies, default=0) <= max(X.nbytes / 10, 0 if y is None else 8 * len(y)), copies
        copies.clear()
        got = answers(model, there)
        assert copies == []
        expected = answers(fitted(name, X, y), X)
        assert got.keys() == expected.keys()
        room = max(2e-5, backend.within(1e3))
        for method, values in got.items():
            assert array_api_compat.device(values) == array_api_compat.device(there), method
            host = backend.back(values)
            assert host.dtype.kind == expected[method].dtype.kind, method
            if method == "predict" and MODELS[name][1] != "numbers":
                assert (host == expected[method]).mean() > 0.998, method
            else:
                assert_allclose(host, expected[method], rtol=room, atol=30 * room, err_msg=method)

    @on(*DEVICES)
    @pytest.mark.parametrize("where", ["host", "another device", "another library"])
    @pytest.mark.parametrize("name", ["Ridge", "LogisticRegression", "GaussianNB", "pipeline"])
    def test_targets_and_weights_come_from_anywhere(self, backend, name, where):
        y, w = Y[MODELS[name][1]], np.linspace(0.5, 2, len(X), dtype=np.float32)
        weighted = {} if name == "pipeline" else {"sample_weight": w}
        expected = fitted(name, X, y, **weighted)
        away = elsewhere(backend.name, where)
        model = fitted(name, backend.make(X), away(y), **{part: away(values) for part, values in weighted.items()})
        got = backend.back(model.predict(backend.make(X)))
        assert_allclose(got, expected.predict(X), rtol=1e-3, atol=1e-3)
        assert model.score(backend.make(X), away(y)) == pytest.approx(expected.score(X, y), rel=1e-5)

    @on("torch", "jax")
    def test_host_rows_and_a_target_of_a_device(self, backend):
        expected = LogisticRegression().fit(X, Y["labels"])
        model = LogisticRegression().fit(X, backend.make(Y["labels"]))
        assert_array_equal(model.coef_, expected.coef_)
        assert isinstance(model.predict(X), np.ndarray)

    @on(*DEVICES)
    @pytest.mark.parametrize("model", [LogisticRegression, GaussianNB, lambda: Incremental(SGDClassifier())])
    def test_labels_that_are_text_stay_on_the_host(self, backend, model):
        labels = np.array(["ash", "beech", "oak"])[Y["labels"]]
        fit = model().fit(backend.make(X), labels)
        predicted = fit.predict(backend.make(X))
        assert isinstance(predicted, np.ndarray)
        assert predicted.dtype == labels.dtype
        assert fit.score(backend.make(X), labels) > 0.8

    @on("jax")
    @pytest.mark.parametrize("model", [LogisticRegression, GaussianNB, lambda: Incremental(SGDClassifier())])
    def test_labels_too_large_for_the_device_are_right(self, backend, model):
        labels = Y["labels"].astype(np.int64) + 2**40
        fit = model().fit(backend.make(X), labels)
        assert_array_equal(fit.classes_, np.arange(2**40, 2**40 + 3))
        assert (fit.predict(backend.make(X)) == labels).mean() > 0.8

    @on("jax")
    def test_numbers_too_large_for_the_integers_of_a_device_are_floats_there(self, backend):
        y = np.rint(Y["numbers"]).astype(np.int64) * 10**9
        got = Ridge().fit(backend.make(X), y).coef_
        assert_allclose(got, Ridge().fit(X, y).coef_, rtol=1e-4)


def elsewhere(name, where):
    """Return how to make an array that does not lie where those of the container `name` do."""
    if where == "host":
        return lambda values: values
    if where == "another library":
        import array_api_strict

        if name.startswith("strict"):
            torch = library("torch")
            return lambda values: torch.asarray(np.array(values), device="cpu")
        return lambda values: array_api_strict.asarray(np.array(values))
    if name.startswith("strict"):
        import array_api_strict

        return lambda values: array_api_strict.asarray(np.array(values), device=array_api_strict.Device("CPU_DEVICE"))
    if name == "torch":
        pytest.skip("a machine without accelerators has one device")
    import jax

    return lambda values: jax.device_put(values, jax.devices()[0])


class TestPickles:
    @on(*DEVICES)
    def test_no_trace_of_the_library_is_in_them(self, backend):
        for name in MODELS:
            y = Y[MODELS[name][1]]
            model = fitted(name, backend.make(X), None if y is None else backend.make(y))
            answers(model, backend.make(X[:5]))
            words = {
                str(argument) for _, argument, _ in pickletools.genops(pickle.dumps(model)) if argument is not None
            }
            assert not {word for word in words if word.startswith(("torch", "jax", "array_api_"))}, name

    @on("torch", "jax")
    def test_they_load_where_the_library_is_absent(self, backend, tmp_path):
        models = {}
        for name in MODELS:
            y = Y[MODELS[name][1]]
            models[name] = fitted(name, backend.make(X), None if y is None else backend.make(y))
        expected = {
            name: {method: backend.back(values) for method, values in answers(model, backend.make(X[:50])).items()}
            for name, model in models.items()
        }
        (tmp_path / "models").write_bytes(pickle.dumps((models, X[:50], METHODS)))
        script = """
            import pickle, sys
            class Absent:
                def find_spec(self, name, path=None, target=None):
                    if name.partition(".")[0] in ("torch", "jax", "array_api_strict", "cupy"):
                        raise ImportError(name)
            sys.meta_path.insert(0, Absent())
            models, X, methods = pickle.load(open(sys.argv[1], "rb"))
            got = {
                name: {method: getattr(model, method)(X) for method in methods if hasattr(model, method)}
                for name, model in models.items()
            }
            pickle.dump(got, open(sys.argv[2], "wb"))
        """
        command = [sys.executable, "-c", textwrap.dedent(script), tmp_path / "models", tmp_path / "answers"]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        got = pickle.loads((tmp_path / "answers").read_bytes())
        for name, values in expected.items():
            for method, rows in values.items():
                assert_allclose(got[name][method], rows, rtol=1e-4, atol=1e-4, err_msg=f"{name} {method}")


@on("torch", "jax", "jax-x64")
@pytest.mark.parametrize(
    "estimator",
    [StandardScaler(), PCA(), Ridge(), LogisticRegression(), KMeans(2, random_state=0)],
    ids=lambda one: type(one).__name__,
)
def test_all_of_scikit_learns_checks(backend, estimator):
    if backend.rounding > 1e-10:
        pytest.skip("compared with float64")
    why = "the start draws rows by their number: a repeated row is another than a row of twice the weight"
    expected = {"check_sample_weight_equivalence_on_dense_data": why} if isinstance(estimator, KMeans) else {}
    check_estimator(estimator, on=backend.make, expected_failed_checks=expected)


@on("torch")
class TestTorch:
    """What tensors can be beside dense numbers."""

    @pytest.fixture
    def tensor(self, backend):
        return backend.make(X.astype(np.float64))

    def test_no_gradient_is_followed(self, tensor):
        import torch

        followed = torch.nn.Parameter(tensor)
        for name in MODELS:
            y = Y[MODELS[name][1]]
            target = None if y is None else torch.asarray(y, device="cpu")
            if MODELS[name][1] == "numbers":
                target.requires_grad_(True)
            for method, values in answers(fitted(name, followed, target), followed).items():
                assert not values.requires_grad, (name, method)
        assert followed.grad is None

    @pytest.mark.parametrize(
        "laid",
        [
            lambda x: x.T.contiguous().T,
            lambda x: x.repeat_interleave(2, dim=0)[::2],
            lambda x: x.flip(1).flip(1),
            lambda x: x[:1, :].expand(len(x), -1),
        ],
        ids=["by columns", "every second row", "flipped", "one row, seen often"],
    )
    def test_any_strides(self, tensor, laid):
        seen = laid(tensor)
        rows = seen.numpy()
        pipe = make_pipeline(StandardScaler(), PCA(4), Ridge())
        y = rows @ np.arange(12) + Y["numbers"]
        got = pipe.fit(seen, tensor.new_tensor(y)).predict(seen).numpy()
        assert_allclose(got, pipe.fit(rows, y).predict(rows), rtol=1e-8)

    @pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "int16", "int64", "bool"])
    def test_other_numbers(self, tensor, dtype):
        import torch

        seen = (tensor > 3 if dtype == "bool" else tensor).to(getattr(torch, dtype))
        host = seen.numpy()
        for name in ("StandardScaler", "Ridge", "GaussianNB"):
            y = Y[MODELS[name][1]]
            got, expected = answers(fitted(name, seen, y), seen), answers(fitted(name, host, y), host)
            for method in got:
                assert got[method].numpy().dtype == expected[method].dtype
                assert_allclose(got[method].numpy(), expected[method], rtol=1e-2 if dtype == "float16" else 1e-6)

    def test_an_answer_has_the_memory_of_its_own(self, tensor):
        model = StandardScaler(with_mean=False, with_std=False).fit(tensor)
        assert model.transform(tensor).data_ptr() != tensor.data_ptr()


@on("torch", "jax")
class TestRefused:
    """What has no meaning here says what to do."""

    def test_a_float_that_numpy_does_not_have(self, backend):
        seen = backend.make(X)
        short = seen.bfloat16() if backend.name == "torch" else seen.astype("bfloat16")
        for attempt in (
            lambda: StandardScaler().fit(short),
            lambda: StandardScaler().fit(X).transform(short),
            lambda: Ridge().fit(X, Y["numbers"]).predict(short),
            lambda: Ridge().fit(seen, short[:, 0]),
        ):
            with pytest.raises(DataError, match="bfloat16, which NumPy does not have; convert it, to float32"):
                attempt()

    def test_complex_numbers(self, backend):
        with pytest.raises(DataError, match="Complex data not supported"):
            StandardScaler().fit(backend.make(X.astype(np.complex64)))

    def test_a_missing_value_is_told_with_its_place(self, backend):
        rows = X.copy()
        rows[1234, 7] = np.nan
        with pytest.raises(DataError, match=r"row 1,?234") as told:
            Ridge().fit(backend.make(rows), Y["numbers"])
        assert told.value.rows is not None


@on("jax", "jax-x64")
class TestJax:
    def test_products_keep_all_digits_of_float32(self, backend):
        import jax

        seen = []

        def look(block):
            seen.append(jax.config.jax_default_matmul_precision)
            return block

        backend.backend.map(Rowwise(look), backend.make(X))
        assert seen == ["highest"]
        assert jax.config.jax_default_matmul_precision is None

    @pytest.mark.parametrize("spread", [False, True])
    def test_sums_of_many_rows_keep_their_digits(self, backend, spread):
        import jax

        rows = np.random.default_rng(1).normal(3, 2, size=(200_002, 3)).astype(np.float32)
        there = backend.make(rows)
        if spread:
            mesh = jax.sharding.Mesh(np.array(jax.devices()), ("rows",))
            there = jax.device_put(rows, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows", None)))
        missing = there.at[:, 1].set(np.nan)
        for weight in (None, np.linspace(0.5, 2, len(rows), dtype=np.float32)):
            expected = StandardScaler().fit(rows, sample_weight=weight).var_
            got = StandardScaler().fit(there, sample_weight=weight).var_
            assert_allclose(got, expected, rtol=max(1e-10, backend.within(20)))
            got = StandardScaler().fit(missing, sample_weight=weight).var_
            assert_allclose(got[[0, 2]], expected[[0, 2]], rtol=max(1e-10, backend.within(20)))

    @pytest.mark.parametrize("name", MODELS)
    def test_an_array_spread_over_devices(self, backend, name):
        import jax

        mesh = jax.sharding.Mesh(np.array(jax.devices()), ("rows",))
        spread = jax.device_put(X, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows", None)))
        y = Y[MODELS[name][1]]
        model = fitted(name, spread, None if y is None else backend.make(y))
        expected = answers(fitted(name, X, y), X)
        for method, values in answers(model, spread).items():
            assert len(values.sharding.device_set) == 2, method
            if method != "predict" or MODELS[name][1] == "numbers":
                assert_allclose(np.asarray(values), expected[method], rtol=1e-3, atol=1e-3, err_msg=method)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
@on("strict", "strict-device1", "strict-no_float64", "torch")
def test_what_comes_from_the_host_keeps_its_dtype_where_the_device_has_it(backend, dtype):
    values = np.array([0, 1, 1], dtype=dtype)
    like = backend.make(np.zeros((1, 1), dtype=np.float32))
    got = backend.backend.to_host(backend.backend.from_host(values, like=like))
    kept = dtype if backend.has(dtype) else {"float64": "float32", "int64": "int32"}[dtype]
    assert got.dtype == kept
    assert_array_equal(got, values)
