"""Imports between the modules of dskrobust only ever point up the list of floors.

Data goes down that list once. A module may import its own floor (a package such as ``kernels``
is one floor) and those above it, and some floors are closed to some libraries.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "dskrobust"

FLOORS = (
    "errors",
    "display",
    "store",
    "datasets",
    "labels",
    "metrics",
    "plan",
    "blocks",
    "kernels",
    "prefixes",
    "events",
    "tiles",
    "pairwise",
    "sources",
    "overview",
    "export",
    "scores",
    "robustness",
    "neighbours",
    "mislabelled",
    "label_issues",
    "estimator",
    "sampler",
    "subsets",
    "verify",
    "evaluation",
    "report",
    "blas",
    "cluster",
    "terminal",
    "liveview",
    "__init__",  # the public API: only what is below it may import the package itself
    "demo",
    "cli",
)
ONLY_IN = {"zarr": {"store"}}
NEVER_IN = {"plan": {"dask", "distributed", "zarr"}, "kernels": {"dask", "distributed", "zarr"}}
LIBRARIES_OF = {"kernels": {"numpy", "numba", "threadpoolctl"} | sys.stdlib_module_names}


def imported_names(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute name of every import in the source of a module."""
    parts = module.split(".")
    package = parts if is_package else parts[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(above + ([node.module] if node.module else []))
            for alias in node.names:
                # From the package itself a name is a module (a floor) or part of the public API.
                yield node.lineno, f"{base}.{alias.name}" if base == "dskrobust" else base


def floor_of(module: str) -> str:
    """Return the floor that a module of dskrobust, or a name in one, belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__"


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return what in the source of a module breaks the rules, one line for each import."""
    floor = floor_of(module)
    found = []
    for line, name in imported_names(source, module, is_package):
        top = name.split(".")[0]
        if top == "dskrobust":
            if FLOORS.index(floor_of(name)) > FLOORS.index(floor):
                found.append(f"{module}:{line}: {name} is on a floor below {floor}")
        elif floor not in ONLY_IN.get(top, {floor}):
            found.append(f"{module}:{line}: only {', '.join(ONLY_IN[top])} may import {top}")
        elif top in NEVER_IN.get(floor, ()) or top not in LIBRARIES_OF.get(floor, {top}):
            found.append(f"{module}:{line}: {floor} may not import {top}")
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_up(module):
    path = MODULES[module]
    assert violations(path.read_text(), module, path.name == "__init__.py") == []


def test_every_module_has_a_floor():
    assert MODULES
    tops = {path.relative_to(ROOT).with_suffix("").parts[0] for path in MODULES.values()}
    assert tops <= set(FLOORS)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dskrobust.plan", "import dskrobust.kernels.screen"),
        ("dskrobust.plan", "from dskrobust.cli import main"),
        ("dskrobust.plan", "from dskrobust import errors, cli"),
        ("dskrobust.plan", "from . import cli"),
        ("dskrobust.plan", "from .cli import main"),
        ("dskrobust.plan", "from . import __version__"),
        ("dskrobust.plan", "import dskrobust"),
        ("dskrobust.plan", "def f():\n    from dask import array"),
        ("dskrobust.plan", "import distributed"),
        ("dskrobust.kernels", "from ..pairwise import PairReduction"),
        ("dskrobust.kernels.screen", "from ..pairwise import PairReduction"),
        ("dskrobust.kernels.screen", "from .. import pairwise"),
        ("dskrobust.kernels.screen", "import dask.array as da"),
        ("dskrobust.kernels.screen", "from scipy import linalg"),
        ("dskrobust.datasets", "import zarr"),
        ("dskrobust.robustness", "from zarr.codecs import Crc32cCodec"),
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
        ("dskrobust.plan", "import math\nimport numpy as np\nfrom . import errors"),
        ("dskrobust.kernels", "from .screen import sweep\nfrom . import exact"),
        ("dskrobust.kernels.screen", "import numba\nfrom .exact import f\nfrom ..errors import E"),
        ("dskrobust.robustness", "import dask.array as da\nfrom dskrobust.pairwise import reduce"),
        ("dskrobust", "from .robustness import sample_robustness\nfrom . import store"),
        ("dskrobust.cli", "import dskrobust as dr\nfrom dskrobust import __version__"),
    ],
)
def test_what_is_allowed_passes(module, source):
    is_package = module in {"dskrobust", "dskrobust.kernels"}
    assert violations(source, module, is_package) == []
