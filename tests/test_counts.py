"""Counts that must not creep up are those of counts.json: a change of one is a line of a diff.

Tasks of graphs, bytes read and pairs proven are of runs with fixed seeds and sizes in this process;
code is counted in lines that are neither blank nor docstring. Where a change is meant:

    python tests/test_counts.py --write
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from dask._task_spec import convert_legacy_graph
from helpers import ROOT, TESTS

import dskrobust as dr
from dskrobust.datasets import append
from dskrobust.engine import workload
from dskrobust.engine.events import listening
from dskrobust.engine.plan import make_plan
from dskrobust.engine.workload import Workload

KEPT = TESTS / "counts.json"
PACKAGE = ROOT / "dskrobust"
LONG_FUNCTION, MANY_PARAMETERS, LONG_FILE = 50, 8, 400  # beyond these each is listed by name
STEP = 50  # sums of lines are rounded up to it, or every commit would change them
PROVEN_VARY = 0.02  # float32 products round otherwise on other processors

# -- runs --------------------------------------------------------------------------------------


def clustered(rows: int, columns: int, dtype: Any = np.float32) -> Any:
    """Rows around ten centres in a plane of few dimensions, and which centre each is of."""
    rng = np.random.default_rng(0)
    few = min(columns, 12)
    turn = rng.standard_normal((few, columns))
    y = rng.integers(0, 10, rows)
    X = (8 * rng.standard_normal((10, few)))[y] + rng.standard_normal((rows, few))
    X = X @ turn + 0.1 * rng.standard_normal((rows, columns))
    if dtype == np.uint8:
        X = 255 * (X - X.min()) / (X.max() - X.min())
    return X.astype(dtype), y


def run(folder: Path, X: Any, y: Any, **options: Any) -> dict[str, int]:
    """What one run over a store of its own comes to."""
    return counted(dr.create_store(str(folder / "some.zarr"), X, y), **options)


def in_turn(graph: Any, keys: Any, **options: Any) -> Any:
    """Run a graph, each task after its dependencies in the order of their names without tokens.

    Dask's own order follows hashes that differ from process to process, and a tile proves fewer
    pairs the more is known when it starts.
    """
    tasks, done = convert_legacy_graph(graph.__dask_graph__()), {}

    def finish(key: Any) -> Any:
        if key not in done:
            for other in sorted(tasks[key].dependencies, key=without_token):
                finish(other)
            done[key] = tasks[key](done)
        return done[key]

    def each(wanted: Any) -> Any:
        return [each(key) for key in wanted] if isinstance(wanted, list) else finish(wanted)

    return each(keys)


def without_token(key: Any) -> str:
    return re.sub(r"[0-9a-f]{32}", "", str(key))


def counted(store: dr.Store, rows: int = 500, **options: Any) -> dict[str, int]:
    """Write the scores of a store in blocks of so many rows, and return what that took."""
    events: list[dict[str, Any]] = []
    fixed = dr.RunOptions(dr.Resources(1, 1), block_rows=rows, panel_rows=rows)
    scores = dr.sample_robustness(store, options=fixed, **options)
    tasks = len(dict(scores.robustness.__dask_graph__()))
    with dask.config.set(scheduler=in_turn), listening(events.append):
        scores.write()
    found = {name: sum(event[name] for event in events) for name in ("proven", "bytes_read")}
    return {"tasks": tasks, "tiles": len(events)} | found


def euclidean_prefixes(folder: Path) -> dict[str, int]:
    return run(folder, *clustered(6_000, 128), rows=1_500)


def cityblock_bytes(folder: Path) -> dict[str, int]:
    return run(folder, *clustered(1_500, 64, np.uint8), metric="cityblock")


def few_columns(folder: Path) -> dict[str, int]:
    return run(folder, *clustered(2_000, 4))


def real_labels(folder: Path) -> dict[str, int]:
    X, y = clustered(1_500, 32)
    return run(folder, X, y + X[:, 0].astype(np.float64), labels="real")


def appended(folder: Path) -> dict[str, int]:
    """Only pairs with the last 300 rows."""
    X, y = clustered(1_500, 32)
    store = dr.create_store(str(folder / "some.zarr"), X[:1_200], y[:1_200])
    counted(store)
    more = str(folder / "more.npz")
    np.savez(more, X=X[1_200:], y=y[1_200:])
    return counted(append(store, more))


RUNS = {
    function.__name__: function
    for function in (euclidean_prefixes, cityblock_bytes, few_columns, real_labels, appended)
}
PLANS = {
    "60,000 x 784 in uint8, classes": (60_000, 784, 1, False),
    "50,000 x 3,072 in uint8, classes": (50_000, 3_072, 1, False),
    "39,644 x 58 in float64, real labels": (39_644, 58, 8, True),
    "1,000,000 x 784 in uint8, classes": (1_000_000, 784, 1, False),
}


def plans() -> dict[str, dict[str, int]]:
    """Tasks and tiles of plans for two workers of two threads with memory enough."""
    found = {}
    for name, (rows, columns, size, real) in PLANS.items():
        work = Workload(
            segments=(rows,), columns=columns, stored_bytes=size, kernel_bytes=size, screened=True,
            state_bytes=2 * (32 if real else 16), stored=True,
        )  # fmt: skip
        plan = make_plan(work, dr.Resources(2, 2, 8 * 2**30))
        found[name] = {"tasks": plan.tasks, "tiles": len(plan.tiles)}
    return found


# -- code --------------------------------------------------------------------------------------


def documented(node: ast.AST) -> set[int]:
    """The lines of a docstring, where there is one."""
    first = node.body[0] if getattr(node, "body", None) else None  # type: ignore[attr-defined]
    value = first.value if isinstance(first, ast.Expr) else None
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return set(range(first.lineno, first.end_lineno + 1))  # type: ignore[union-attr, operator]
    return set()


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, lines and parameters of all functions in a file."""
    text = path.read_text(encoding="utf-8").splitlines()

    def within(node: ast.AST, above: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                name = f"{above}{child.name}"
                if isinstance(child, ast.FunctionDef):
                    docs = documented(child)
                    span = range(child.lineno, (child.end_lineno or child.lineno) + 1)
                    lines = sum(bool(text[k - 1].strip()) for k in span if k not in docs)
                    named = (*child.args.posonlyargs, *child.args.args, *child.args.kwonlyargs)
                    yield name, lines, sum(a.arg not in ("self", "cls") for a in named)
                yield from within(child, f"{name}.")
            else:
                yield from within(child, above)

    yield from within(ast.parse("\n".join(text)), "")


def lines_of(path: Path) -> int:
    """Lines of a file that are neither blank nor docstring."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    docs = set().union(*(documented(node) for node in ast.walk(tree) if isinstance(node, kinds)))
    return sum(bool(line.strip()) for k, line in enumerate(text.splitlines(), 1) if k not in docs)


@cache
def code() -> dict[str, dict[str, int]]:
    """What is long, or takes much: functions, files and rooms."""
    files = {p.relative_to(PACKAGE).as_posix(): p for p in sorted(PACKAGE.rglob("*.py"))}
    lines = {name: lines_of(path) for name, path in files.items()}
    every = [(f"{name}: {f}", *sizes) for name, p in files.items() for f, *sizes in functions(p)]
    rooms: dict[str, int] = {}
    for name, count in lines.items():
        room = name.partition("/")[0] if "/" in name else "the public nouns and the foundations"
        rooms[room] = rooms.get(room, 0) + count
    return {
        f"lines of functions beyond {LONG_FUNCTION}": {
            f: count for f, count, _ in every if count > LONG_FUNCTION
        },
        f"parameters of functions beyond {MANY_PARAMETERS}": {
            f: count for f, _, count in every
            if count > MANY_PARAMETERS and not f.startswith("cli/")  # commands have options
        },
        f"lines of files beyond {LONG_FILE}": {f: n for f, n in lines.items() if n > LONG_FILE},
        "lines of rooms": {room: -(-count // STEP) * STEP for room, count in rooms.items()},
    }  # fmt: skip


# -- comparing ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(KEPT.read_text())
    return found


HINT = "is it meant? python tests/test_counts.py --write"


@pytest.mark.parametrize("name", RUNS)
def test_run(kept, name, tmp_path):
    found, before = RUNS[name](tmp_path), kept["runs"][name]
    proven, proven_before = found.pop("proven"), before.pop("proven")
    assert found == before, HINT
    assert proven == pytest.approx(proven_before, rel=PROVEN_VARY), HINT


def test_plans(kept):
    assert plans() == kept["plans"], HINT


@pytest.mark.parametrize("what", code())
def test_code(kept, what):
    assert code()[what] == kept["code"][what], HINT


def test_every_count_is_looked_at(kept):
    assert set(kept) == {"runs", "plans", "code"}
    assert set(kept["runs"]) == set(RUNS)
    assert set(kept["code"]) == set(code())


def test_functions_are_counted_without_their_docstrings(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(
        'class A:\n    def f(self, a, *, b):\n        """Long.\n\n        """\n\n        return a\n'
    )
    assert list(functions(path)) == [("A.f", 2, 2)]
    assert lines_of(path) == 3


def write() -> None:
    workload.PLAIN_VALUES = 0  # as conftest has it
    runs = {}
    for name, function in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            runs[name] = function(Path(folder))
    found = {"runs": runs, "plans": plans(), "code": code()}
    KEPT.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    print(f"wrote {KEPT}")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
