"""That scikit-learn's checks ran, all of them that can run where the tests do."""

from __future__ import annotations

import importlib.util
from typing import Any

# Runs where the array API is switched on in scikit-learn, and without data of that kind tells nothing.
_MAY_BE_SKIPPED = {"check_array_api_input"}
if importlib.util.find_spec("polars") is None:  # it has no wheels for free-threaded Python
    _MAY_BE_SKIPPED |= {"check_set_output_transform_polars", "check_global_set_output_transform_polars"}


def assert_all_ran(results: list[dict[str, Any]]) -> None:
    """Look at what ``check_estimator`` tells of each check."""
    assert {one["check_name"] for one in results if one["status"] == "skipped"} <= _MAY_BE_SKIPPED
