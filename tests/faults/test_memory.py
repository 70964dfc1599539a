"""Memory and work are bounded in classes and groups too, or refused before anything runs."""

import io
import re
import subprocess
import sys

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from dask.utils import parse_bytes
from helpers import load_script
from kernel_cases import Arrays, job_for, reduce_ranges
from rich.console import Console

import dskrobust as dr
from dskrobust import cli, memory
from dskrobust.cluster import local
from dskrobust.engine.footprint import USABLE
from dskrobust.engine.plan import MIB, Resources, make_plan
from dskrobust.engine.workload import SPLIT_EVERY, Workload
from dskrobust.errors import MemoryPlanError
from dskrobust.evaluation.models import model_class
from dskrobust.evaluation.models.base import Problem
from dskrobust.kernels import KNearest
from dskrobust.show import terminal

peaks = load_script("benchmarks/peaks")


def looked_at(X, y, **options):
    n = len(X)
    return reduce_ranges(Arrays(X, y), (0, n), (0, n), (n, n), job_for(X, **options))


@pytest.mark.parametrize("d", [2, 4])
def test_leaves_compared_do_not_grow_with_the_classes(d):
    """Where all labels differ, a leaf learns from its own pairs and looks no further."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12_000, d)).astype(np.float32)
    few, many = (looked_at(X, np.arange(12_000) % k, pays=np.inf)[2] for k in (10, 12_000))
    assert 0 < many.leaves <= few.leaves
    assert many.pairs <= few.pairs


@pytest.mark.parametrize("reduction", [None, KNearest(3)])
def test_blocks_without_a_common_label_are_not_looked_at(reduction):
    """Of the same label are few pairs where classes are many."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((3_000, 20)).astype(np.float32), rng.permutation(3_000) % 1_500
    left, _, counters = looked_at(X, y, rule="same", reduction=reduction, side=64)
    assert counters.pairs <= 3_000 * 2 * 64
    partner = np.empty(3_000, np.int64)
    order = np.argsort(y, kind="stable").reshape(-1, 2)
    partner[order], found = order[:, ::-1], left.nearest if reduction is None else left.index
    np.testing.assert_array_equal(found.reshape(3_000, -1)[:, 0], partner)


def workload(groups=2, state=32, rows=100_000):
    return Workload((rows,), 8, 4, 4, True, groups * state, 1_000, stored=True)


@pytest.mark.parametrize("workers", [1, 4])
def test_results_that_wait_for_their_merge_are_projected(workers):
    free = make_plan(workload(state=1), Resources(workers, 1))
    held = make_plan(workload(state=1_001), Resources(workers, 1))
    waiting = min(SPLIT_EVERY, len(free.blocks)) * 2_000 * 100_000 // workers
    assert held.peak_bytes - free.peak_bytes >= waiting
    limit = 2**30
    for state in (1, 101, 1_001):
        plan = make_plan(workload(state=state), Resources(workers, 1, limit), block_rows=1_000)
        assert plan.peak_bytes <= limit * USABLE


def test_too_many_groups_are_refused_with_what_they_take(tmp_path):
    with pytest.raises(MemoryPlanError, match=r"against all groups.* take 1\.[0-9]+ GiB"):
        make_plan(workload(groups=500), Resources(2, 1, 3 * 2**30))
    rng = np.random.default_rng(0)
    split = np.array([f"g{k:03}" for k in range(500)])[np.arange(20_000) % 500]
    url = str(tmp_path / "groups.zarr")
    dr.create_store(url, rng.random((20_000, 8), np.float32), np.arange(20_000) % 3, split)
    asked = ["--workers", "1", "--threads", "1", "--memory-limit", "400MiB"]
    for command in ("plan", "compute", "issues"):
        result = CliRunner().invoke(cli.main, [command, url, *asked])
        assert result.exit_code != 0
        assert "against all groups" in result.stderr
        assert "--memory-limit" in result.stderr


@pytest.mark.parametrize("kind", ["knn", "xgboost", "sklearn.naive_bayes.GaussianNB"])
def test_predictions_take_no_more_for_more_test_rows(kind):
    """As many classes as rows: what is held at once is a block, and a piece of it by class."""
    pytest.importorskip("xgboost" if kind == "xgboost" else "sklearn")
    model = model_class(kind)(dr.Model(kind, {"neighbors": [5]} if kind == "knn" else {}))
    few, many = (Problem(True, 8, {"x": 1_000}, {"t": k}, classes=10**6) for k in (10**5, 10**7))
    (_, one), (_, other) = (model.task_bytes(1_000, problem) for problem in (few, many))
    assert one == other < 500 * 2**20


def test_an_estimators_probabilities_count():
    few, many = (Problem(True, 8, {"x": 1_000}, {"t": 500}, classes=k) for k in (2, 1_002))
    grown = 3 * 8 * 500 * 1_000
    for path, more in (("sklearn.naive_bayes.GaussianNB", grown), ("sklearn.svm.LinearSVC", 0)):
        model = model_class(path)(dr.Model(path))
        (_, one), (_, other) = (model.task_bytes(1_000, problem) for problem in (few, many))
        assert other - one == more


