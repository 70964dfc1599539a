"""dskrobust: exact sample robustness for labelled data sets larger than memory.

The public API; everything else is reached through it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "Angular": "metrics",
    "Chebyshev": "metrics",
    "Cityblock": "metrics",
    "Euclidean": "metrics",
    "Evaluation": "evaluation",
    "Experiment": "evaluation",
    "Hamming": "metrics",
    "LabelMap": "labels",
    "Mahalanobis": "metrics",
    "Metric": "metrics",
    "Minkowski": "metrics",
    "Model": "evaluation",
    "RunOptions": "runs",
    "Plan": "engine.plan",
    "Resources": "engine.plan",
    "RobustnessSampler": "sampler",
    "SampleRobustness": "estimator",
    "Scores": "scores",
    "Store": "store",
    "StoreSpec": "store",
    "Subset": "subsets",
    "append_rows": "store",
    "class_counts": "subsets",
    "count_within": "counts",
    "create_store": "datasets",
    "evaluate": "evaluation",
    "export_scores": "export",
    "find_label_issues": "label_issues",
    "ingest": "datasets",
    "label_quality": "label_issues",
    "least_robust": "subsets",
    "live": "show.live",
    "local_set_size": "counts",
    "make_plan": "engine.plan",
    "most_robust": "subsets",
    "nearest_neighbours": "neighbours",
    "open_store": "store",
    "plan_store": "runs",
    "read_experiment": "evaluation",
    "sample_robustness": "robustness",
    "verify_store": "verify",
    "write_report": "report",
}

if TYPE_CHECKING:
    from .counts import count_within, local_set_size
    from .datasets import create_store, ingest
    from .engine.plan import Plan, Resources, make_plan
    from .estimator import SampleRobustness
    from .evaluation import Evaluation, Experiment, Model, evaluate, read_experiment
    from .export import export_scores
    from .label_issues import find_label_issues, label_quality
    from .labels import LabelMap
    from .metrics import (
        Angular,
        Chebyshev,
        Cityblock,
        Euclidean,
        Hamming,
        Mahalanobis,
        Metric,
        Minkowski,
    )
    from .neighbours import nearest_neighbours
    from .report import write_report
    from .robustness import sample_robustness
    from .runs import RunOptions, plan_store
    from .sampler import RobustnessSampler
    from .scores import Scores
    from .show.live import live
    from .store import Store, StoreSpec, append_rows, open_store
    from .subsets import Subset, class_counts, least_robust, most_robust
    from .verify import verify_store

__all__ = [
    "Angular",
    "Chebyshev",
    "Cityblock",
    "Euclidean",
    "Evaluation",
    "Experiment",
    "Hamming",
    "LabelMap",
    "Mahalanobis",
    "Metric",
    "Minkowski",
    "Model",
    "RunOptions",
    "Plan",
    "Resources",
    "RobustnessSampler",
    "SampleRobustness",
    "Scores",
    "Store",
    "StoreSpec",
    "Subset",
    "__version__",
    "append_rows",
    "class_counts",
    "count_within",
    "create_store",
    "evaluate",
    "export_scores",
    "find_label_issues",
    "ingest",
    "label_quality",
    "least_robust",
    "live",
    "local_set_size",
    "make_plan",
    "most_robust",
    "nearest_neighbours",
    "open_store",
    "plan_store",
    "read_experiment",
    "sample_robustness",
    "verify_store",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # loaded on first use: a worker that only runs tiles needs neither scikit-learn nor readers
    if name in _WHERE:
        return getattr(import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
