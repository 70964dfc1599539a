"""Finished tiles are kept: after any kill, and after appending, only the missing ones run."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import brute
import dask
import numpy as np
import pytest
import strategies as own

import dskrobust as dr
from dskrobust.engine.events import listening
from dskrobust.store import Block, find_results

OPTIONS = dr.RunOptions(own.UNLIMITED, block_rows=40)


def arrays_of(n=200, labels="real", seed=0, groups=2):
    rng = np.random.default_rng(seed)
    X = own.features(rng, n, 12, "float32", "clusters", 0)
    y = own.label_values(rng, n, labels, False)
    return X, y, np.array(["a", "b", "c"])[np.arange(n) % groups]


def create(folder, labels="real", **given):
    spec = dr.StoreSpec("own", labels.partition("-")[0])
    return dr.create_store(str(folder / "own.zarr"), *arrays_of(labels=labels, **given), spec=spec)


@pytest.fixture
def computed():
    """The rows and columns of every tile that is computed, not found, from now on."""
    seen = []

    def hear(event):
        if not event["resumed"]:
            seen.append((tuple(event["rows"]), tuple(event["columns"])))

    with listening(hear):
        yield seen


def tile_files(path):
    """Return the files of finished tiles and when they were written."""
    found = {}
    for f in (Path(path) / "tiles").rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a temporary file, renamed meanwhile
            if f.suffix == ".blob" and f.is_file():
                found[str(f.relative_to(path))] = f.stat().st_mtime_ns
    return found


def result_bytes(path):
    """Return every chunk of the results; metadata says when, chunks say what."""
    folder = Path(path) / "results"
    return {
        str(f.relative_to(folder).relative_to(f.relative_to(folder).parts[0])): f.read_bytes()
        for f in folder.rglob("*")
        if f.is_file() and "/c/" in str(f)
    }


def tile_keys(scores):
    graph = dict(scores.reach.__dask_graph__())
    return [k for k in graph if isinstance(k, tuple) and str(k[0]).startswith("tile-")]


# -- the memo ----------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["categorical", "real", "vector-l2"])
def test_only_missing_tiles_run(tmp_path, computed, labels):
    store = create(tmp_path, labels)
    whole = tmp_path / "copy.zarr"
    shutil.copytree(store.url, whole)
    scores = dr.sample_robustness(store, options=OPTIONS)
    assert len(scores.plan.tiles) == 15
    graph = scores.reach.__dask_graph__()
    done = tile_keys(scores)[:6]
    dask.get(dict(graph), done)
    assert len(computed) == len(tile_files(store.url)) == 6
    before = tile_files(store.url)
    computed.clear()
    again = dr.sample_robustness(dr.open_store(store.url), options=OPTIONS)
    again.compute()
    assert len(computed) == 9
    assert len(tile_files(store.url)) == 15
    assert before.items() <= tile_files(store.url).items()
    again.write()
    assert len(computed) == 9
    assert tile_files(store.url) == {}
    dr.sample_robustness(str(whole), options=OPTIONS).write()
    assert result_bytes(store.url) == result_bytes(whole)
    data = arrays_of(labels=labels)
    brute.assert_same(dr.sample_robustness(str(whole)).compute(), brute.score(*data, labels=labels))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_tile_is_computed_again(tmp_path, computed, damage):
    store = create(tmp_path)
    dr.sample_robustness(store, options=OPTIONS).compute()
    computed.clear()
    name = sorted(tile_files(store.url))[4]
    file = Path(store.url) / name
    good = file.read_bytes()
    if damage == "flipped":
        file.write_bytes(good[:100] + bytes([good[100] ^ 4]) + good[101:])
    elif damage == "truncated":
        file.write_bytes(good[:-7])
    else:
        file.unlink()
    found = dr.sample_robustness(store, options=OPTIONS).compute()
    assert len(computed) == 1
    brute.assert_same(found, brute.score(*arrays_of(), labels="real"))


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "cityblock"},
        {"metric": "minkowski(3)"},
        {"labels": "categorical"},
        {"labels": "vector-l1"},
    ],
)
def test_tiles_of_other_parameters_are_not_taken(tmp_path, computed, change):
    store = create(tmp_path)
    dr.sample_robustness(store, options=OPTIONS).compute()
    computed.clear()
    found = dr.sample_robustness(store, options=OPTIONS, **change).compute()
    assert len(computed) == 15
    metric = change.get("metric", "euclidean")
    metric = ("minkowski", 3.0) if metric == "minkowski(3)" else metric
    labels = change.get("labels", "real")
    brute.assert_same(found, brute.score(*arrays_of(), metric, labels))


def test_the_label_bound_does_not_matter_to_tiles(tmp_path, computed):
    store = create(tmp_path)
    first = dr.sample_robustness(store, options=OPTIONS).compute()
    computed.clear()
    bound = dr.LabelMap("real", bound=10.0)
    second = dr.sample_robustness(store, labels=bound, options=OPTIONS).compute()
    assert computed == []
    np.testing.assert_array_equal(first.lipschitz, second.lipschitz)
    np.testing.assert_array_equal(second.robustness, 10 / (second.lipschitz + 10))


def test_tiles_of_other_data_are_not_taken(tmp_path, computed):
    store = create(tmp_path)
    dr.sample_robustness(store, options=OPTIONS).compute()
    other = dr.create_store(str(tmp_path / "two.zarr"), *arrays_of(seed=1))
    shutil.copytree(Path(store.url) / "tiles", Path(other.url) / "tiles")
    computed.clear()
    found = dr.sample_robustness(dr.open_store(other.url), options=OPTIONS).compute()
    assert len(computed) == 15
    brute.assert_same(found, brute.score(*arrays_of(seed=1), labels="real"))


def test_tiles_of_other_blocks_are_not_mixed(tmp_path, computed):
    store = create(tmp_path)
    dr.sample_robustness(store, options=OPTIONS).compute()
    for rows in (50, 41, 39):
        other = dr.RunOptions(own.UNLIMITED, block_rows=rows)
        found = dr.sample_robustness(store, options=other).compute()
        brute.assert_same(found, brute.score(*arrays_of(), labels="real"))


def test_panels_do_not_matter_to_tiles(tmp_path, computed):
    store = create(tmp_path)
    dr.sample_robustness(store, options=OPTIONS).compute()
    computed.clear()
    other = dr.RunOptions(own.UNLIMITED, block_rows=40, panel_rows=7)
    dr.sample_robustness(store, options=other).compute()
    assert computed == []


# -- appending ---------------------------------------------------------------------------------


def appended(store, n, seed, group=0, groups=None):
    X, y, _ = arrays_of(n, seed=seed)
    names = {"groups": groups} if groups else {}
    return dr.append_rows(store, [Block(X, y, np.full(n, group, np.int16))], **names), (X, y)


@pytest.mark.parametrize("groups", [None, ("a", "b", "late")])
def test_append_computes_only_new_tiles(tmp_path, computed, groups):
    store = create(tmp_path)
    dr.sample_robustness(store, options=OPTIONS).write()
    parts = [arrays_of()]
    for step, n in enumerate((50, 90)):
        code = 2 if groups else step
        store, (X, y) = appended(store, n, step + 5, code, groups)
        parts.append((X, y, np.full(n, ("a", "b", "late")[code])))
        computed.clear()
        scores = dr.sample_robustness(store, options=OPTIONS)
        old = store.rows - n
        graph = dict(scores.reach.__dask_graph__())
        known = [k for k in graph if isinstance(k, tuple) and str(k[0]).startswith("known-")]
        assert len(known) == sum(hi <= old for _, hi in scores.plan.blocks)
        assert all(columns[1] > old for _, columns in computed)
        wrote = scores.write()
        assert len(computed) == len(scores.plan.tiles)
        assert all(hi > old for _, (_, hi) in computed)
        data = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        wanted = brute.score(*data, labels="real")
        brute.assert_same(wrote.compute(), wanted)
        fresh = dr.create_store(
            str(tmp_path / f"fresh{step}.zarr"), *data, spec=dr.StoreSpec("own", "real")
        )
        scratch = dr.sample_robustness(fresh, options=OPTIONS).write()
        tables = wrote.result.tables()
        assert tables == scratch.result.tables()
        for name in tables:
            one = wrote.result.read(name, 0, store.rows)
            assert one.tobytes() == scratch.result.read(name, 0, store.rows).tobytes(), name
    assert len(find_results(store)) == 1


def test_small_appends(tmp_path):
    X, y, split = arrays_of(60, labels="categorical")
    store = dr.create_store(str(tmp_path / "own.zarr"), X[:8], y[:8], split[:8])
    codes = (split == "b").astype(np.int16)
    for a in range(8, 60, 13):
        store = dr.append_rows(store, [Block(X[a : a + 13], y[a : a + 13], codes[a : a + 13])])
    found = dr.sample_robustness(store).compute()
    brute.assert_same(found, brute.score(X, y, split))


def test_append_of_larger_labels_changes_the_norm(tmp_path):
    store = create(tmp_path)
    dr.sample_robustness(store).write()
    X, y, _ = arrays_of(20, seed=5)
    y *= 100
    store = dr.append_rows(store, [Block(X, y, np.zeros(20, np.int16))])
    parts = zip(arrays_of(), (X, y, np.array(["a"] * 20)), strict=True)
    wanted = brute.score(*(np.concatenate(arrays) for arrays in parts), labels="real")
    brute.assert_same(dr.sample_robustness(store).compute(), wanted)


def test_append_without_results_takes_finished_tiles(tmp_path, computed):
    store = create(tmp_path)
    dr.sample_robustness(store, options=OPTIONS).compute()
    longer, _ = appended(store, 40, 5)
    computed.clear()
    dr.sample_robustness(longer, options=OPTIONS).compute()
    assert len(computed) == 6


# -- a kill ------------------------------------------------------------------------------------

RUN = """
import sys
import dskrobust as dr
from distributed import Client, LocalCluster

