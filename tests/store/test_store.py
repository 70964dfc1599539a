"""The store: what goes in comes out, or an error names it; a kill or a slip loses nothing."""

import os
import shutil
import tempfile
from pathlib import Path

import brute
import dask.array as da
import fsspec
import numpy as np
import pytest
import strategies as own
import zarr
from helpers import array_folder, flipped
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

import dskrobust as dr
from dskrobust.errors import DamagedStoreError, InvalidDataError, StaleResultsError, StoreError
from dskrobust.store import (
    Block,
    creation,
    current_results,
    find_results,
    matching,
    seals,
    writing,
)

NAMES = ("features", "labels", "split")
pytestmark = pytest.mark.filterwarnings(
    "ignore::dskrobust.errors.ContradictionWarning"  # rounding makes twins; not what is tested
)


def arrays_of(n=50, d=6, dtype="float32", labels="categorical", groups=2, seed=0):
    rng = np.random.default_rng(seed)
    X = own.features(rng, n, d, dtype, "gaussian", 0)
    y = own.label_values(rng, n, labels, False)
    if n >= 2 * groups:
        y[: 2 * groups] = np.repeat([0, 1], groups).reshape((-1, *[1] * (y.ndim - 1)))
    return X, y, np.array(["b", "a", "c"])[np.arange(n) % groups]


def zarr_arrays(folder, **values):
    """Values as Zarr arrays in a folder, with chunks that fit nothing."""
    return {
        name: zarr.array(v, store=str(folder / f"{name}.zarr"), chunks=(7, *v.shape[1:]))
        for name, v in values.items()
    }


@pytest.fixture
def small_units(monkeypatch):
    """Make units of 8 rows or so, that a small store has many chunks of everything."""
    from dskrobust.store import arrays

    monkeypatch.setattr(arrays, "UNIT_BYTES", 256)
    monkeypatch.setattr(arrays, "READ_BYTES", 1024)
    monkeypatch.setattr(writing, "UNITS_PER_WRITE", 2)


def assert_holds(store, X, y, split=None):
    np.testing.assert_array_equal(store.features[:], X)
    np.testing.assert_array_equal(store.labels[:], y)
    wanted = np.array(["all"] * len(X)) if split is None else split
    np.testing.assert_array_equal(store.split, wanted)
    assert (store.rows, store.columns) == X.shape


def made(how):
    """Return the function that makes a store of arrays in this way."""
    return dr.link_store if how == "link" else dr.create_store


# -- round trips -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["numpy", "dask", "zarr", "link"])
@pytest.mark.parametrize("dtype", [*own.DTYPES, "bool", "int8", "uint16", "int64", ">f8"])
@pytest.mark.parametrize("small", [False, True])
def test_round_trip(how, dtype, small, tmp_path, request):
    if small:
        request.getfixturevalue("small_units")
    X, y, split = arrays_of()
    X = X.astype(dtype)
    codes = np.arange(50) % 2 + 3
    split = codes.astype(str)
    given_as = {"X": X, "y": y, "split": codes}
    if how == "dask":
        given_as["X"] = da.from_array(X, chunks=(7, 4))
        given_as["y"] = da.from_array(y, chunks=11)
    elif how in ("zarr", "link"):
        given_as = zarr_arrays(tmp_path, **given_as)
    if how == "link" and dtype == ">f8":
        with pytest.raises(StoreError, match="byte order"):
            dr.link_store(str(tmp_path / "own.zarr"), **given_as)
        return
    store = made(how)(str(tmp_path / "own.zarr"), **given_as)
    assert store.groups == ("3", "4")
    for reopened in (store, dr.open_store(str(tmp_path / "own.zarr"))):
        assert_holds(reopened, X, y, split)
        assert reopened.features.shape == (50, 6)
        assert reopened.labels.shape == (50,)
        assert reopened.split_codes.dtype == np.int16
        if how != "link":
            wanted = "uint8" if dtype == "bool" else np.dtype(dtype).newbyteorder("=")
            assert reopened.features.dtype == wanted
            assert reopened.features[:].dtype == wanted
        assert reopened.labels[:].dtype == reopened.labels.dtype == y.dtype
        assert repr(reopened)
        assert repr(reopened.features)
    data = own.Data(X.astype(np.float64), y, split, "categorical")
    found = dr.sample_robustness(store).compute()
    brute.assert_same(found, brute.score(data.X, data.y, data.split))


