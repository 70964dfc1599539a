"""The public names, each with the module that it lies in: read by `__init__`, editors and mypy."""

from . import errors as errors
from .cluster.connection import connect as connect
from .cluster.options import ClusterOptions as ClusterOptions
from .datasets import append as append
from .datasets import create_store as create_store
from .datasets import ingest as ingest
from .datasets import link_store as link_store
from .engine.plan import Plan as Plan
from .engine.plan import Resources as Resources
from .estimator import SampleRobustness as SampleRobustness
from .evaluation import Evaluation as Evaluation
from .evaluation import Experiment as Experiment
from .evaluation import Model as Model
from .evaluation import evaluate as evaluate
from .evaluation import read_experiment as read_experiment
from .export import export_scores as export_scores
from .label_issues import find_label_issues as find_label_issues
from .label_issues import label_quality as label_quality
from .labels import LabelMap as LabelMap
from .metrics import Angular as Angular
from .metrics import Chebyshev as Chebyshev
from .metrics import Cityblock as Cityblock
from .metrics import Euclidean as Euclidean
from .metrics import Hamming as Hamming
from .metrics import Mahalanobis as Mahalanobis
from .metrics import Metric as Metric
from .metrics import Minkowski as Minkowski
from .neighbours import nearest_neighbours as nearest_neighbours
from .report import ReportOptions as ReportOptions
from .report import write_report as write_report
from .robustness import RunOptions as RunOptions
from .robustness import sample_robustness as sample_robustness
from .sampler import RobustnessSampler as RobustnessSampler
from .scores import Scores as Scores
from .show.live import live as live
from .store import Store as Store
from .store import StoreSpec as StoreSpec
from .store import append_rows as append_rows
from .store import open_store as open_store
from .subsets import Subset as Subset
from .subsets import class_counts as class_counts
from .subsets import least_robust as least_robust
from .subsets import most_robust as most_robust
from .verify import verify_store as verify_store

__version__: str