def test_a_table_of_many_classes_ends():
    names, counts = [f"c{k}" for k in range(10_000)], np.ones((10_000, 2), np.int64)
    shown = terminal.label_table(("all", "half"), names, counts, counts / 1, (True, False))
    assert shown.row_count == terminal.MOST_CLASSES + 1
    out = io.StringIO()
    Console(file=out, width=100).print(shown)
    assert f"{10_000 - terminal.MOST_CLASSES:,} more" in out.getvalue()
    assert out.getvalue().rstrip().splitlines()[-1].split() == ["9,800", "more", "9,800", "9,800"]


@pytest.mark.cluster
def test_no_process_holds_more_than_its_command_says(tmp_path, monkeypatch):
    monkeypatch.setitem(peaks.SHAPES, "small", peaks.Shape(30_000, 8, 30_000))
    options = peaks.asked(["--shape", "small", "--limit", "1GiB"])
    options.command = ["ingest", "compute", "neighbours", "link", "show", "subsets", "report"]
    options.command += ["export", "verify", "append"]
    for row in peaks.measure(options, tmp_path):
        assert row["exit code"] == 0, row
        assert row["projected MiB"], row
        assert not peaks.above(row), peaks.line_of(row)
        light = row["command"] in ("ingest", "link", "append")  # 90 MiB: they import no Dask arrays
        assert max([row["client MiB"], *row["worker MiB"]]) > (80 if light else 100), row
        assert row["client MiB"] * MIB < 2**30
        assert 3 * row["client MiB"] >= row["projected MiB"].get("client", 0), peaks.line_of(row)


MODELS = (
    "compute", "bound --model knn", "evaluate --model knn", "tailor --model knn --windows 3",
    "adversarials", "spectrum --model forest --windows 4 --trials 2", "issues",
    "match --within train --to test --size 90", "report --overwrite",
    "compute -m cityblock", "compare --after-metric cityblock --overwrite",
)  # fmt: skip
SAID = re.compile(r"^(?:memory|client) +([\d.]+ \w+) at most, ([\d.]+ \w+) projected$", re.M)


@pytest.mark.parametrize(
    ("shape", "commands"),
    [((300, 600), MODELS[:4]), ((3_000, 3), MODELS), ((9_000, 3), MODELS[:4])],
)
def test_what_commands_of_models_hold_is_below_what_they_say(tmp_path, shape, commands):
    rng, url = np.random.default_rng(0), str(tmp_path / "own.zarr")
    rows = np.arange(shape[0])
    X = rng.random(shape, np.float32) + (rows % 3)[:, None] / 2
    dr.create_store(url, X, rows % 3, np.where(rows % 4 > 0, "train", "test"))
    for words in commands:
        command, *more = words.split()
        typed = [sys.executable, "-m", "dskrobust", command, url, *more]
        ran = subprocess.run(
            typed, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path
        )
        assert ran.returncode == 0, (words, ran.stderr)
        found = SAID.findall(ran.stdout)
        assert found, (words, ran.stdout)
        for measured, projected in found:
            assert parse_bytes(measured) <= parse_bytes(projected), (words, measured, projected)
            assert parse_bytes(projected) <= 2 * parse_bytes(measured), (words, projected)


def test_a_command_that_does_not_fit_is_refused_before_it_runs(tmp_path, monkeypatch):
    rng, url = np.random.default_rng(0), str(tmp_path / "made.zarr")
    X, y = rng.random((60, 3), np.float32), np.arange(60) % 3
    dr.create_store(url, X, y, np.repeat(["train", "test"], 30))
    for metric in ("euclidean", "chebyshev"):
        dr.sample_robustness(dr.open_store(url), metric=metric).write()
    np.savez(tmp_path / "more.npz", X=X, y=y)
    for name, array in {"x": X, "y": y}.items():
        zarr.save(tmp_path / f"{name}.zarr", array)
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(local, "this_machine", lambda: local.Machine(2, 1_000))
    linked = [f"--{name}={tmp_path / name}.zarr" for name in "xy"]
    for words in (
        ["show", url],
        ["subsets", url],
        ["verify", url],
        ["export", url, "--out", str(tmp_path / "made.csv")],
        ["report", url, "--out", str(tmp_path / "made.html")],
        ["compare", url, "--out", str(tmp_path / "made.html")],
        ["append", url, str(tmp_path / "more.npz"), "--into", "test"],
        ["compute", url, "-m", "cityblock"],
        ["adversarials", url],
        ["bound", url, "--model", "knn"],
        ["evaluate", url, "--model", "knn"],
        ["spectrum", url, "--model", "knn"],
        ["tailor", url, "--model", "knn"],
        ["link", str(tmp_path / "linked.zarr"), *linked],
    ):
        result = CliRunner().invoke(cli.main, words)
        assert result.exit_code == 1, words
        assert "in this process, which may use 1000 B; " in result.stderr, words
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"made.zarr", "more.npz", "x.zarr", "y.zarr"}
    assert dr.open_store(url).rows == 60
