"""Full, read-only and failing disks: one line with path and remedy, and nothing half-written.

A real full disk is a tmpfs of a few MiB, mounted in a user namespace where the system lets one do
so. Everywhere else, and for what no test can bring about (quotas, failing devices), the calls of
the system are made to fail.
"""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import zarr.storage
from click.testing import CliRunner

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.errors import DISK, REMEDIES, InvalidOptionError, OutputError, system_reason
from dskrobust.outputs import check_output, whole_file
from dskrobust.space import check_space

ROOM = namedtuple("ROOM", "total used free")
ALL = (*DISK, errno.EDQUOT, errno.EACCES, errno.ENOENT)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with arrays in a file, and a store of them with results."""
    folder = tmp_path_factory.mktemp("disk")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 8)), np.arange(200) % 2
    np.savez(folder / "own.npz", X=X, y=y)
    dr.sample_robustness(dr.create_store(folder / "own.zarr", X, y)).write()
    return folder


def call(*words):
    """Run a command in this process; return its exit code and its line of error."""
    done = CliRunner().invoke(main, list(map(str, words)))
    lines = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert "DEBUG" not in done.output, done.output
    assert len(lines) == (done.exit_code != 0), done.output
    return done.exit_code, "".join(lines)


def failing(monkeypatch, number, after=0):
    """Let the store's file system fail from some write on."""
    real, made = zarr.storage.LocalStore.set, []

    async def set_or_fail(self, key, value, *rest, **named):
        made.append(key)
        if len(made) > after:
            raise OSError(number, os.strerror(number))
        await real(self, key, value, *rest, **named)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", set_or_fail)


# -- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", sorted(set(ALL)))
def test_a_file_is_whole_or_as_it_was(tmp_path, number):
    path = tmp_path / "own.csv"
    path.write_text("before")
    path.chmod(0o600)
    with pytest.raises(OutputError) as caught, whole_file(path) as part:
        part.write_text("half")
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(f"{path} cannot be written: ")
    assert REMEDIES[number] in str(caught.value)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["own.csv"]
    with whole_file(path) as part:
        assert oct(part.stat().st_mode)[-3:] == "600"
        part.write_text("after")
    assert path.read_text() == "after"


def test_two_writers_of_one_file_leave_one_whole_file(tmp_path):
    path = tmp_path / "own.csv"
    with whole_file(path) as one, whole_file(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["own.csv"]


def test_a_folder_that_goes_meanwhile(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    with pytest.raises(OutputError, match=r"own\.csv cannot be written: .*removed meanwhile"), \
            whole_file(folder / "own.csv") as part:  # fmt: skip
        part.write_text("half")
        shutil.rmtree(folder)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("other", ["scratch/runs-1", "other/own.csv"])
def test_an_error_of_a_file_elsewhere_below_the_folder_keeps_its_name(tmp_path, other):
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "own.csv"):
        (tmp_path / other).write_text("")
    assert caught.value.filename == str(tmp_path / other)


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "own.csv"):
        Path("/nowhere/x").read_bytes()
    assert caught.value.filename == "/nowhere/x"


@pytest.mark.parametrize("name", ["/proc/own.csv", "/dev/full", "/dev/null/own.csv", "/"])
def test_places_that_take_no_file(name):
    with pytest.raises((OutputError, InvalidOptionError)):
        check_output(name)


@pytest.mark.parametrize("command", ["export", "report", "subsets", "issues", "neighbours"])
def test_no_command_computes_for_a_file_that_cannot_be(data, command, tmp_path):
    (tmp_path / "circle.csv").symlink_to("circle.csv")
    for out in ("/proc/own.csv", "/dev/full", tmp_path / "circle.csv", tmp_path / "no" / "x.csv"):
        code, line = call(command, data / "own.zarr", "--out", out)
        assert code != 0, (command, out)
        assert line


def test_what_the_system_says_and_what_to_do():
    assert system_reason(OSError(errno.ENOSPC, "No space left on device")) == (
        "no space left on device; free some space, or write to another disk"
    )
    assert system_reason(OSError("odd\nlibrary")) == "odd library"


# -- stores ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", sorted(set(DISK)))
@pytest.mark.parametrize("after", [0, 3])
def test_ingest_into_a_failing_disk(data, tmp_path, monkeypatch, number, after):
    failing(monkeypatch, number, after)
    code, line = call("ingest", data / "own.npz", "--out", tmp_path / "new.zarr")
    assert code == 1
    assert str(tmp_path / "new.zarr") in line
    assert REMEDIES[number] in line
    # Zarr writes in threads: what one of them still leaves behind is no store, and in nobody's way
    with pytest.raises(dr.errors.StoreError, match=r"no store|never finished"):
        dr.open_store(tmp_path / "new.zarr")
    monkeypatch.undo()
    assert call("ingest", data / "own.npz", "--out", tmp_path / "new.zarr")[0] == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("after", range(0, 9, 2))
