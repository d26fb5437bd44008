"""Statistics added up on a device: no value looked at during a pass, one copy at its end, the answers of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import array_api_strict as xp
import numpy as np
import pytest

import ooclearn
from ooclearn.backend import get_backend
from ooclearn.beside import Beside
from ooclearn.decomposition import PCA
from ooclearn.events import Work
from ooclearn.exceptions import DataError
from ooclearn.linear_model import Ridge
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import Binarizer, MinMaxScaler, Normalizer, StandardScaler
from ooclearn.preprocessing.min_max import clipped
from ooclearn.rowmaps import Affine, Columns, Rowwise, compose, on_host
from ooclearn.statistics import CrossScatter, Extrema, FourthMoments, Moments, Scatter, Through, Triangle
from ooclearn.statistics.join import Unweighted
from ooclearn.statistics.protocol import is_summed
from ooclearn.summing import brought_back
from ooclearn.table import Rows, Table
from ooclearn.testing.comparing import leaves
from ooclearn.testing.syncs import no_synchronisation, values_of
from ooclearn.testing.tables import Column, made_rows, part_of

BACKEND = get_backend("array_api")
CUT = (0, 7, 1, 0, 30, 22)
WORK = Work("fold", "summing")


@dataclass(frozen=True)
class Listed:
    """A statistic that is added up, and the targets that it is given."""

    statistic: Any
    labels: str = "numbers"


# A new statistic that is added up is one line here.
SUMMED = {
    "Moments": Listed(Moments()),
    "Extrema": Listed(Extrema()),
    "Scatter": Listed(Scatter()),
    "Scatter with a target": Listed(Scatter(target=True)),
    "Scatter with targets": Listed(Scatter(target=True), "columns"),
    "CrossScatter": Listed(CrossScatter()),
    "CrossScatter with targets": Listed(CrossScatter(), "columns"),
    "CrossScatter, whole numbers": Listed(CrossScatter(), "integers"),
    "FourthMoments": Listed(FourthMoments()),
    "Triangle": Listed(Triangle()),
    "Triangle with targets": Listed(Triangle(target=True), "columns"),
    "Unweighted": Listed(Unweighted(Scatter())),
}
D = 4
RNG = np.random.default_rng(11)
SCALED = Affine(RNG.uniform(0.5, 2, D), center=RNG.normal(100, 1, D), offset=RNG.normal(0, 1, D))
MATRIX = Affine(RNG.normal(0, 1, (D, 3)), center=RNG.normal(100, 1, D), offset=RNG.normal(0, 1, 3))
MAPS = {
    "scaled": SCALED,
    "divided": Affine(RNG.uniform(0.5, 2, D), divide=True),
    "matrix": MATRIX,
    "scaled, infinities refused": replace(SCALED, refuses_infinite=True),
    "one column refused": replace(SCALED, refuses_infinite=np.array([False, True, False, False])),
    "columns": Columns((2, 0, 2)),
    "chain": compose(Normalizer()._row_map(), Columns((3, 1)), Affine(np.array([2.0, 3.0]))),
    "beside": Beside((SCALED, Columns((1,)), None)),
    "nothing beside": Beside((compose(Columns(()), None), SCALED)),
    "norms l1": Normalizer(norm="l1")._row_map(),
    "norms l2": Normalizer()._row_map(),
    "norms max": Normalizer(norm="max")._row_map(),
    "above": Binarizer(threshold=100.0)._row_map(),
    "clipped": compose(SCALED, clipped(-1.0, 0.5)),
}


def on_device(values, device="device1"):
    return None if values is None else xp.asarray(np.array(values), device=xp.Device(device))


def made(dtype="float64", weights=None, labels="numbers", kind="normal"):
    """Rows some hundred deviations from 0, so that an origin that is lost shows."""
    columns = [Column(kind, 100.0), Column("normal", -3.0), Column("integers"), Column("normal", 20.0)]
    return made_rows(sum(CUT), columns, dtype=dtype, weights=weights, labels=labels, seed=3)


def pieces(rows, device="device1"):
    stops = np.cumsum(CUT)
    parts = [part_of(rows, int(stop) - n, int(stop)) for stop, n in zip(stops, CUT, strict=True) if n]
    return [Rows(*(on_device(part, device) for part in (one.X, one.y, one.w)), labels=one.y) for one in parts]


def added_up(statistic, parts, guard=no_synchronisation):
    """Add up as a pass does; the whole of it under the guard."""
    with guard():
        origin = statistic.origin(parts[0])
        sums = statistic.sums(parts[0], origin)
        for part in parts[1:]:
            sums = statistic.add(sums, statistic.sums(part, origin))
    return statistic.state(*brought_back([origin, sums], BACKEND.to_host), sum(part.n for part in parts))


def assert_alike(got, expected, rounding=2.0**-52):
    mine, theirs = (
        {path: np.asarray(leaf) for path, leaf in leaves(state) if not path.endswith((".rest", ".rounding"))}
        for state in (got, expected)
    )
    assert list(mine) == list(theirs)
    for path, value in mine.items():
        assert value.shape == theirs[path].shape, path
        size = np.max(np.abs(theirs[path]), initial=0.0, where=np.isfinite(theirs[path]))
        np.testing.assert_allclose(value, theirs[path], rtol=0, atol=5e4 * rounding * size, err_msg=path)


def table(rows, *, device=True):
    """The rows as a table in blocks, on the device or on the host."""
    blocks = [
        None if part is None else BACKEND.blocks(on_device(part)) if device else ooclearn.scan(np.array(part))
        for part in (rows.X, rows.y, rows.w)
    ]
    return Table(*(None if part is None else part.recut(CUT) for part in blocks))


def folded(statistic, rows, *, device=True):
    given = table(rows, device=device)
    return given.backend.fold(given, statistic, work=WORK)


@pytest.fixture
def copies(monkeypatch):
    """The shapes of what is copied to the host by the backend."""
    seen: list[tuple[int, ...]] = []
    kind = type(BACKEND)
    copy: Callable[..., Any] = kind.to_host

    def to_host(self, block, /):
        seen.append(block.shape)
        return copy(self, block)

    monkeypatch.setattr(kind, "to_host", to_host)
    return seen


@pytest.mark.parametrize("weights", [None, "some zero", "all zero"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
@pytest.mark.parametrize("name", SUMMED)
def test_no_value_is_looked_at_and_the_answer_is_that_of_numpy(name, dtype, weights):
    listed = SUMMED[name]
    assert is_summed(listed.statistic)
    rows = made(dtype, weights, listed.labels)
    got = added_up(listed.statistic, pieces(rows))
    assert got is not None
    assert_alike(got, listed.statistic.of(rows))


@pytest.mark.parametrize("name", SUMMED)
def test_a_device_without_float64(name):
    listed = SUMMED[name]
    rows = made("float32", "some zero", listed.labels)
    rows = replace(rows, w=rows.w.astype(np.float32), y=rows.y.astype(np.float32))
    got = added_up(listed.statistic, pieces(rows, "no_float64"))
    assert got is not None
    assert_alike(got, listed.statistic.of(rows), rounding=2.0**-23)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("name", MAPS)
def test_through_row_maps(name, dtype):
    """Also the maps look at no value, and what they need of the host goes to the device once."""
    row_map = MAPS[name]
    statistic = Through(Moments(), row_map)
    assert not on_host(row_map)
    assert is_summed(statistic)
    rows = made(dtype, "some zero")
    parts = pieces(rows)
    got = added_up(statistic, parts)
    assert_alike(got, Moments().of(replace(rows, X=row_map(rows.X))), rounding=2.0**-52 if dtype != "float32" else 1e-7)


@pytest.mark.parametrize("name", MAPS)
def test_what_a_map_refuses_is_named(name):
    """Infinities and NaN that a map refuses leave their mark, though it looks at nothing; what it takes is taken."""
    row_map = MAPS[name]
    for bad in (np.nan, np.inf, -np.inf):
        for column in range(D):
            X = np.array(made().X)
            X[40, column] = bad
            for statistic in (Through(Moments(), row_map), Through(Extrema(), row_map)):
                assert_same_outcome(statistic, Rows(X))


def assert_same_outcome(statistic, rows):
    """Assert that a fold on a device gives what one on the host gives: the error with its place, or the answer."""
    try:
        expected = folded(statistic, rows, device=False)
    except DataError as error:
        with pytest.raises(type(error)) as found:
            folded(statistic, rows)
        for field in ("rows", "column", "block", "part"):
            assert getattr(found.value, field) == getattr(error, field), field
        return
    assert_alike(folded(statistic, rows), expected)


@pytest.mark.parametrize("role", ["X", "y", "w"])
@pytest.mark.parametrize("name", SUMMED)
def test_what_spoils_sums_is_named_or_left_out(name, role):
    listed = SUMMED[name]
    for bad in (np.nan, np.inf, -np.inf, -1.0):
        rows = made(weights="counts", labels=listed.labels)
        part = np.array(getattr(rows, role), dtype=np.float64)
        part[(40, 1) if part.ndim > 1 else 40] = bad
        given: dict[str, Any] = {role: part}
        rows = replace(rows, **given)
        state = added_up(listed.statistic, pieces(rows))
        if state is not None:
            assert_alike(state, listed.statistic.of(rows))
        assert_same_outcome(listed.statistic, rows)


@pytest.mark.parametrize("name", SUMMED)
def test_all_missing_and_one_row(name):
    listed = SUMMED[name]
    rows = made(labels=listed.labels, kind="missing")
    assert_same_outcome(listed.statistic, rows)
    one = part_of(made(labels=listed.labels), 0, 1)
    device = Rows(*(on_device(part) for part in (one.X, one.y, one.w)))
    assert_alike(added_up(listed.statistic, [device]), listed.statistic.of(one))


@pytest.mark.parametrize("name", [name for name in SUMMED if name not in {"Extrema", "Unweighted"}])
@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_first_rows_that_say_nothing_of_the_others(name, offset):
    """All of no weight, and far away: to centre by them would lose all digits, so the pass is made block by block."""
    listed = SUMMED[name]
    rows = made(weights="counts", labels=listed.labels)
    X, w = np.array(rows.X), np.array(rows.w)
    w[:8] = 0.0
    X[:8] += offset * 1e3
    rows = replace(rows, X=X, w=w)
    assert added_up(listed.statistic, pieces(rows)) is None
    assert_same_outcome(listed.statistic, rows)


def test_missing_first_rows_far_from_0():
    X = np.array(made().X)
    X[:, 1] += 1e8
    X[:8, 1] = np.nan
    assert added_up(Moments(), pieces(Rows(X))) is None
    assert_same_outcome(Moments(), Rows(X))
    X[:, 1] -= 1e8  # near 0 an origin of 0 does as well
    assert added_up(Moments(), pieces(Rows(X))) is not None


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_digits_about_one_origin(offset):
    """The first rows lie a thousand deviations from all others: about as many digits are lost as there are blocks."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((6000, 3)) + offset
    X[:100] += 1e3
    parts = [Rows(on_device(X[i : i + 100])) for i in range(0, 6000, 100)]
    about = (X - offset).astype(np.longdouble)
    centred = about - about.mean(axis=0)
    for statistic in (Scatter(), FourthMoments()):
        got = added_up(statistic, parts)
        found = got if isinstance(statistic, Scatter) else got.scatter
        expected = (centred.T @ centred).astype(np.float64)
        np.testing.assert_allclose(found.scatter, expected, rtol=60 * 64 * 2.0**-52)
    fourth = ((centred**2).T @ (centred**2)).astype(np.float64)
    np.testing.assert_allclose(got.fourth, fourth, rtol=60 * 64 * 2.0**-52)


