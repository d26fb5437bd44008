"""Machine learning on tables larger than memory, with scikit-learn's interface, on any array library."""

from ooclearn.blocks import Blocks
from ooclearn.config import config_context, get_config, set_config
from ooclearn.incremental import Incremental
from ooclearn.parallel_post_fit import ParallelPostFit
from ooclearn.pipeline import Pipeline, make_pipeline
from ooclearn.plan import Plan
from ooclearn.storage import scan

__version__ = "0.1.0"

__all__ = [
    "Blocks",
    "Incremental",
    "ParallelPostFit",
    "Pipeline",
    "Plan",
    "__version__",
    "config_context",
    "get_config",
    "make_pipeline",
    "scan",
    "set_config",
]
