"""Many states of a store: no change is lost, and old ones go, whoever reads or writes meanwhile.

Also where a file system lists folders late, or has no hard links or exclusive writes.
"""

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from shutil import copytree
from threading import local

import msgspec
import numpy as np
import pytest
from fsspec import register_implementation
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust.errors import DamagedStoreError, SharedStoreWarning, StoreError
from dskrobust.store import Block, claims, state
from dskrobust.store.objects import Objects
from dskrobust.store.spec import GroupSummary, Summary

X, y = np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(6) % 2


@pytest.fixture
def store(tmp_path):
    return dr.create_store(tmp_path / "own.zarr", X, y)


@pytest.fixture
def soon(monkeypatch):
    """Old states go at once, but for the last two."""
    monkeypatch.setattr(state, "STAY", 2)
    monkeypatch.setattr(state, "YOUNG", 0.0)


def segment_of(number):
    return state.Segment(rows=1, digest=f"{number:032x}", path=f"segments/{number}")


def append(objects, base, number):
    """Make the state of one more segment, of one row, as appending does; then clear up."""
    more = Summary(1, np.zeros(2), 1.0, base.known.label_bounds, {0: GroupSummary(1, (0.0,), True)})
    names = state.Names(base.spec.groups, base.spec.classes)
    segment = segment_of(number)
    state.change(objects, lambda now: state.added(now, base, segment, more, names))
    state.prune(objects)


def appended(objects):
    """The numbers of the segments that the newest state has, rising."""
    segments = state.newest(objects).state.segments[1:]
    return sorted(int(segment.path.rpartition("/")[2]) for segment in segments)


def files(objects):
    return sorted(path.name for path in Path(objects.address.url, state.STATES).iterdir())


def test_the_last_states_stay_and_young_ones(store, monkeypatch):
    objects = store.objects
    for number in range(40):
        append(objects, store.state, number)
    assert len(files(objects)) == 2 * 41  # records and marks
    later = state._now() + timedelta(seconds=state.YOUNG)
    monkeypatch.setattr(state, "_now", lambda: later)
    append(objects, store.state, 40)
    assert files(objects)[::2] == [f"{k:08}.state" for k in range(42 - state.STAY, 42)]
    assert len(files(objects)) == 2 * state.STAY
    assert appended(objects) == list(range(41))


def test_appending_clears_old_states_up_beside_readers(store, soon):
    block = Block(X[:1], y[:1], np.zeros(1, np.int16))
    for _ in range(4):
        dr.append_rows(store, [block])
    assert len(files(store.objects)) == 4
    np.testing.assert_array_equal(store.features[:], X)  # of the first state
    grown = dr.open_store(store.url)
    assert grown.rows == 10
    dr.verify_store(grown)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Path(dr.create_store(tmp_path_factory.mktemp("whole") / "own.zarr", X, y).url)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_a_writer_that_stands_still_loses_nothing(tmp_path_factory, whole, stops):
    """Between its look and its state others make theirs, whose old ones go: its number is free."""
    url = copytree(whole, tmp_path_factory.mktemp("still") / "own.zarr")
    objects = dr.open_store(url).objects
    base, create, left, made = state.newest(objects).state, Objects.create, list(stops), []

    def one_more():
        made.append(len(made))
        append(objects, base, made[-1])

    def created(self, key, data):
        for _ in range(left.pop() if left else 0):
            one_more()
        return create(self, key, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "STAY", 2)
        patch.setattr(state, "YOUNG", 0.0)
        patch.setattr(Objects, "create", created)
        patch.setattr(os, "fsync", lambda file: None)
        while left:
            one_more()
    assert appended(objects) == made
    state.prune(objects)
    assert appended(objects) == made


def test_a_folder_that_is_listed_late(store, monkeypatch):
    """As some network file systems do: a writer sees for minutes what there was."""
    monkeypatch.setattr(state, "STAY", 2)
    objects = store.objects
    for number in range(3):
        append(objects, store.state, number)
    before = objects.names(state.STATES)
    for number in range(3, 12):
        append(objects, store.state, number)
    with monkeypatch.context() as patch:
        patch.setattr(Objects, "names", lambda self, folder: before)
        patch.setattr(time, "sleep", lambda seconds: None)
        append(objects, store.state, 12)
    assert appended(objects) == list(range(13))


