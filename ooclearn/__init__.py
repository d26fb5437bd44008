"""Machine learning on tables larger than memory, with scikit-learn's interface, on any array library."""

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
