"""Several at work on one store: one makes what all want, nobody waits for the dead, no row is lost.

Real processes where one is killed or stopped; threads, which claims tell apart as little, else.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import brute
import msgspec
import numpy as np
import pytest

import dskrobust as dr
from dskrobust.errors import (
    BusyStoreError,
    BusyStoreWarning,
    DamagedStoreError,
    InvalidDataError,
    StaleResultsError,
    StoreError,
)
from dskrobust.store import Block, claims, exclusive, find_results, state, writing
from dskrobust.store.objects import Objects, Place

HOLD = """
import sys, time
from dskrobust.store import exclusive
from dskrobust.store.objects import Place
with exclusive(Place(sys.argv[1], {}), "work", "something long is made"):
    print("held", flush=True)
    time.sleep(60)
"""


def rows_of(n, seed=0, low=0):
    rng = np.random.default_rng(seed)
    return rng.integers(low, 90, (n, 4)).astype(np.float32), np.arange(n) % 3


@pytest.fixture
def store(tmp_path):
    return dr.create_store(tmp_path / "own.zarr", *rows_of(120))


@pytest.fixture
def quick(monkeypatch):
    """Claims that beat often and expire soon."""
    for name, seconds in {"BEAT": 0.05, "EXPIRY": 0.5, "LOOK": 0.02}.items():
        monkeypatch.setattr(claims, name, seconds)


@pytest.fixture
def holder(store):
    """Another process that holds a claim."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def claim_names(store):
    return [n for n in Objects(store.address).names(claims.CLAIMS) if n.endswith(claims.END)]


def test_who_is_at_work_is_named_and_waited_for(store, holder, quick):
    with (
        pytest.raises(BusyStoreError) as refused,
        exclusive(store, "work", "the same", wait=False),
    ):
        pass
    for part in ("something long is made", f"process {holder.pid}", " on ", " since "):
        assert part in str(refused.value)
    threading.Timer(0.6, holder.kill).start()
    started = time.monotonic()
    with (
        pytest.warns(BusyStoreWarning, match=f"process {holder.pid}"),
        exclusive(store, "work", "the same") as ours,
    ):
        assert ours
    assert time.monotonic() - started > 0.5
    assert claim_names(store) == []


def test_one_that_was_killed_blocks_nobody(store, holder):
    holder.kill()
    holder.wait()
    started = time.monotonic()
    with exclusive(store, "work", "the same", wait=False) as ours:
        assert ours
    assert time.monotonic() - started < claims.EXPIRY / 2


def test_one_that_this_process_has_left_behind_blocks_nobody(store):
    left = claims._new("a thread that ended without a word")
    key = f"{claims.CLAIMS}/work{claims.END}"
    Objects(store.address).write(key, claims._sealed(key, left))
    with exclusive(store, "work", "the same", wait=False) as ours:
        assert ours


def test_one_elsewhere_that_stopped_beating_expires(store, holder, quick):
    os.kill(holder.pid, signal.SIGSTOP)  # as of a machine that is gone: no beat any more
    key = f"{claims.CLAIMS}/work{claims.END}"
    objects = Objects(store.address)
    claim = msgspec.structs.replace(claims._read(objects, key), machine="another", host="far")
    objects.write(key, claims._sealed(key, claim))
    with (
        pytest.warns(BusyStoreWarning, match="far"),
        exclusive(store, "work", "the same") as ours,
    ):
        assert ours
    os.kill(holder.pid, signal.SIGCONT)


def test_a_claim_that_beats_does_not_expire(store, quick):
    done = threading.Event()

    def hold():
        with exclusive(store, "work", "long"):
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    while not claim_names(store):
        time.sleep(0.01)
    over = iter([False] * 100 + [True] * 100)  # two seconds, four times what an expiry takes
    with (
        pytest.warns(BusyStoreWarning),
        exclusive(store, "work", "the same", over=lambda: next(over)) as ours,
    ):
        assert not ours
    done.set()
    thread.join()


def test_equal_runs_at_once_make_one_result(store):
    def run(k):
        return dr.sample_robustness(dr.open_store(store.url)).write()

    with pytest.warns(BusyStoreWarning), ThreadPoolExecutor(4) as threads:
        found = list(threads.map(run, range(4)))
    assert len({scores.result.name for scores in found}) == 1
    assert len(os.listdir(Path(store.url, "results"))) == 2  # one, and Zarr's metadata
    brute.assert_same(found[0].compute(), brute.score(store.features[:], store.labels[:]))