if __name__ == "__main__":
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1",
        local_directory=sys.argv[2],
    ) as cluster, Client(cluster):
        options = dr.RunOptions(block_rows=300)
        dr.sample_robustness(dr.open_store(sys.argv[1]), options=options).write()
"""


def big(folder):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6_000, 64)).astype(np.float32)
    return dr.create_store(
        str(folder / "own.zarr"), X, rng.standard_normal(6_000), np.arange(6_000) % 2
    )


def start(script, url, folder):
    """Start a run in a process group of its own."""
    (folder / "run.py").write_text(textwrap.dedent(script))
    return subprocess.Popen(
        [sys.executable, str(folder / "run.py"), str(url), str(folder / "workers")],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()[-2000:]


@pytest.mark.cluster
def test_a_killed_run_continues(tmp_path):
    store = big(tmp_path)
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store.url, copy)
    tiles = 20 * 21 // 2
    process = start(RUN, store.url, tmp_path)
    deadline = time.monotonic() + 100
    try:
        while len(tile_files(store.url)) < tiles // 3:
            assert process.poll() is None, process.stderr.read().decode()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    kept = tile_files(store.url)
    assert tiles // 3 <= len(kept) < tiles
    assert find_results(dr.open_store(store.url)) == []
    found = watch(start(RUN, store.url, tmp_path), store.url)
    for name, when in kept.items():
        assert found[name] == {when}, f"{name} was written again"
    dr.sample_robustness(str(copy), options=dr.RunOptions(block_rows=500)).write()  # in threads
    assert result_bytes(store.url) == result_bytes(copy)
    assert len(result_bytes(copy)) == 9
    again = dr.open_store(store.url)
    dr.verify_store(again, sample=20)
    assert dr.sample_robustness(again).result is not None


def watch(process, url):
    """Wait for the end of a run; return name → every time at which a tile was seen written."""
    seen = {}
    while process.poll() is None:
        try:
            for name, when in tile_files(url).items():
                seen.setdefault(name, set()).add(when)
        except FileNotFoundError:
            pass  # written or dropped just now
        time.sleep(0.02)
    finish(process)
    return seen