def test_a_constant_column_has_no_deviations():
    X = np.array(made().X)
    X[:, 1] = 0.1
    for w in (None, made(weights="some zero").w):
        state = added_up(CrossScatter(), pieces(Rows(X, made().y, w)))
        assert state.m2[1] == 0.0
        assert not state.xy[1].any()


def test_the_factor_of_nearly_dependent_columns():
    """Products of columns would leave nothing of a direction of 1e-10."""
    rng = np.random.default_rng(0)
    u, v = np.linalg.qr(rng.standard_normal((2000, D)))[0], np.linalg.qr(rng.standard_normal((D, D)))[0]
    X = (u - u.mean(axis=0)) * np.geomspace(1, 1e-10, D) @ v.T
    parts = [Rows(on_device(X[i : i + 70])) for i in range(0, 2000, 70)]
    got = np.linalg.svd(added_up(Triangle(), parts).xx, compute_uv=False)
    expected = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(got, expected, rtol=0, atol=64 * 2.0**-52)


def test_brought_back_is_one_copy(copies):
    there = on_device(np.arange(6.0).reshape(2, 3))
    given = [{"a": there, "n": xp.sum(there), "k": None}, {"b": on_device(np.array([3, 4])), "h": np.ones(2), "t": 1.5}]
    got = brought_back(given, BACKEND.to_host)
    assert copies == [(9,)]
    np.testing.assert_array_equal(got[0]["a"], [[0, 1, 2], [3, 4, 5]])
    assert got[0]["n"] == 15.0
    assert got[0]["k"] is None
    np.testing.assert_array_equal(got[1]["b"], [3, 4])
    assert got[1]["h"] is given[1]["h"]
    assert got[1]["t"] == 1.5


