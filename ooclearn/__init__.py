"""Machine learning on tables larger than memory, with scikit-learn's interface, on any array library.

Names are imported when they are first asked for: `import ooclearn` itself takes a millisecond.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ooclearn.blocks import Blocks
    from ooclearn.compose import ColumnTransformer, make_column_transformer
    from ooclearn.config import config_context, get_config, set_config
    from ooclearn.incremental import Incremental
    from ooclearn.parallel_post_fit import ParallelPostFit
    from ooclearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
    from ooclearn.plan import Plan
    from ooclearn.storage import scan
    from ooclearn.together import explain_all, fit_all

__version__ = "0.1.0"

__all__ = [
    "Blocks",
    "ColumnTransformer",
    "FeatureUnion",
    "Incremental",
    "ParallelPostFit",
    "Pipeline",
    "Plan",
    "__version__",
    "config_context",
    "explain_all",
    "fit_all",
    "get_config",
    "make_column_transformer",
    "make_pipeline",
    "make_union",
    "scan",
    "set_config",
]

_MODULE_OF = {
    "Blocks": "blocks",
    "ColumnTransformer": "compose",
    "FeatureUnion": "pipeline",
    "Incremental": "incremental",
    "ParallelPostFit": "parallel_post_fit",
    "Pipeline": "pipeline",
    "Plan": "plan",
    "config_context": "config",
    "explain_all": "together",
    "fit_all": "together",
    "get_config": "config",
    "make_column_transformer": "compose",
    "make_pipeline": "pipeline",
    "make_union": "pipeline",
    "scan": "storage",
    "set_config": "config",
}

# Modules that users import from, which are attributes of the package as in scikit-learn.
_MODULES = frozenset(
    [
        "backend",
        "cluster",
        "compose",
        "config",
        "covariance",
        "decomposition",
        "diagnostics",
        "discriminant_analysis",
        "exceptions",
        "feature_selection",
        "linear_model",
        "naive_bayes",
        "pipeline",
        "preprocessing",
        "statistics",
        "storage",
        "testing",
    ]
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"ooclearn.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'ooclearn' has no attribute {name!r}")
    value = getattr(import_module(f"ooclearn.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
