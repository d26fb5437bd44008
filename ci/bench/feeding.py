"""``Incremental`` against the estimator alone on blocks that are ready: the share of its rate that is kept.

The estimator alone gets blocks in memory whose rows were mixed beforehand, and so need not be shuffled.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import SGDClassifier

import ooclearn
from harness import interleaved, markdown, options, report, scratch
from limits import bare_training
from ooclearn import Incremental
from ooclearn.demo.table import Recipe, stored
from ooclearn.types import Array

ALONE = "partial_fit alone, blocks ready"
BLOCK = 100_000


def main() -> None:
    """Run the comparison."""
    given = options(__doc__, rows=1_000_000).parse_args()
    with scratch() as folder:
        table, _ = stored(folder, Recipe(given.rows))
        X, y = np.load(table.rows), np.load(table.labels)
        X -= X.mean(axis=0)
        X /= X.std(axis=0)
        np.save(folder / "scaled.npy", X)
        blocks = [(X[a : a + BLOCK], y[a : a + BLOCK]) for a in range(0, given.rows, BLOCK)]
        file, labels = ooclearn.scan(folder / "scaled.npy"), ooclearn.scan(table.labels)

        def driven(rows: Array, targets: Array, *, shuffle: bool) -> Callable[[], object]:
            model = SGDClassifier(shuffle=shuffle, random_state=0)
            return lambda: Incremental(model, classes=[0, 1]).fit(rows, targets)

        calls: dict[str, Callable[[], object]] = {
            ALONE: lambda: bare_training(blocks, given.rows),
            "Incremental, array in memory, order kept": driven(X, y, shuffle=False),
            "Incremental, array in memory, shuffled": driven(X, y, shuffle=True),
            "Incremental, file, order kept": driven(file, labels, shuffle=False),
            "Incremental, file, shuffled": driven(file, labels, shuffle=True),
            "SGDClassifier.fit, one epoch, shuffled": lambda: SGDClassifier(max_iter=1, tol=None, random_state=0).fit(
                X, y
            ),
        }
        timings = interleaved(calls, given.repeats)
    n_bytes = given.rows * 160
    rows = [
        [
            name,
            f"{given.rows / timings[name] / 1e6:.2f}",
            f"{n_bytes / timings[name] / 1e9:.2f}",
            f"{timings[ALONE] / timings[name]:.0%}",
        ]
        for name in calls
    ]
    heads = ["", "million rows/s", "GB/s", "of the rate alone"]
    title = f"Training by blocks: SGDClassifier, {given.rows:,} x 20 float64"
    numbers = {"rows": given.rows, "seconds": timings.seconds}
    report("feeding", title, [markdown(heads, rows)], numbers, given.out)


if __name__ == "__main__":
    main()
