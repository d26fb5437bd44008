"""Errors of fitted means and variances against exact arithmetic, where the mean is large.

The rows are the same for both, and what is exact is so for the rows as they are stored: in float32, rounded.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from sklearn import preprocessing as theirs

from harness import markdown, options, report
from ooclearn import preprocessing as ours
from ooclearn.types import Array

RATIOS = (1, 1e2, 1e4, 1e6, 1e7, 1e8)
DTYPES = (np.float64, np.float32)


def exact(column: Array) -> tuple[Fraction, Fraction]:
    """Return mean and variance of a column as it is stored, without any rounding."""
    # Every float is a whole number of the smallest power of two that occurs; whole numbers add up exactly.
    mantissas, exponents = np.frexp(column.astype(np.float64))
    smallest = int(exponents.min()) - 53
    whole = [int(m * 2.0**53) << (int(e) - 53 - smallest) for m, e in zip(mantissas, exponents, strict=True)]
    unit = Fraction(2) ** smallest
    n, total = len(whole), sum(whole)
    spread = n * sum(value * value for value in whole) - total * total
    return unit * Fraction(total, n), unit * unit * Fraction(spread, n * n)


def relative(found: float, wanted: Fraction) -> float:
    """Return the relative error; infinite where the exact number is 0 and the found one is not."""
    if wanted == 0:
        return 0.0 if found == 0 else float("inf")
    return abs(float((Fraction(float(found)) - wanted) / wanted))


def main() -> None:
    """Run the comparison."""
    given = options(__doc__, rows=100_000, repeats=1).parse_args()
    rows, numbers = [], []
    for dtype in DTYPES:
        for ratio in RATIOS:
            X = np.random.default_rng(0).normal(ratio, 1.0, (given.rows, 4)).astype(dtype)
            truth = [exact(column) for column in X.T]
            errors: dict[str, tuple[float, float]] = {}
            for side, module in (("ooclearn", ours), ("scikit-learn", theirs)):
                scaler = module.StandardScaler().fit(X)
                errors[side] = (
                    max(relative(m, mean) for m, (mean, _) in zip(scaler.mean_, truth, strict=True)),
                    max(relative(v, var) for v, (_, var) in zip(scaler.var_, truth, strict=True)),
                )
            cells = [f"{errors[side][i]:.1e}" for i in (0, 1) for side in errors]
            rows.append([f"{np.dtype(dtype)}, mean/std {ratio:.0e}", *cells])
            numbers.append({"dtype": str(np.dtype(dtype)), "ratio": ratio, "mean_and_variance": errors})
    heads = [
        "relative error, the worst of 4 columns",
        "mean, ooclearn",
        "mean, scikit-learn",
        "variance, ooclearn",
        "variance, scikit-learn",
    ]
    title = f"Exactness: StandardScaler on {given.rows:,} rows, against exact arithmetic"
    report("exactness", title, [markdown(heads, rows)], {"rows": given.rows, "errors": numbers}, given.out)


if __name__ == "__main__":
    main()