@pytest.mark.parametrize("labels", own.LABELS)
@pytest.mark.parametrize("how", ["numpy", "dask", "link"])
def test_labels_round_trip(labels, how, tmp_path, small_units):
    X, y, _ = arrays_of(labels=labels)
    if y.ndim == 2:
        y = np.hstack([y, -y])  # of one column only they would be real numbers
    given_as = {"X": X, "y": y}
    if how == "dask":
        given_as["y"] = da.from_array(y, chunks=(11, *y.shape[1:]))
    elif how == "link":
        given_as = zarr_arrays(tmp_path, **given_as)
    store = made(how)(str(tmp_path / "own.zarr"), **given_as)
    assert_holds(store, X, y)
    assert store.spec.label_kind == labels.partition("-")[0]
    assert store.labels.shape == y.shape


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")  # text in Zarr
@pytest.mark.parametrize("how", ["numpy", "dask", "objects", "zarr", "link"])
def test_text_labels_and_splits(how, tmp_path, small_units):
    X, codes, split = arrays_of()
    classes = np.array(["ant", "bee", "cow", "dog"])
    given_as = {"X": X, "y": classes[codes], "split": split}
    if how == "objects":
        given_as |= {name: given_as[name].astype(object) for name in ("y", "split")}
    elif how in ("zarr", "link"):
        given_as = zarr_arrays(tmp_path, **given_as)
    elif how == "dask":
        given_as |= {name: da.from_array(given_as[name], chunks=9) for name in ("y", "split")}
    store = made(how)(str(tmp_path / "own.zarr"), **given_as)
    assert store.spec.classes == tuple(classes)
    assert store.spec.label_kind == "categorical"
    assert_holds(store, X, codes, split)
    np.testing.assert_array_equal(store.labels[5:31], codes[5:31])
    assert store.labels.dtype == store.labels[3:3].dtype == np.int64


def test_a_spec_survives(tmp_path):
    X, y, _ = arrays_of()
    spec = dr.StoreSpec(
        "mine",
        "categorical",
        scale=1 / 255,
        classes=("w", "x", "y", "z"),
        image_shape=(2, 3),
        feature_names=tuple("abcdef"),
        scaling={"labels": {"min": 0.0, "max": 0.1}},
        provenance={"file": "ü.csv"},
    )
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, spec=spec)
    assert dr.open_store(store.url).spec == spec


def test_links_copy_nothing_and_notice_changes(tmp_path, small_units):
    X, y, _ = arrays_of(4096, 16)
    source = zarr.array(X, store=str(tmp_path / "x.zarr"), chunks=(64, 16))
    labels = zarr.array(y, store=str(tmp_path / "y.zarr"))
    store = dr.link_store(str(tmp_path / "own.zarr"), source, labels)
    assert not list((tmp_path / "own.zarr").rglob("features"))
    size = sum(f.stat().st_size for f in (tmp_path / "own.zarr").rglob("*") if f.is_file())
    assert size < X.nbytes / 2
    with pytest.raises(StoreError, match="cannot grow"):
        dr.append_rows(store, [Block(X[:2], y[:2], np.zeros(2, np.int16))])
    source[100, 3] += 1
    again = dr.open_store(store.url)
    np.testing.assert_array_equal(again.features[:64], X[:64])
    with pytest.raises(DamagedStoreError, match=r"x\.zarr.* chunk \d+ "):
        again.features[:]
    shutil.rmtree(tmp_path / "x.zarr")
    with pytest.raises(StoreError, match="not there"):
        dr.open_store(store.url).features[:]


def test_links_survive_another_working_folder(tmp_path, monkeypatch):
    X, y, _ = arrays_of()
    monkeypatch.chdir(tmp_path)
    linked = zarr.array(X, store="x.zarr"), zarr.array(y, store="y.zarr")
    dr.link_store(str(tmp_path / "own.zarr"), *linked)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_holds(dr.open_store(str(tmp_path / "own.zarr")), X, y)


def test_only_arrays_with_an_address_can_be_linked(tmp_path):
    X, y, _ = arrays_of()
    for given_as in ((X, y), (zarr.array(X), zarr.array(y)), (da.from_array(X), y)):
        with pytest.raises(StoreError, match="link"):
            dr.link_store(str(tmp_path / "own.zarr"), *given_as)
    assert not (tmp_path / "own.zarr").exists()


def test_memory_url():
    X, y, split = arrays_of()
    store = dr.create_store("memory://own/one.zarr", X, y, split)
    again = dr.open_store("memory://own/one.zarr")
    assert_holds(again, X, y, split)
    wrote = dr.sample_robustness(store).write()
    brute.assert_same(wrote.compute(), brute.score(X, y, split))
    assert dr.sample_robustness(again).result is not None
    dr.append_rows(again, [Block(X[:5], y[:5], np.zeros(5, np.int16))])
    assert dr.open_store("memory://own/one.zarr").rows == 55
    with pytest.raises(StoreError, match="already a store"):
        dr.create_store("memory://own/one.zarr", X, y)
    fsspec.filesystem("memory").rm("/own", recursive=True)