def test_runs_of_other_parameters_go_on_at_once(store):
    metrics = ("euclidean", "cityblock", "chebyshev", "minkowski(3)")

    def run(metric):
        return dr.sample_robustness(dr.open_store(store.url), metric=metric).write()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(run, metrics))
    assert len(find_results(store)) == len({scores.result.name for scores in found}) == 4


@pytest.mark.parametrize("count", [2, 5])
def test_no_append_is_lost(store, count):
    """Of handles that were all opened before."""
    handles = [dr.open_store(store.url) for _ in range(count)]
    parts = [rows_of(10 + k, seed=k, low=k) for k in range(count)]

    def run(k):
        X, y = parts[k]
        return dr.append_rows(handles[k], [Block(X, y, np.zeros(len(X), np.int16))])

    with ThreadPoolExecutor(count) as threads:
        list(threads.map(run, range(count)))
    grown = dr.open_store(store.url)
    assert grown.rows == 120 + sum(len(X) for X, _ in parts)
    at, left = 120, {len(X): X for X, _ in parts}
    for rows, _ in grown.segments[1:]:  # in some order
        np.testing.assert_array_equal(grown.features[at : at + rows], left.pop(rows))
        at += rows
    assert not left
    assert grown.summary.rows == grown.rows
    dr.verify_store(grown)


def test_new_names_of_two_appends(tmp_path):
    X, y = rows_of(30)
    spec = dr.StoreSpec("own", "categorical", classes=("a", "b", "c"))
    store = dr.create_store(tmp_path / "own.zarr", X, y, spec=spec)
    block, names = Block(X[:6], np.full(6, 3), np.zeros(6, np.int16)), ("a", "b", "c", "d")
    first = dr.append_rows(store, [block], classes=names)
    again = dr.append_rows(store, [block], classes=names)  # the same new name, by another
    plain = dr.append_rows(store, [block._replace(labels=y[:6])])
    assert (first.rows, again.rows, plain.rows) == (36, 42, 48)
    assert plain.spec.classes == names
    with pytest.raises(StoreError, match="nothing was added"):
        dr.append_rows(store, [block], classes=("a", "b", "c", "other"))
    assert dr.open_store(store.url).rows == 48
    assert len([f for f in Path(store.url, "segments").iterdir() if f.is_dir()]) == 4


def test_a_store_that_is_replaced_while_it_is_computed(store):
    scores = dr.sample_robustness(store)
    other = rows_of(50, seed=9)
    replaced = []

    def replace():
        replaced.append(dr.create_store(store.url, *other, overwrite=True))
        return {}

    with pytest.raises(StaleResultsError, match="replaced while this was computed"):
        scores.write(replace)
    new = dr.open_store(store.url)
    assert find_results(new) == []
    np.testing.assert_array_equal(new.features[:], other[0])
    dr.sample_robustness(new).write()
    assert len([f for f in Path(store.url, "segments").iterdir() if f.is_dir()]) == 1


@pytest.mark.parametrize("lost", ["mark", "answer"])
def test_an_append_whose_answer_is_lost_is_in_once(store, monkeypatch, lost):
    """The state is there, but whoever made it does not hear of it, or cannot mark it."""
    X, y = rows_of(9, seed=3)
    create, write, failed = Objects.create, Objects.write, []

    def created(self, key, data):
        made = create(self, key, data)
        if lost == "answer" and key.startswith("states/") and not failed:
            failed.append(key)
            return False
        return made

    def written(self, key, data):
        if lost == "mark" and key.startswith("states/"):
            failed.append(key)
            raise OSError(28, "no space left on device")
        write(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "create", created)
        patch.setattr(Objects, "write", written)
        dr.append_rows(store, [Block(X, y, np.zeros(9, np.int16))])
    assert failed
    grown = dr.open_store(store.url)
    np.testing.assert_array_equal(grown.features[120:], X)
    dr.verify_store(grown)