def test_writers_that_all_list_late(store, monkeypatch):
    names, seen = Objects.names, local()

    def late(self, folder):
        kept = seen.__dict__.setdefault("kept", {})
        if folder not in kept or time.monotonic() - kept[folder][0] > 0.2:
            kept[folder] = time.monotonic(), names(self, folder)
        return list(kept[folder][1])

    def run(first):
        for number in range(first, first + 5):
            append(store.objects, store.state, number)

    monkeypatch.setattr(Objects, "names", late)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(run, (0, 5, 10)))
    monkeypatch.undo()
    assert appended(store.objects) == list(range(15))


def test_a_reader_whose_state_goes_finds_the_next(store, soon, monkeypatch):
    objects, names, calls = store.objects, Objects.names, []

    def then_changed(self, folder):
        listed = names(self, folder)
        if folder == state.STATES and not calls:
            calls.append(folder)
            for number in range(4):
                append(objects, store.state, number)
        return listed

    monkeypatch.setattr(Objects, "names", then_changed)
    assert state.newest(objects).number == 4
    monkeypatch.setattr(Objects, "names", lambda self, folder: ["00000000.state"])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(StoreError, match=r"00000000\.state .* is listed and not there"):
        state.newest(objects)


def test_a_kill_between_two_steps_of_pruning_costs_nothing(store, soon, monkeypatch):
    objects = store.objects
    for stop in range(7):
        monkeypatch.setattr(state, "YOUNG", 600.0)
        for number in range(10 * stop, 10 * stop + 4):
            append(objects, store.state, number)
        monkeypatch.setattr(state, "YOUNG", 0.0)
        drop, left = Objects.drop, [None] * stop

        def dropped(self, key, drop=drop, left=left):
            if not left:
                raise KeyboardInterrupt
            left.pop()
            drop(self, key)

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(Objects, "drop", dropped)
            state.prune(objects)
        assert len(appended(objects)) == 4 * stop + 4
        dr.verify_store(store)
        state.prune(objects)
        assert len(files(objects)) == 4


def test_a_damaged_old_state_is_removed(store):
    for number in range(3):
        append(store.objects, store.state, number)
    old, new = (Path(store.url, state.STATES, f"0000000{k}.state") for k in (1, 3))
    old.write_bytes(old.read_bytes()[:-1])
    appended(store.objects)  # nobody reads it
    with pytest.raises(DamagedStoreError, match=r"00000001\.state.*nobody reads.*repair=True"):
        dr.verify_store(store)
    assert dr.verify_store(store, repair=True).mended == ("states/00000001.state",)
    assert not old.exists()
    dr.verify_store(store)
    new.write_bytes(new.read_bytes()[:-1])
    with pytest.raises(DamagedStoreError, match=r"00000003\.state.*write the store again"):
        dr.verify_store(store, repair=True)


# -- file systems that lack something ----------------------------------------------------------


class Lax(LocalFileSystem):
    """Files that are replaced, also where they must not be there."""

    protocol = "lax"

    def __init__(self, **options):
        super().__init__(auto_mkdir=True, **options)

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(str(path).removeprefix("lax://"))

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        super().pipe_file(path, value, **kwargs)


@pytest.fixture
def no_links(monkeypatch):
    def refused(*paths, **options):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)


@pytest.mark.parametrize("lacking", ["links", "fresh listings"])
def test_no_row_is_lost_where_a_file_system_lacks_something(store, lacking, request, monkeypatch):
    if lacking == "links":
        request.getfixturevalue("no_links")
    else:
        names, seen = Objects.names, local()

        def late(self, folder):
            return seen.__dict__.setdefault(folder, names(self, folder))

        monkeypatch.setattr(Objects, "names", late)

    def run(label):
        return dr.append_rows(store, [Block(X[:2] + label, y[:2], np.zeros(2, np.int16))])

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(run, range(3)))
    monkeypatch.undo()
    grown = dr.open_store(store.url)
    assert grown.rows == 12
    assert sorted(grown.features[6::2, 0]) == [0, 1, 2]
    dr.verify_store(grown)


def test_a_record_is_empty_or_whole_where_there_are_no_hard_links(store, no_links, monkeypatch):
    objects, replace = store.objects, Path.replace

    def killed(self, target):
        if Path(target).name.endswith(state.RECORD):
            assert state.newest(objects).number == 0
            monkeypatch.setattr(Path, "unlink", lambda *a, **k: None)  # as of a kill
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            append(objects, store.state, 0)
    assert Path(store.url, "states/00000001.state").read_bytes() == b""
    assert dr.open_store(store.url).rows == 6
    append(objects, store.state, 0)
    assert appended(objects) == [0]
    assert state.newest(objects).number == 2