def test_file_url(tmp_path):
    X, y, split = arrays_of()
    url = f"file://{tmp_path}/own.zarr"
    assert_holds(dr.create_store(url, X, y, split), X, y, split)
    assert_holds(dr.open_store(url), X, y, split)
    assert (tmp_path / "own.zarr").is_dir()


@given(st.data())
def test_indexing_is_that_of_numpy(data):
    X, y, split = arrays_of(37, 5)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        from dskrobust.store import arrays

        patch.setattr(arrays, "UNIT_BYTES", 100)
        store = dr.create_store(f"{folder}/own.zarr", X, y, split)
        for _ in range(4):
            key = data.draw(
                st.integers(-37, 36)
                | st.slices(37)
                | st.lists(st.integers(-37, 36), max_size=8).map(lambda k: np.array(k, int))
                | st.lists(st.booleans(), min_size=37, max_size=37).map(np.array)
            )
            np.testing.assert_array_equal(store.features[key], X[key])
            np.testing.assert_array_equal(store.labels[key], y[key])
            if not isinstance(key, int):
                np.testing.assert_array_equal(store.features[key, 1:3], X[key][:, 1:3])
        with pytest.raises(IndexError):
            store.features[37]


# -- appending ---------------------------------------------------------------------------------


def test_append(tmp_path, small_units):
    X, y, split = arrays_of(90)
    codes = (split == "b").astype(np.int16)
    store = dr.create_store(str(tmp_path / "own.zarr"), X[:21], y[:21], split[:21])
    blocks = [Block(X[a : a + 5], y[a : a + 5], codes[a : a + 5]) for a in range(21, 90, 5)]
    seen = []
    longer = dr.append_rows(store, blocks, progress=seen.append)
    assert_holds(longer, X, y, split)
    assert sum(seen) == 69
    assert_holds(store, X[:21], y[:21], split[:21])  # opened before: as it was
    assert [rows for rows, _ in longer.segments] == [21, 69]
    assert longer.summary.rows == 90
    assert longer.summary.groups[0].rows == 45
    assert len({digest for _, digest in longer.segments}) == 2


def test_append_brings_groups_and_classes(tmp_path):
    X, y, _ = arrays_of()
    spec = dr.StoreSpec("own", "categorical", classes=("w", "x", "y", "z"))
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, spec=spec)
    block = Block(X[:4], np.array([4, 4, 0, 1]), np.ones(4, np.int16))
    names = {"groups": ("all", "late"), "classes": ("w", "x", "y", "z", "new")}
    longer = dr.append_rows(store, [block], **names)
    assert longer.groups == ("all", "late")
    assert longer.spec.classes[-1] == "new"
    assert (longer.split[-4:] == "late").all()
    with pytest.raises(InvalidDataError, match="behind the old ones"):
        dr.append_rows(longer, [block], groups=("late", "all"))
    assert dr.open_store(store.url).rows == 54


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y, s: (X[:, :-1], y, s), "shape"),
        (lambda X, y, s: (X, y[:-1], s), "equally long"),
        (lambda X, y, s: (X + np.nan, y, s), "without loss"),
        (lambda X, y, s: (X + 1e-9, y, s), "without loss"),
        (lambda X, y, s: (X, y + 0.5, s), "without loss"),
        (lambda X, y, s: (X, np.stack([y, y], axis=1), s), "shape"),
        (lambda X, y, s: (X[:0], y[:0], s[:0]), "no rows"),
    ],
)
def test_a_bad_append_leaves_the_store(tmp_path, change, message):
    X, y, split = arrays_of(dtype="int32")
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    block = change(X[:9].astype(np.float64), y[:9], np.zeros(9, np.int16))
    with pytest.raises(InvalidDataError, match=message):
        dr.append_rows(store, [Block(*block)])
    assert_holds(dr.open_store(store.url), X, y, split)
    good = Block(X[:9], y[:9], np.zeros(9, np.int16))
    assert dr.append_rows(dr.open_store(store.url), [good]).rows == 59


def abandoned(store, block):
    """An append that never gets to its commit, of a process that was killed."""
    layout = writing.layout_of(store.features, store.labels)
    storage = "{}", f"segments/{len(os.listdir(Path(store.url, 'segments')))}-abandoned"
    names = ("features", "labels", "split")
    writer = writing.SegmentWriter(store.url, *storage, store.rows, layout.unit_rows, names)
    writer.create(layout)
    writer.grow(len(block.features))
    writer.write(0, block)