def test_append_to_a_failing_disk_leaves_the_old_rows(data, tmp_path, monkeypatch, number, after):
    shutil.copytree(data / "own.zarr", tmp_path / "own.zarr")
    with monkeypatch.context() as patched:
        failing(patched, number, after)
        code, line = call("append", tmp_path / "own.zarr", data / "own.npz")
    if code:
        assert REMEDIES[number] in line
    store = dr.open_store(tmp_path / "own.zarr")
    assert store.rows == (200 if code else 400)
    dr.verify_store(store, sample=5)


# -- room --------------------------------------------------------------------------------------


@pytest.fixture
def little(monkeypatch):
    """A disk with 1,000 bytes left."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: ROOM(10**6, 10**6 - 1_000, 1_000))


def test_both_numbers_are_named(tmp_path, little):
    check_space(tmp_path / "new" / "own.zarr", 1_000, "a lot")
    check_space("memory://own", 10**30, "a lot")
    with pytest.raises(OutputError, match=r"a lot may take 2 KiB at .* 1000 B"):
        check_space(tmp_path / "own", 2_048, "a lot")


def test_no_long_run_starts_without_room(data, tmp_path, little):
    shutil.copytree(data / "own.zarr", tmp_path / "own.zarr")
    new = tmp_path / "new.zarr"
    for words in (
        ("ingest", data / "own.npz", "--out", new),
        ("append", tmp_path / "own.zarr", data / "own.npz"),
    ):
        code, line = call(*words)
        assert code == 1, words
        assert "may take" in line
        assert "1000 B free; free some space" in line
    with pytest.raises(OutputError, match="may take"):
        dr.ingest(str(data / "own.npz"), new)
    assert os.listdir(tmp_path) == ["own.zarr"]
    assert dr.open_store(tmp_path / "own.zarr").rows == 200


def test_a_run_on_a_cluster_without_room(data, little, client):
    where = ("--scheduler", client.scheduler.address)
    store = data / "own.zarr"
    before = sorted(os.listdir(store / "results"))
    for words in (
        ("compute", store, "-m", "cityblock", *where),
        ("neighbours", store, "--k", "3", *where),
    ):
        code, line = call(*words)
        assert code == 1, words
        assert "tiles and the results of them may take" in line
    assert sorted(os.listdir(store / "results")) == before


# -- real disks --------------------------------------------------------------------------------


def _child(words, before=None):
    """Run a command in a process of its own; return its exit code, and its line of error."""
    found = subprocess.run([*words], capture_output=True, text=True, timeout=120, preexec_fn=before)
    lines = [line for line in found.stderr.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in found.stderr, found.stderr
    return found.returncode, "".join(lines)


def test_a_limit_on_the_size_of_files(data, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    new = tmp_path / "new.zarr"
    words = (sys.executable, "-m", "dskrobust", "ingest", str(data / "own.npz"), "--out", str(new))
    code, line = _child(words, limit)
    assert code == 1
    assert line.startswith(f"Error: writing {new}: file too large; the limit on the size")
    assert os.listdir(tmp_path) == []


def test_a_real_full_disk(data, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    space = ("unshare", "-rm", "--propagation", "private")
    mount = f"mount -t tmpfs -o size=16m none {disk}"
    if not shutil.which("unshare") or subprocess.run([*space, "sh", "-c", mount]).returncode:
        pytest.skip("this system lets no user mount a tmpfs")
    run = f"{sys.executable} -m dskrobust"
    lines = (
        mount, f"cp -r {data}/own.zarr {disk}", f"head -c 20M /dev/zero > {disk}/fill",
        f"{run} export {disk}/own.zarr --out {disk}/own.csv", "echo $? >&2",
        f"{run} ingest {data}/own.npz --out {disk}/new.zarr", "echo $? >&2",
        f"ls -A {disk}",
    )  # fmt: skip
    done = subprocess.run([*space, "sh", "-c", "; ".join(lines)], capture_output=True, text=True,
                          timeout=200)  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line[:1] == "E" or line.isdecimal()]
    assert len(said) == 4, done.stderr
    assert said[0].startswith(f"Error: {disk}/own.csv cannot be written: no space left on device;")
    assert said[1] == said[3] == "1"
    assert "new.zarr, but its disk has 0 B free" in said[2]
    assert done.stdout.split() == ["fill", "own.zarr"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [["--version"], ["show", "own.zarr"]])
def test_a_full_standard_output_is_named(tmp_path, words):
    dr.create_store(str(tmp_path / "own.zarr"), np.arange(6.0)[:, None], np.arange(6) % 2)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "dskrobust", *words], stdout=full,
                              stderr=subprocess.PIPE, text=True, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1
    said = "Error: the standard output takes no more: no space left on device; free some space"
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1