def test_rows_that_were_cleared_up_are_not_committed(store, monkeypatch):
    """Of a writer that stood still so long that it was taken for dead."""
    X, y = rows_of(9, seed=3)

    def cleared(objects, path):
        assert state.may_go(objects, path, 0)
        objects.drop(path)
        return keep(objects, path)

    keep = state.keep
    monkeypatch.setattr(writing, "keep", cleared)
    with pytest.raises(StoreError, match="nothing was added"):
        dr.append_rows(store, [Block(X, y, np.zeros(9, np.int16))])
    assert dr.open_store(store.url).rows == 120


def test_what_is_about_to_be_committed_is_not_cleared_up(store):
    path = "segments/of-another"
    objects = Objects(store.address)
    state.keep(objects, path)
    assert not state.may_go(objects, path, 9)
    state.committed(objects, path, 4)
    assert not state.may_go(objects, path, 3)  # it was not there yet
    assert state.may_go(objects, path, 4)


def test_rows_that_an_earlier_version_replaced_go(store):
    objects = Objects(store.address)
    objects.write("segments/of-another.fate", b"committed")
    assert state.may_go(objects, "segments/of-another", 0)
    dr.verify_store(store)


def test_a_damaged_fate_keeps_its_rows(store):
    path, objects = "segments/of-another", Objects(store.address)
    state.committed(objects, path, 4)
    sealed = objects.read(f"{path}.fate")
    objects.write(f"{path}.fate", sealed.replace(b"4", b"0"))
    assert not state.may_go(objects, path, 9)
    with pytest.raises(DamagedStoreError, match="repair=True"):
        dr.verify_store(store)


def test_a_failed_creation_leaves_another_its_store(tmp_path, monkeypatch):
    """One fails while another, which began later, has just finished."""
    url, (X, y) = str(tmp_path / "own.zarr"), rows_of(30)
    drop = writing._drop_unborn

    def late(objects):
        monkeypatch.setattr(writing, "_drop_unborn", drop)
        dr.create_store(url, X, y)
        drop(objects)

    monkeypatch.setattr(writing, "_drop_unborn", late)
    with pytest.raises(InvalidDataError):
        dr.create_store(url, X * np.nan, y)
    np.testing.assert_array_equal(dr.open_store(url).features[:], X)


def test_a_store_is_not_linked_to_itself(store):
    import zarr

    folder = Path(store.url, store.state.segments[0].path)
    X, y = (zarr.open_array(str(folder / name), mode="r") for name in ("features", "labels"))
    with pytest.raises(StoreError, match="lies in"):
        dr.link_store(store.url, X, y, overwrite=True)
    assert dr.open_store(store.url).rows == 120


def test_a_relative_address_after_a_change_of_folder(store, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    relative, (X, y) = dr.open_store("own.zarr"), rows_of(9, seed=3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    grown = dr.append_rows(relative, [Block(X, y, np.zeros(9, np.int16))])
    assert grown.rows == dr.open_store(store.url).rows == 129
    assert os.listdir() == []


def test_readers_of_what_was_replaced_are_told(store):
    scores = dr.sample_robustness(store).write()
    dr.create_store(store.url, *rows_of(50, seed=9), overwrite=True)
    with pytest.raises(StaleResultsError, match="open it again"):
        store.features[:]
    with pytest.raises(StaleResultsError, match="open it again"):
        scores.compute()


def test_what_others_read_stays_until_they_are_through(store, holder):
    dr.create_store(store.url, *rows_of(50, seed=9), overwrite=True)
    X, _ = rows_of(120)
    np.testing.assert_array_equal(store.features[:], X)
    holder.kill()
    holder.wait()
    dr.append_rows(dr.open_store(store.url), [Block(X[:5], np.arange(5), np.zeros(5, np.int16))])
    with pytest.raises(StaleResultsError):
        store.features[:]


def test_a_store_that_may_only_be_read_says_nothing(store):
    Path(store.url, claims.CLAIMS).mkdir(exist_ok=True)
    for folder in (Path(store.url, claims.CLAIMS), Path(store.url)):
        folder.chmod(0o555)
    try:
        with claims.at_work(Place(store.url, {}), "a test"):
            assert os.geteuid() == 0 or claim_names(store) == []
    finally:
        for folder in (Path(store.url), Path(store.url, claims.CLAIMS)):
            folder.chmod(0o755)