@pytest.mark.parametrize("rows", [1, 9, 40])
def test_a_crash_while_appending_leaves_the_store(tmp_path, small_units, rows):
    X, y, split = arrays_of(21)
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    wrote = dr.sample_robustness(store).write().compute()
    other = arrays_of(rows, seed=5)
    abandoned(store, Block(other[0], other[1], np.zeros(rows, np.int16)))
    again = dr.open_store(store.url)
    assert_holds(again, X, y, split)
    dr.verify_store(again)
    brute.assert_same(dr.sample_robustness(again).compute(), wrote)
    more, labels, _ = arrays_of(33, seed=6)
    longer = dr.append_rows(again, [Block(more, labels, np.ones(33, np.int16))])
    np.testing.assert_array_equal(longer.features[:], np.concatenate([X, more]))
    np.testing.assert_array_equal(longer.labels[:], np.concatenate([y, labels]))
    dr.verify_store(longer)


def test_a_crash_before_the_last_write_leaves_the_store(tmp_path, small_units, monkeypatch):
    X, y, split = arrays_of(21)
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    block = Block(X, y, np.zeros(21, np.int16))
    for name in ("change", "commit_more"):  # after the checksums, and before
        with monkeypatch.context() as patch:
            patch.setattr(writing, name, killed)
            with pytest.raises(KeyboardInterrupt):
                dr.append_rows(dr.open_store(store.url), [block])
        assert_holds(dr.open_store(store.url), X, y, split)
        dr.verify_store(dr.open_store(store.url))
    assert dr.append_rows(dr.open_store(store.url), [block]).rows == 42


class StoreMachine(RuleBasedStateMachine):
    """Create, append, read and reopen in any order: rows are always those that were written."""

    stores = Bundle("stores")

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        from dskrobust.store import arrays

        self.patch.setattr(arrays, "UNIT_BYTES", 64)
        self.patch.setattr(arrays, "READ_BYTES", 200)
        self.patch.setattr(writing, "UNITS_PER_WRITE", 2)
        self.folder = tempfile.mkdtemp()
        self.url = f"{self.folder}/own.zarr"
        self.X = self.y = self.split = None

    def rows(self, n, seed):
        rng = np.random.default_rng(seed)
        X = rng.integers(-9, 9, (n, 4)).astype(np.float32)
        return X, rng.integers(0, 3, n), rng.integers(0, 2, n).astype(np.int16)

    @initialize(n=st.integers(1, 40), seed=st.integers(0, 99))
    def create(self, n, seed):
        X, y, codes = self.rows(n, seed)
        spec = dr.StoreSpec("own", "categorical", groups=("a", "b"))
        self.store = creation.write_store(
            self.url, spec, [Block(X[:5], y[:5], codes[:5]), Block(X[5:], y[5:], codes[5:])]
        )
        self.X, self.y, self.split = X, y, codes

    @rule(n=st.integers(1, 40), seed=st.integers(0, 99), cut=st.integers(0, 40))
    def append(self, n, seed, cut):
        X, y, codes = self.rows(n, seed)
        blocks = [Block(X[:cut], y[:cut], codes[:cut]), Block(X[cut:], y[cut:], codes[cut:])]
        self.store = dr.append_rows(self.store, [b for b in blocks if len(b.features)])
        self.X = np.concatenate([self.X, X])
        self.y = np.concatenate([self.y, y])
        self.split = np.concatenate([self.split, codes])

    @rule(n=st.integers(1, 40), seed=st.integers(0, 99))
    def crash(self, n, seed):
        abandoned(self.store, Block(*self.rows(n, seed)))

    @rule()
    def reopen(self):
        self.store = dr.open_store(self.url)

    @rule(data=st.data())
    def read(self, data):
        lo = data.draw(st.integers(0, len(self.X)))
        hi = data.draw(st.integers(lo, len(self.X)))
        block = self.store.read_block(lo, hi)
        for got, wanted in zip(block[:3], (self.X, self.y, self.split), strict=True):
            np.testing.assert_array_equal(got, wanted[lo:hi])

    @invariant()
    def summary(self):
        if self.X is None:
            return
        assert self.store.rows == len(self.X)
        summary = self.store.summary
        assert summary.rows == len(self.X)
        assert summary.largest_feature == np.abs(self.X).max()
        assert {k: g.rows for k, g in summary.groups.items()} == {
            k: int((self.split == k).sum()) for k in np.unique(self.split)
        }
        assert sum(hi - lo for lo, hi, _ in self.store.units(0, len(self.X))) == len(self.X)

    def teardown(self):
        self.patch.undo()
        shutil.rmtree(self.folder)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=8, stateful_step_count=10, deadline=None)


