"""``Incremental``: feed blocks, from any container, to ``partial_fit``."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from numbers import Integral
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing

from ooclearn._compat import HasMethods, Interval, StrOptions
from ooclearn.base import busy, commit, unfitted_copy
from ooclearn.blockwise import Blockwise, tags_of
from ooclearn.feeds import Feed, Order
from ooclearn.labels import Labels, balanced_weights, classes_from
from ooclearn.partial import Check, Trainer, check_supported, leaves_rows, models_in, takes, takes_device_arrays
from ooclearn.passes import Fit, Request, Stage, run
from ooclearn.plan import Plan, planned
from ooclearn.rowmaps import RowMap
from ooclearn.statistics import Distinct, DistinctState
from ooclearn.table import Schema, Table
from ooclearn.validation import as_table, split_target

__all__ = ["Incremental"]


class Incremental(Blockwise):
    """Train an estimator that has ``partial_fit`` on a table of any size, block by block.

    Blocks are read, mapped through the pipeline's steps above and shuffled by worker threads ahead of the one
    ``partial_fit`` that runs, in bounded memory. Works with every scikit-learn estimator that has the method, and
    with any other object that has it.

    Parameters
    ----------
    estimator : object with ``partial_fit``
        Is cloned, not changed.
    epochs : int, default=1
        How often the table is fed: one pass each.
    classes : array-like, list of array-like or None, default=None
        The labels that can occur. By default they are found by a pass over `y` (in an ooclearn pipeline that pass
        is shared with the scaler's and costs nothing).
    shuffle : bool or "auto", default="auto"
        Draw the rows of every block from all over the table and mix them, anew for each epoch, while they are
        read. "auto" does so if the estimator, or one inside it, has a parameter ``shuffle`` that is true; the
        estimator's own shuffling, within a block only, is then switched off during the fit. Files and arrays are
        drawn from in runs of rows; Dask arrays chunk by chunk.
    block_rows : int or None, default=None
        Rows of the blocks that are fed; by default blocks have ``block_bytes`` bytes (see
        :func:`ooclearn.set_config`).
    scoring : str, callable or None, default=None
        What :meth:`score` computes; by default the estimator's own score.
    random_state : int, RandomState or None, default=None
        Seed of the shuffling. By default the estimator's ``random_state`` if that is an integer, and else 0: the
        same order every time. A RandomState is not used up: it gives the same order every time, too.

    Attributes
    ----------
    estimator_ : object
        The trained estimator. Its fitted attributes (``coef_``, ``classes_``, ...) can be had from this object too.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.
    n_epochs_ : int
        Passes of training that the estimator has had.

    Notes
    -----
    Passes over the data: one for each epoch, and one over `y` alone to find the classes. Memory: a few blocks, as
    read and as prepared; ``explain`` gives the number. A fit that fails leaves this object as it was.

    With ``shuffle=False`` and an estimator that does not shuffle, one epoch over any cut of the rows is one epoch of
    the estimator's own ``fit``. For estimators whose model depends on the blocks (k-means, decompositions), so does
    the result here.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn import Incremental
    >>> from sklearn.linear_model import SGDClassifier
    >>> X = np.random.default_rng(0).standard_normal((1000, 3))
    >>> y = X[:, 0] > 0
    >>> model = Incremental(SGDClassifier(random_state=0), epochs=2).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["partial_fit"])],
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "classes": ["array-like", None],
        "shuffle": ["boolean", StrOptions({"auto"})],
        "block_rows": [Interval(Integral, 1, None, closed="left"), None],
        "scoring": [str, callable, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        epochs: int = 1,
        classes: Any = None,
        shuffle: bool | str = "auto",
        block_rows: int | None = None,
        scoring: Any = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.epochs = epochs
        self.classes = classes
        self.shuffle = shuffle
        self.block_rows = block_rows
        self.scoring = scoring
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> Self:
        """Train a clone of the estimator from the beginning, block by block.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array, sparse array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,) or (n_samples, n_outputs), optional
            The targets, cut at other rows than `X` or not.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.
        **params : dict
            ``classes``, in the place of the parameter; others are passed to every ``partial_fit`` as they are.

        Returns
        -------
        self : object
            This object, with a new ``estimator_``.

        Raises
        ------
        DataError
            Rows, labels or weights that cannot be used; says in which file, block, row and column.
        """
        return self._train(X, y, sample_weight, params, caller="fit")

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None, **params: Any) -> Self:
        """Train on with more rows, in one pass over them.

        Called n times with the same table, it does what one :meth:`fit` of n epochs does.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array, sparse array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,) or (n_samples, n_outputs), optional
            The targets.
        classes : array-like, optional
            The labels that can occur. Needed at the first call, unless the parameter `classes` is set: these rows
            may not have them all.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.
        **params : dict
            Passed to every ``partial_fit`` of the estimator as they are.

        Returns
        -------
        self : object
            This object, with a new ``estimator_``: one that was taken before stays as it was.

        Raises
        ------
        DataError
            As :meth:`fit`.
        ValueError
            The first call knows no `classes`, and the estimator needs them.
        """
        if classes is not None:
            params = {**params, "classes": classes}
        return self._train(X, y, sample_weight, params, caller="partial_fit")

    def explain(self, X: Any, y: Any = None, sample_weight: Any = None) -> Plan:
        """Return, without reading any data, the passes that :meth:`fit` will make.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array, sparse array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks, optional
            The targets.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        Plan
            One pass an epoch, and one before for the classes of a classifier where they are not given; it prints itself,
            and shows as HTML in a notebook.
        """
        self._validate_params()
        working = unfitted_copy(self)
        table = working._table(X, y, sample_weight)
        requests = working._requests(table.schema)
        return planned([Stage(type(self).__name__, (request for request in requests))], table)

    def _train(self, X: Any, y: Any, sample_weight: Any, params: dict[str, Any], *, caller: str) -> Self:
        with busy(self):
            self._validate_params()
            params, sample_weight = self._routed(params, sample_weight, caller)
            whole = caller == "fit"
            working = unfitted_copy(self) if whole else copy.copy(self)
            working._extra, working._whole = params, whole
            new = "estimator_" not in vars(working)
            if new and not whole and working._given_classes() is None and takes(self.estimator, "classes"):
                raise ValueError("classes must be passed on the first call to partial_fit.")
            table = working._table(X, y, sample_weight, reset=new)
            run([Stage(type(self).__name__, working._passes(table.schema))], table)
            commit(self, working)
        return self

    def _take_params(self, params: dict[str, Any]) -> None:
        """Take what a pipeline passes to this step's ``fit``, sample weights excepted."""
        self._extra = self._routed(params, None, "fit")[0]

    def _routed(self, params: dict[str, Any], sample_weight: Any, caller: str) -> tuple[dict[str, Any], Any]:
        if not sklearn.get_config()["enable_metadata_routing"]:
            return params, sample_weight
        if sample_weight is not None:
            params = {**params, "sample_weight": sample_weight}
        # The classes are for this object to hand on, whether the estimator has asked for them or not.
        classes = {"classes": params["classes"]} if "classes" in params else {}
        rest = {name: value for name, value in params.items() if name != "classes"}
        routed = dict(process_routing(self, caller, **rest).estimator.partial_fit)
        sample_weight = routed.pop("sample_weight", None)
        return {**routed, **classes}, sample_weight

    def get_metadata_routing(self) -> MetadataRouter:
        """Return where metadata goes: what ``fit`` gets, to the estimator's ``partial_fit``.

        Returns
        -------
        MetadataRouter
            Of scikit-learn, with the requests of the estimator.
        """
        mapping = MethodMapping()
        mapping.add(caller="fit", callee="partial_fit").add(caller="partial_fit", callee="partial_fit")
        if hasattr(self.estimator, "score"):
            mapping.add(caller="score", callee="score")
        return MetadataRouter(owner=self).add(estimator=self.estimator, method_mapping=mapping)

    # What the driver asks for. A fit works on a copy of this object: these are set on the copy.

    _extra: Mapping[str, Any] = MappingProxyType({})
    _whole: bool = True

    estimator_: Any
    n_epochs_: int
    _dtype_: np.dtype[Any]
    _classes_: Any

    def _table(self, X: Any, y: Any = None, sample_weight: Any = None, *, reset: bool = True) -> Table:
        X, y = split_target(X, y)
        rows = self._rows(X, reset=reset)
        return as_table(rows, y, sample_weight, names=vars(self).get("feature_names_in_"))

    def _given_classes(self) -> Any:
        return self._extra.get("classes", self.classes)

    def _balanced(self) -> bool:
        return getattr(self.estimator, "class_weight", None) == "balanced"

    def _asks_classes(self, schema: Schema) -> bool:
        """Whether a pass over y is needed: to find the classes, or to weigh them."""
        if schema.target is None or not self._whole:
            return False
        return self._balanced() or (self._given_classes() is None and takes(self.estimator, "classes"))

    def _requests(self, schema: Schema) -> Sequence[Request]:
        check_supported(self.estimator)
        feeds = [self._feed(None, epoch, 0) for epoch in range(self.epochs)]
        return [Distinct(), *feeds] if self._asks_classes(schema) else feeds

    def _passes(self, schema: Schema) -> Fit:
        """Find the classes, then feed once an epoch."""
        new = "estimator_" not in vars(self)
        estimator = clone(self.estimator, safe=False) if new else copy.deepcopy(self.estimator_)
        check_supported(estimator)
        if schema.target is None and tags_of(estimator).target_tags.required:
            raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
        params = self._partial_params(estimator, weighted=schema.weighted)
        found = (yield Distinct()) if new and self._asks_classes(schema) else None
        trainer = Trainer(
            estimator,
            self._labels(estimator, found, schema) if new else Labels.known(self._classes_, self._given_classes()),
            params,
            dtype=getattr(self, "_dtype_", None),
            new=new,
            mixed=self._shuffles(),
        )
        done = getattr(self, "n_epochs_", 0)
        seed = self._seed()
        self.n_epochs_ = done + (self.epochs if self._whole else 1)
        with trainer.training():
            for epoch in range(done, self.n_epochs_):
                yield self._feed(trainer, epoch, seed)
                trainer.end_epoch()
        if self._whole:
            trainer.labels.warn_unseen()
        assert trainer.dtype is not None
        self.estimator_, self._dtype_, self._classes_ = estimator, trainer.dtype, trainer.labels.classes
        if trainer.n_columns is not None:
            self.n_features_in_ = trainer.n_columns

    def _feed(self, trainer: Trainer | None, epoch: int, seed: int) -> Feed:
        shuffle = self._shuffles()
        tags = tags_of(self.estimator).input_tags
        drawn = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
        return Feed(
            _nothing if trainer is None else trainer.consume,
            Order(self.block_rows, shuffle, drawn if shuffle else 0),
            mark=_nothing if trainer is None else trainer.mark,
            check=_nothing if trainer is None else Check(trainer.labels),
            finite=tags.two_d_array and not tags.allow_nan,
            title=f"{type(self.estimator).__name__}.partial_fit"
            + (f", epoch {epoch + 1} of {self.epochs}" if self._whole and self.epochs > 1 else "")
            + (", shuffled" if shuffle else ""),
            host=not takes_device_arrays(self.estimator),
            reads_only=leaves_rows(self.estimator),
        )

    def _shuffles(self) -> bool:
        if self.shuffle == "auto":
            return any(getattr(model, "shuffle", False) is True for model in models_in(self.estimator))
        return bool(self.shuffle)

    def _seed(self) -> int:
        state = self.random_state
        if state is None:
            state = getattr(self.estimator, "random_state", None)
            return int(state) if isinstance(state, Integral) else 0
        # A generator is not used up: a fit that fails, or is only explained, leaves it as it was.
        return int(state) if isinstance(state, Integral) else int(copy.deepcopy(state).randint(2**31))

    def _labels(self, estimator: Any, found: DistinctState | None, schema: Schema) -> Labels:
        if found is not None and self._balanced():
            # As over all rows; partial_fit would weigh each block by itself, and refuses to.
            estimator.set_params(class_weight=balanced_weights(found))
        given = self._given_classes()
        if not takes(estimator, "classes") or (found is None and given is None):
            return Labels(None)
        target = tags_of(estimator).target_tags
        several = (
            target.multi_output and schema.n_targets is not None and (schema.n_targets > 1 or not target.single_output)
        )
        return Labels(classes_from(found, given, several=several), given is not None, found)

    def _partial_params(self, estimator: Any, *, weighted: bool) -> dict[str, Any]:
        params = {name: value for name, value in self._extra.items() if name != "classes"}
        given = {"sample_weight": weighted, "classes": self._given_classes() is not None}
        for name in [*params, *(name for name, is_given in given.items() if is_given)]:
            if not takes(estimator, name):
                raise TypeError(f"{type(estimator).__name__}.partial_fit takes no {name!r}")
        return params

    def _row_map(self) -> RowMap:
        columns = getattr(self, "n_features_in_", None)
        return self._method_map("transform", n_columns=columns, dtype=self._dtype_)


def _nothing(*_: Any) -> None:
    """Stand in the place of a trainer in plans."""
