"""Imports between the modules of dskrobust only ever point down the list of floors.

A floor is a room (a folder with all its files) or a module. A module may import what lies on its
own floor or below; within a room files import each other without a circle, and some rooms are
closed to some libraries.
"""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers import ROOT

PACKAGE = ROOT / "dskrobust"

FLOORS = (  # from the foundations up
    "credentials",
    "errors",
    "extras",
    "user_warnings",
    "whole_numbers",
    "declared_types",
    "own_code",
    "renaming",
    "processes",
    "blas",
    "covariance",
    "clients",
    "dask_arrays",
    "spreadsheets",
    "paths",
    "outputs",
    "display",
    "space",
    "labels",
    "ids",
    "metrics",
    "definitions",
    "collection",
    "selection",
    "store",
    "datasets",
    "kernels",
    "engine",
    "cluster",
    "ranking",
    "memory",
    "block_tasks",
    "records",
    "stored_rows",
    "labelled_rows",
    "export",
    "show.sheets",
    "show.terminal",
    "show.bounds",
    "show.run_board",
    "show.dashboard",
    "show.board",
    "show.shown_runs",
    "show.overview",
    "scores",
    "runs",
    "row_sets",
    "references",
    "searches",
    "new_samples",
    "robustness",
    "neighbours",
    "counts",
    "rarity",
    "witnesses",
    "label_fit",
    "tomek",
    "hard_samples",
    "hardness",
    "label_models",
    "label_planting",
    "label_thresholds",
    "label_regression",
    "label_comparison",
    "label_issues",
    "data_issues",
    "distributions",
    "members",
    "label_counts",
    "label_sets",
    "subsets",
    "alignments",
    "staircase",
    "matching",
    "weighting",
    "error_summary",
    "model_rows",
    "predicting",
    "model_error",
    "adversarials",
    "folds",
    "held_out",
    "verify",
    "estimator",
    "part_choice",
    "placement",
    "sampler",
    "show",
    "evaluation",
    "router",
    "validation",
    "advice_tables",
    "tailoring",
    "embedding",
    "report",
    "reviews",
    "comparison",
    "compute",
    "__init__",  # the public API: only what is above it may import the package itself
    "cli",
    "__main__",
)
ONLY_IN = {"zarr": {"store"}}
NEVER_IN = {"kernels": {"dask", "distributed", "zarr"}}
LIBRARIES_OF = {"kernels": {"numpy", "numba", "threadpoolctl"} | sys.stdlib_module_names}
PURE = "dskrobust.engine.plan"  # arithmetic: no Dask, no Zarr


def imported_names(
    source: str, module: str, is_package: bool = False, lazy: bool = True
) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute name of every import in the source of a module.

    lazy: whether imports inside functions and for type checkers count.
    """
    parts = module.split(".")
    package = parts if is_package else parts[:-1]
    tree = ast.parse(source)
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(above + ([node.module] if node.module else []))
            for alias in node.names:
                name = f"{base}.{alias.name}"
                # From a package a name may be a module of it (a floor, a file).
                yield node.lineno, name if base == "dskrobust" or name in MODULES else base


def floor_of(module: str) -> str:
    """Return the floor that a module of dskrobust, or a name in one, belongs to."""
    parts = module.split(".")
    longest = ".".join(parts[1:3])
    if longest in FLOORS:
        return longest
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__"


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return what in the source of a module breaks the rules, one line for each import."""
    floor = floor_of(module)
    found = []
    for line, name in imported_names(source, module, is_package):
        top = name.split(".")[0]
        if top == "dskrobust":
            if FLOORS.index(floor_of(name)) > FLOORS.index(floor):
                found.append(f"{module}:{line}: {name} is on a floor above {floor}")
        elif floor not in ONLY_IN.get(top, {floor}):
            found.append(f"{module}:{line}: only {', '.join(ONLY_IN[top])} may import {top}")
        elif top in NEVER_IN.get(floor, ()) or top not in LIBRARIES_OF.get(floor, {top}):
            found.append(f"{module}:{line}: {floor} may not import {top}")
        elif module == PURE and top in {"dask", "distributed", "zarr"}:
            found.append(f"{module}:{line}: the plan may not import {top}")
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def graph_of(lazy: bool) -> dict[str, set[str]]:
    """File → the files of the package that it imports."""
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        is_package = path.name == "__init__.py"
        names = imported_names(path.read_text(), module, is_package, lazy)
        found = {name for _, name in names if name.split(".")[0] == "dskrobust"}
        graph[module] = {name for name in found if name in MODULES and name != module}
    return graph


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    path = MODULES[module]
    assert violations(path.read_text(), module, path.name == "__init__.py") == []


def test_every_module_has_a_floor():
    assert MODULES
    tops = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES.values()}
    assert tops <= {floor.split(".")[0] for floor in FLOORS}


def test_no_circle_between_files():
    """An import inside a function counts as well: it only hides a circle."""
    graph = graph_of(lazy=True)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dskrobust.engine.plan", "import dskrobust.scores"),
        ("dskrobust.engine.plan", "from dskrobust.cli import main"),
        ("dskrobust.engine.plan", "from dskrobust import errors, cli"),
        ("dskrobust.engine.plan", "from .. import cli"),
        ("dskrobust.engine.plan", "from ..cli import main"),
        ("dskrobust.engine.plan", "from .. import __version__"),
        ("dskrobust.engine.plan", "import dskrobust"),
        ("dskrobust.engine.plan", "def f():\n    from dask import array"),
        ("dskrobust.engine.plan", "import distributed"),
        ("dskrobust.kernels", "from ..engine.graph import build"),
        ("dskrobust.kernels.loop", "from ..engine import graph"),
        ("dskrobust.kernels.bounds.boxes", "from ...engine import graph"),
        ("dskrobust.kernels.loop", "import dask.array as da"),
        ("dskrobust.kernels.loop", "from scipy import linalg"),
        ("dskrobust.datasets", "import zarr"),
        ("dskrobust.robustness", "from zarr.codecs import Crc32cCodec"),
        ("dskrobust.scores", "from .show import live"),
        ("dskrobust", "from .cli import main"),
    ],
)
def test_a_planted_violation_is_found(module, source):
    is_package = module in {"dskrobust", "dskrobust.kernels"}
    found = violations(source, module, is_package)
    assert len(found) == 1, found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dskrobust.store", "import zarr\nfrom zarr.codecs import Crc32cCodec"),
        ("dskrobust.engine.plan", "import math\nimport numpy as np\nfrom .. import errors"),
        ("dskrobust.kernels", "from .loop import sweep\nfrom . import exact"),
        ("dskrobust.kernels.loop", "import numba\nfrom .exact import f\nfrom ..errors import E"),
        ("dskrobust.robustness", "import dask.array as da\nfrom dskrobust.engine import graph"),
        ("dskrobust.scores", "from .show.overview import scores_card"),
        ("dskrobust", "from .robustness import sample_robustness\nfrom . import store"),
        ("dskrobust.cli", "import dskrobust as dr\nfrom dskrobust import __version__"),
    ],
)
def test_what_is_allowed_passes(module, source):
    is_package = module in {"dskrobust", "dskrobust.kernels"}
    assert violations(source, module, is_package) == []