@pytest.mark.parametrize(
    ("estimator", "passes"),
    [
        (StandardScaler(), 1),
        (MinMaxScaler(), 1),
        (PCA(n_components=2), 1),
        (Ridge(), 1),
        (make_pipeline(StandardScaler(), PCA(n_components=2), Ridge()), 1),
        (make_pipeline(Normalizer(), StandardScaler(), Ridge()), 1),
    ],
    ids=str,
)
def test_a_fit_copies_once_a_pass(estimator, passes, copies, monkeypatch):
    folds = []
    kind = type(BACKEND)
    fold = kind.fold

    def counted(self, *args, **kwargs):
        folds.append(args)
        return fold(self, *args, **kwargs)

    monkeypatch.setattr(kind, "fold", counted)
    rows = made()
    X, y = (BACKEND.blocks(on_device(part)).recut(CUT) for part in (rows.X, rows.y))
    estimator.fit(X, y)
    assert len(folds) == passes
    assert len(copies) <= passes


@pytest.mark.parametrize("name", SUMMED)
def test_a_fold_waits_once(name, monkeypatch):
    """The whole of a pass under the guard, cutting into blocks included; the one copy at its end is let through."""
    copied = []
    monkeypatch.setattr(type(BACKEND), "to_host", lambda _, block: copied.append(block.shape) or values_of(block))
    listed = SUMMED[name]
    rows = made("float32", "some zero", listed.labels)
    given = table(rows)
    with no_synchronisation():
        got = BACKEND.fold(given, listed.statistic, work=WORK)
    assert len(copied) == 1
    assert_alike(got, listed.statistic.of(rows))


