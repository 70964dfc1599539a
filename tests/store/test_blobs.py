"""Small checked records: whole or not there, whatever was damaged or killed when."""

from pathlib import Path

import numpy as np
import pytest

import dskrobust as dr
from dskrobust.errors import DamagedStoreError
from dskrobust.store import TileMemo, load_basis, save_basis
from dskrobust.store.blobs import Blobs, pack, unpack
from dskrobust.store.checkpoints import Checkpoints

X = np.arange(12.0).reshape(6, 2)


@pytest.fixture
def store(tmp_path):
    return dr.create_store(tmp_path / "own.zarr", X, np.arange(6) % 2)


def file_of(store, path):
    return Path(store.url) / path


def flip(path):
    data = path.read_bytes()
    path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "header", "moved", "case"])
def test_what_is_damaged_is_named_and_written_anew(store, harm):
    blobs = Blobs(store.address, "some/folder")
    assert blobs.read("a") is None
    assert blobs.names() == []
    for write in (blobs.write, blobs.write_once):
        write("a", X)
        np.testing.assert_array_equal(blobs.read("a"), X)
        file = file_of(store, "some/folder/a.blob")
        if harm == "flip":
            flip(file)
        elif harm == "case":  # the same number, in another bit
            line, rest = file.read_bytes().split(b"\n", 1)
            file.write_bytes(line.replace(b"dskrobust blob ", b"dskrobust blob +") + b"\n" + rest)
        elif harm == "moved":
            blobs.write("b", X)
            file.write_bytes(file.with_name("b.blob").read_bytes())
            blobs.drop("b")
        else:
            data = file.read_bytes()
            file.write_bytes({"cut": data[:-1], "empty": b"", "header": b"x" + data}[harm])
        with pytest.raises(DamagedStoreError, match=r"some/folder/a\.blob"):
            blobs.read("a")
        assert blobs.whole("a") is None
    blobs.write_once("a", X)
    np.testing.assert_array_equal(blobs.read("a"), X)
    assert blobs.names() == ["a"]
    blobs.drop()
    blobs.drop()
    assert blobs.read("a") is None


def test_named_arrays_in_one_blob():
    named = {"a/b": X, "n": np.array(7), "none": np.zeros((0, 2))}
    again = unpack(pack(named))
    assert list(again) == list(named)
    for name, values in named.items():
        np.testing.assert_array_equal(again[name], values)


def test_finished_tiles(store):
    memo = TileMemo(store.address, "run")
    assert (memo.load("1-2"), memo.count()) == (None, 0)
    memo.save("1-2", {"reach": X})
    np.testing.assert_array_equal(memo.load("1-2")["reach"], X)
    assert memo.count() == 1
    flip(file_of(store, "tiles/run/1-2.blob"))
    assert memo.load("1-2") is None
    memo.clear()
    assert memo.count() == 0


def test_a_basis_that_is_damaged_is_made_again(store):
    name = save_basis(store.address, "kind", {"axes": X}, {"width": 2})
    for _ in range(2):
        found, arrays, facts = load_basis(store, "kind")
        assert (found, facts) == (name, {"width": 2})
        np.testing.assert_array_equal(arrays["axes"], X)
        flip(file_of(store, f"prefixes/kind/{name}/basis.blob"))
        assert load_basis(store, "kind") is None
        assert save_basis(store.address, "kind", {"axes": X}, {"width": 2}) == name


def test_the_newest_checkpoint_that_is_whole(store):
    kept = Checkpoints(store.address, "evaluations/e/checkpoints/step")
    assert kept.load() is None
    values = {"a/b": X, "n": np.array(7), "none": np.zeros((0, 2))}
    kept.save({"epoch": 1}, values)
    facts, found = kept.load()
    assert facts == {"epoch": 1}
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in values.items()}
    assert found["a/b"].flags.writeable  # best weights go on to be replaced
    kept.save({"epoch": 2}, values)
    (name,) = kept.names()
    assert kept.load()[0] == {"epoch": 2}
    flip(file_of(store, f"{kept.path}/{name}/0-0.blob"))
    assert kept.load() is None
    kept.clear()
    assert kept.names() == []