@pytest.fixture(params=[0, 5, 0.02, 0.5, 0.999])
def begun(request, store):
    """A store, what is left of a record whose writer was killed, and the whole of it."""
    append(store.objects, store.state, 0)
    path = Path(store.url, "states/00000001.state")
    record = path.read_bytes()
    path.with_name(f"{path.name}.made").unlink()
    share = request.param
    path.write_bytes(record[: int(share * len(record)) if share < 1 else share])
    return dr.open_store(store.url), path, record


def test_a_record_that_was_begun_is_passed_over(begun):
    store, path, _ = begun
    assert store.rows == 6
    grown = dr.append_rows(store, [Block(X[:2], y[:2], np.zeros(2, np.int16))])
    assert grown.rows == dr.open_store(store.url).rows == 8
    assert state.newest(store.objects).number == 2
    with pytest.raises(DamagedStoreError, match=r"00000001\.state.*nobody reads it any more"):
        dr.verify_store(grown)
    assert dr.verify_store(grown, repair=True).mended == ("states/00000001.state",)
    assert not path.exists()


def test_a_record_that_was_begun_is_said_and_removed(begun):
    store, path, _ = begun
    with pytest.raises(DamagedStoreError, match=r"never finished.*as it was before.*repair=True"):
        dr.verify_store(store)
    assert dr.verify_store(store, repair=True).mended == ("states/00000001.state",)
    assert not path.exists()
    dr.verify_store(dr.open_store(store.url))


def test_nobody_overtakes_who_is_still_at_it(begun, monkeypatch):
    store, path, record = begun
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2 * state.LOOKS:  # it is finished while the other waits
            path.write_bytes(record)

    monkeypatch.setattr(time, "sleep", sleep)
    with claims.at_work(store.address, "rows are appended", writes=True):
        claims._ours.set(frozenset())  # as of another process
        assert dr.open_store(store.url).rows == 6
        assert dr.verify_store(store, repair=True).mended == ()
        state.change(store.objects, lambda now: msgspec.structs.replace(now, ids=False))
    assert len(slept) >= 2 * state.LOOKS
    found = state.newest(store.objects)
    assert (found.number, len(found.state.segments)) == (2, 2)


def test_who_only_stood_still_while_it_was_overtaken_loses_nothing(begun, monkeypatch):
    store, path, record = begun
    path.unlink()
    create = Objects.create

    def slow(self, key, data):
        if key != "states/00000001.state":
            return create(self, key, data)
        monkeypatch.setattr(Objects, "create", create)
        path.write_bytes(record[:9])
        append(self, store.state, 1)  # another one, which takes it for dead
        path.write_bytes(record)
        return True

    monkeypatch.setattr(Objects, "create", slow)
    append(store.objects, store.state, 0)
    assert appended(store.objects) == [0, 1]


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_first_record_that_was_begun_is_no_store(tmp_path, share):
    store = dr.create_store(tmp_path / "own.zarr", X, y)
    path = Path(store.url, "states/00000000.state")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    path.with_name(f"{path.name}.made").unlink()
    with pytest.raises(StoreError, match="was never finished; run the ingest again"):
        dr.open_store(store.url)
    assert dr.create_store(store.url, X, y).rows == dr.open_store(store.url).rows == 6


def test_a_marked_record_that_is_cut_off_is_damage(store):
    path = Path(store.url, "states/00000000.state")
    record = path.read_bytes()
    for data in (b"", record[: len(record) // 2]):
        path.write_bytes(data)
        with pytest.raises(DamagedStoreError, match=r"00000000\.state"):
            dr.open_store(store.url)


def test_who_opens_while_a_record_is_made_waits(store, no_links, monkeypatch):
    objects, made = store.objects, Path(store.url, "states/00000001.state")
    made.write_bytes(b"")
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        made.unlink(missing_ok=True)

    monkeypatch.setattr(time, "sleep", sleep)
    with claims.at_work(store.address, "rows are appended", writes=True):
        claims._ours.set(frozenset())  # as of another process
        assert state.newest(objects).number == 0
    assert len(slept) == 1


def test_where_nothing_tells_writers_apart_that_is_said(tmp_path):
    register_implementation("lax", Lax, clobber=True)
    with pytest.warns(SharedStoreWarning, match="has no exclusive writes"):
        dr.create_store(f"lax://{tmp_path}/own.zarr", X, y)
    assert dr.open_store(f"lax://{tmp_path}/own.zarr").rows == 6