# -- damage ------------------------------------------------------------------------------------


def chunk_files(folder):
    """All files that reading rows and results depends on."""
    files = (f for f in Path(folder).rglob("*") if f.is_file())
    files = (f for f in files if f.suffix not in (".made", ".fate") and "diagnosis" not in f.parts)
    return sorted(f for f in files if f.name not in ("zarr.json", "notes.record"))


@pytest.fixture
def scored(tmp_path, small_units):
    X, y, split = arrays_of(60, labels="real")
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    dr.sample_robustness(store).write()
    return tmp_path / "own.zarr", (X, y, split)


def read_all(path):
    """Read everything from a freshly opened store."""
    store = dr.open_store(str(path))
    (result,) = find_results(store)
    tables = {name: result.read(name, 0, store.rows) for name in result.tables()}
    return (*store.read_block(0, store.rows), store.summary.center), tables


def assert_damage_is_noticed(path, wanted, file, where):
    """Reading raises an error that names the array, or gives what was written."""
    try:
        found = read_all(path)
    except DamagedStoreError as error:
        message = str(error)
        assert where in message
        assert "chunk" in message or "/c/" not in str(file)
        assert "write the store again" in message or "verify" in message
        return True
    for got, value in zip(found[0], wanted[0], strict=True):
        np.testing.assert_array_equal(got, value)
    for name, value in wanted[1].items():
        np.testing.assert_array_equal(found[1][name], value)
    return False


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "longer", "swapped", "zeros"])
def test_damaged_chunks(scored, damage):
    path, _ = scored
    wanted = read_all(path)
    files = chunk_files(path)
    names = {f.relative_to(path).parts[0] for f in files}
    assert names == {"results", "segments", "states"}
    for k, file in enumerate(files):
        good = file.read_bytes()
        if damage == "missing":
            file.unlink()
        else:
            neighbour = files[k - 1].read_bytes()
            bad = {
                "empty": b"",
                "truncated": good[: len(good) // 2],
                "longer": good + b"\0",
                "swapped": neighbour,
                "zeros": bytes(len(good)),
            }[damage]
            if bad == good:
                continue
            file.write_bytes(bad)
        array = str(file.relative_to(path)).rsplit("/c/", 1)[0]
        noticed = assert_damage_is_noticed(path, wanted, file, array)
        assert noticed or damage == "swapped", file  # neighbours may hold the same values
        file.write_bytes(good)
    read_all(path)


@settings(max_examples=100)
@given(data=st.data())
def test_flipped_bits(flip_store, data):
    path, wanted, files = flip_store
    file = data.draw(st.sampled_from([f for f in files if f.stat().st_size]))
    bit = data.draw(st.integers(0, 8 * file.stat().st_size - 1))
    with flipped(file, bit):
        array = str(file.relative_to(path)).rsplit("/c/", 1)[0]
        assert_damage_is_noticed(path, wanted, file, array)


@pytest.fixture(scope="module")
def flip_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("flip") / "own.zarr"
    X, y, split = arrays_of(40, labels="real")
    dr.sample_robustness(dr.create_store(str(path), X, y, split)).write()
    return path, read_all(path), chunk_files(path)


@pytest.mark.parametrize("what", ["features", "labels", "split"])
def test_tiles_notice_damage(tmp_path, what, small_units):
    X, y, split = arrays_of(120)
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    file = chunk_files(array_folder(store.url, what))[-1]
    file.unlink()
    number = file.parent.name if what == "features" else file.name
    with pytest.raises(DamagedStoreError, match=f"{what}'.* chunk {number} "):
        dr.sample_robustness(store).compute()


def test_a_chunk_number_is_right(tmp_path, small_units):
    X, y, split = arrays_of(120)
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    rows = store.unit_rows
    for number in (0, 3, -(-120 // rows) - 1):
        file = array_folder(store.url, "features") / "c" / str(number) / "0"
        good = file.read_bytes()
        file.unlink()
        message = rf"features' .* chunk {number} \(rows from {number * rows}\)"
        with pytest.raises(DamagedStoreError, match=message):
            dr.open_store(store.url).features[:]
        file.write_bytes(good)


@pytest.fixture
def folder_of_results(scored):
    path, _ = scored
    (folder,) = (f for f in (path / "results").iterdir() if f.is_dir())
    return path, folder


@pytest.mark.parametrize("table", ["robustness", "witness", "lipschitz_by_group"])
def test_damaged_results_are_named(folder_of_results, table):
    path, folder = folder_of_results
    (file,) = chunk_files(folder / table)
    file.unlink()
    scores = dr.sample_robustness(str(path))
    assert scores.result is not None
    with pytest.raises(DamagedStoreError, match=f"{folder.name}/{table}' .* chunk 0"):
        scores.compute()


# -- stores that are none ----------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 3, "1.0", None])
def test_another_version(tmp_path, version):
    url = str(tmp_path / "own.zarr")
    zarr.open_group(url, mode="w").attrs["dskrobust"] = {"format": version, "segments": []}
    with pytest.raises(StoreError, match="format"):
        dr.open_store(url)
    with pytest.raises(StoreError):
        dr.sample_robustness(url)


def test_a_later_version_is_named(tmp_path, monkeypatch):
    X, y, _ = arrays_of()
    with monkeypatch.context() as patch:
        patch.setattr(seals, "FORMAT", 3)
        store = dr.create_store(str(tmp_path / "own.zarr"), X, y)
    with pytest.raises(
        StoreError, match=r"states/00000000\.state .*format 3, this version reads 2"
    ):
        dr.open_store(store.url)


def make_file(path):
    path.write_text("hello")


def make_array(path):
    zarr.array(np.ones(3), store=str(path))


def make_group(path):
    zarr.open_group(str(path), mode="w")


def make_old_group(path):
    zarr.open_group(str(path), mode="w", zarr_format=2)


def make_broken(path):
    path.mkdir()
    (path / "zarr.json").write_text("{not json")


def make_odd(path):
    path.mkdir()
    (path / "zarr.json").write_text("[1, 2]")


def make_folder(path):
    (path / "photos").mkdir(parents=True)
    (path / "photos" / "cat.jpg").write_bytes(b"meow")


NOT_STORES = (make_file, make_array, make_group, make_old_group, make_broken, make_odd, make_folder)


@pytest.mark.parametrize("make", [*NOT_STORES, lambda path: None, Path.mkdir])
def test_not_a_store(tmp_path, make):
    path = tmp_path / "own.zarr"
    make(path)
    with pytest.raises(StoreError):
        dr.open_store(str(path))


@pytest.mark.parametrize("make", NOT_STORES)
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("url", ["{}", "file://{}", "{}/"])
def test_what_is_no_store_is_never_deleted(tmp_path, make, overwrite, url):
    path = tmp_path / "own.zarr"
    make(path)
    before = contents(tmp_path)
    X, y, _ = arrays_of()
    with pytest.raises(StoreError):
        dr.create_store(url.format(path), X, y, overwrite=overwrite)
    assert contents(tmp_path) == before


def contents(folder):
    return {
        str(f.relative_to(folder)): f.read_bytes() for f in Path(folder).rglob("*") if f.is_file()
    }


def test_what_lies_in_memory_is_never_deleted():
    X, y, _ = arrays_of()
    files = fsspec.filesystem("memory")
    files.pipe("/own/photos/cat.jpg", b"meow")
    try:
        with pytest.raises(StoreError):
            dr.create_store("memory://own", X, y, overwrite=True)
        assert files.cat("/own/photos/cat.jpg") == b"meow"
    finally:
        files.rm("/own", recursive=True)


def test_an_unfinished_store(tmp_path):
    X, y, _ = arrays_of()
    path = str(tmp_path / "own.zarr")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writing.SegmentWriter, "drop", lambda writer: None)  # as of a kill
        patch.setattr(writing, "commit_new", killed)
        dr.create_store(path, X, y)
    with pytest.raises(StoreError, match="never finished"):
        dr.open_store(path)
    assert_holds(dr.create_store(path, X, y), X, y)


# -- overwriting -------------------------------------------------------------------------------


def test_a_store_is_only_overwritten_on_request(tmp_path):
    X, y, split = arrays_of()
    path = str(tmp_path / "own.zarr")
    dr.create_store(path, X, y, split)
    other = arrays_of(30, 4, seed=9)
    with pytest.raises(StoreError, match="overwrite"):
        dr.create_store(path, *other)
    assert_holds(dr.open_store(path), X, y, split)
    assert_holds(dr.create_store(path, *other, overwrite=True), *other)
    assert os.listdir(tmp_path) == ["own.zarr"]


@pytest.mark.parametrize("how", ["numpy", "dask", "blocks", "link"])
def test_a_failing_overwrite_keeps_the_old_store(tmp_path, how):
    X, y, split = arrays_of()
    path = str(tmp_path / "own.zarr")
    dr.sample_robustness(dr.create_store(path, X, y, split)).write()
    before = contents(path)
    bad = X.copy()
    bad[40, 2] = np.nan
    with pytest.raises(InvalidDataError, match="features row 40, column 2"):
        if how == "blocks":
            blocks = [Block(b, y[:50], np.zeros(50, np.int16)) for b in (X, bad)]
            blocks[1] = Block(bad[10:], y[10:], np.zeros(40, np.int16))
            blocks[0] = Block(X[:10], y[:10], np.zeros(10, np.int16))
            creation.write_store(path, dr.StoreSpec("own", "categorical"), blocks, overwrite=True)
        else:
            given_as = bad, y
            if how == "dask":
                given_as = da.from_array(bad, chunks=20), y
            elif how == "link":
                given_as = [
                    zarr.array(v, store=str(tmp_path / n)) for n, v in (("x", bad), ("y", y))
                ]
            made(how)(path, *given_as, overwrite=True)
    assert contents(path) == before
    other = arrays_of(30, 4, seed=9)  # and what was left behind does not stand in the way
    assert_holds(dr.create_store(path, *other, overwrite=True), *other)


def test_a_failed_creation_leaves_nothing(tmp_path):
    X, y, _ = arrays_of()
    X[40, 2] = np.inf
    with pytest.raises(InvalidDataError):
        dr.create_store(str(tmp_path / "own.zarr"), X, y)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("before", ["commit_new", "change", "clear_up"])
def test_a_kill_while_a_store_is_replaced_loses_none(tmp_path, monkeypatch, before):
    X, y, split = arrays_of()
    path = str(tmp_path / "own.zarr")
    dr.create_store(path, X, y, split)
    other = arrays_of(30, 4, seed=9)
    with monkeypatch.context() as patch:
        patch.setattr(writing.SegmentWriter, "drop", lambda writer: None)
        patch.setattr(writing, before, killed)
        with pytest.raises(KeyboardInterrupt):
            dr.create_store(path, *other, overwrite=True)
    wanted = other if before == "clear_up" else (X, y, split)
    assert_holds(dr.open_store(path), *wanted)
    # Whatever is left, the next run works, and clears up.
    assert_holds(dr.create_store(path, *other, overwrite=True), *other)
    assert_holds(dr.create_store(path, X, y, split, overwrite=True), X, y, split)
    assert len([f for f in (tmp_path / "own.zarr" / "segments").iterdir() if f.is_dir()]) == 1


def killed(*args, **kwargs):
    raise KeyboardInterrupt


# -- results -----------------------------------------------------------------------------------


def test_results_are_read_again(tmp_path, raise_if_dask_computes):
    X, y, split = arrays_of()
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    first = dr.sample_robustness(store)
    assert first.result is None
    wrote = first.write(lambda: {"machine": "mine"})
    assert wrote.result.facts["machine"] == "mine"
    assert wrote.result.facts["seconds"] > 0
    with raise_if_dask_computes():
        again = dr.sample_robustness(dr.open_store(store.url))
        assert again.result == wrote.result
        assert again.write() is again
    brute.assert_same(again.compute(), brute.score(X, y, split))
    assert again.plan is None
    assert repr(again)
    assert not (tmp_path / "own.zarr" / "tiles" / "x").exists()
    assert not list((tmp_path / "own.zarr").glob("tiles/*/*"))  # the memo is no longer needed


def test_results_of_other_parameters_are_not_taken(tmp_path):
    X, y, split = arrays_of(labels="real")
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    runs = {}
    for metric in ("euclidean", "cityblock", "minkowski(2.5)", "minkowski(2.5000001)"):
        for labels in ("real", "categorical", dr.LabelMap("real", bound=9.0)):
            scores = dr.sample_robustness(store, metric=metric, labels=labels)
            assert scores.result is None, (metric, labels)
            runs[metric, labels] = scores.write()
    names = {scores.result.name for scores in runs.values()}
    assert len(names) == len(runs) == len(find_results(store))
    for (metric, labels), scores in runs.items():
        again = dr.sample_robustness(store, metric=metric, labels=labels)
        assert again.result == scores.result
    robust = [runs["euclidean", "real"], runs["euclidean", dr.LabelMap("real", bound=9.0)]]
    a, b = (scores.compute() for scores in robust)
    assert (a.robustness != b.robustness).all()
    np.testing.assert_array_equal(a.lipschitz, b.lipschitz)


def first_metric(a, b):
    return float(np.abs(a - b).sum())


def test_functions_and_matrices_are_told_apart(tmp_path):
    X, y, split = arrays_of(20)
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    VI = np.eye(6)
    metrics = [first_metric, lambda a, b: float(np.abs(a - b).max())]
    metrics += [dr.Mahalanobis(VI), dr.Mahalanobis(2 * VI)]
    for metric in metrics:
        scores = dr.sample_robustness(store, metric=metric)
        assert scores.result is None
        scores.write()
        assert dr.sample_robustness(store, metric=metric).result is not None


def test_stale_results(tmp_path):
    X, y, split = arrays_of()
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    with pytest.raises(StaleResultsError, match="no results yet"):
        current_results(store)
    spec = dr.sample_robustness(store).write().spec
    assert current_results(store).covers(store)
    assert current_results(store, spec.parameters()).rows == 50
    with pytest.raises(StaleResultsError, match=r"other parameters \(euclidean\)"):
        current_results(store, {**spec.parameters(), "metric": "cityblock"})
    longer = dr.append_rows(store, [Block(X[:5] + 1, y[:5], np.zeros(5, np.int16))])
    with pytest.raises(StaleResultsError, match=r"cover 50 rows .* than the 55 rows"):
        current_results(longer)
    scores = dr.sample_robustness(longer)
    assert scores.result is None
    assert scores.rows == 55


def test_results_of_other_data_are_not_taken(tmp_path):
    X, y, split = arrays_of()
    path = str(tmp_path / "own.zarr")
    dr.sample_robustness(dr.create_store(path, X, y, split)).write()
    for change in ("features", "labels", "split"):
        new = X.copy(), y.copy(), split.copy()
        where = NAMES.index(change)
        if change == "features":
            new[0][7, 1] += 1
        else:
            new[where][[7, 8]] = new[where][[8, 7]]
        other = dr.create_store(str(tmp_path / f"{change}.zarr"), *new)
        shutil.copytree(Path(path) / "results", Path(other.url) / "results")
        if change != "features" and (new[where] == (X, y, split)[where]).all():
            continue
        other = dr.open_store(other.url)
        assert len(find_results(other)) == 1
        assert dr.sample_robustness(other).result is None
        with pytest.raises(StaleResultsError):
            current_results(other)


def test_results_of_the_same_bytes_at_another_scale_are_not_taken(tmp_path):
    X, y, _ = arrays_of()
    path = tmp_path / "own.zarr"
    dr.sample_robustness(dr.create_store(str(path), X, y)).write()
    spec = dr.StoreSpec("own", "categorical", scale=0.5)
    other = dr.create_store(str(tmp_path / "two.zarr"), X, y, spec=spec)
    shutil.copytree(path / "results", tmp_path / "two.zarr" / "results")
    assert dr.sample_robustness(dr.open_store(other.url)).result is None


def test_unfinished_results_are_not_taken(tmp_path, monkeypatch):
    X, y, split = arrays_of()
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    from dskrobust.store import ResultWriter

    with monkeypatch.context() as patch:
        patch.setattr(ResultWriter, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            dr.sample_robustness(store).write()
    assert find_results(dr.open_store(store.url)) == []
    again = dr.sample_robustness(dr.open_store(store.url))
    assert again.result is None
    brute.assert_same(again.write().compute(), brute.score(X, y, split))


def test_older_results_of_the_same_parameters_are_dropped(tmp_path):
    X, y, split = arrays_of()
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    spec = dr.sample_robustness(store).write().spec
    longer = dr.append_rows(store, [Block(X[:5] + 1, y[:5], np.zeros(5, np.int16))])
    dr.sample_robustness(longer).write()
    (result,) = matching(longer, spec.parameters())
    assert result.rows == 55


@pytest.mark.parametrize("code", [1, -1, 300])
def test_groups_without_a_name_are_refused(tmp_path, code):
    X, y, _ = arrays_of()
    path = str(tmp_path / "own.zarr")
    spec = dr.StoreSpec("own", "categorical", groups=("a",))
    block = Block(X, y, np.full(50, code, np.int16))
    with pytest.raises(InvalidDataError):
        creation.write_store(path, spec, [block])
    store = dr.create_store(path, X, y)
    with pytest.raises(InvalidDataError):
        dr.append_rows(store, [block])
    assert dr.open_store(path).rows == 50


def test_a_nan_in_appended_rows_is_named(tmp_path):
    X, y, split = arrays_of()
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y, split)
    bad = X.copy()
    bad[3, 2] = np.nan
    with pytest.raises(InvalidDataError, match="features row 53, column 2"):
        dr.append_rows(store, [Block(bad, y, np.zeros(50, np.int16))])
    assert_holds(dr.open_store(store.url), X, y, split)