class TestRowMaps:
    @pytest.mark.parametrize("name", MAPS)
    def test_host_arrays_go_to_a_device_once(self, name, monkeypatch):
        row_map = MAPS[name]
        block = on_device(made().X)
        sent = []
        monkeypatch.setattr("ooclearn.affine.like", partial(_like, sent))
        statistic = Through(Moments(), row_map)
        statistic.sums(Rows(block), statistic.origin(Rows(block)))
        sent.clear()
        statistic.sums(Rows(block), statistic.origin(Rows(block)))
        assert not sent

    def test_each_device_and_dtype_has_its_own(self):
        row_map = Affine(np.array([2.0, 3.0]), center=np.array([1.0, 1e8 + 1]))
        X = np.array([[1.0, 1e8], [3.0, 2e8]], dtype=np.float32)
        for device in ("CPU_DEVICE", "device1", "no_float64", "device1"):
            out = row_map(on_device(X, device))
            assert out.device == xp.Device(device)
            np.testing.assert_allclose(BACKEND.to_host(out), row_map(X), rtol=1e-6)

    def test_what_is_kept_is_no_part_of_the_map(self):
        import copy
        import pickle

        one, other = Columns((1, 0)), Columns((1, 0))
        one(on_device(np.ones((2, 2))))
        assert one == other
        assert hash(one) == hash(other)
        assert repr(one) == repr(other)
        assert pickle.dumps(one) == pickle.dumps(other)
        again = pickle.loads(pickle.dumps(one))
        assert again == one
        assert not again._kept
        assert not copy.deepcopy(one)._kept
        affine = Affine(np.ones(2), refuses_infinite=True)
        Through(Moments(), affine).sums(Rows(on_device(np.ones((2, 2)))), {"shift": 0.0})
        assert not pickle.loads(pickle.dumps(affine))._kept

    def test_on_host_looks_at_the_parts(self):
        plain, host = Beside((SCALED, None)), Rowwise(np.negative, host=True)
        assert not on_host(plain)
        assert not on_host(compose(plain, Normalizer()._row_map()))
        assert on_host(Beside((SCALED, host)))
        assert on_host(Beside((SCALED, compose(SCALED, Beside((host,))))))
        assert not is_summed(Through(Moments(), Beside((host, SCALED))))

    def test_no_columns_stay_on_the_device(self):
        out = Beside(())(on_device(np.ones((3, 2))))
        assert out.shape == (3, 0)
        assert out.device == xp.Device("device1")


def _like(sent, values, x, /, dtype=None):
    from ooclearn._namespace import like

    sent.append(values)
    return like(values, x, dtype)
