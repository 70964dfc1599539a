"""Kernels are kept on disk where that can be, and compiled in any case."""

import os
import subprocess
import sys

import pytest

from dskrobust.kernels import compiling

TWICE = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from dskrobust.kernels.compiling import compiled

@compiled(inline="never")
def twice(x):
    return 2 * x

print(twice(21))
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files that nothing has been put into."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(compiling.tempfile, "tempdir", str(folder))
    compiling.private_folder.cache_clear()
    yield folder
    compiling.private_folder.cache_clear()


def twice_where_nothing_can_be_written(folder, temporary):
    """Compile a kernel whose file has no writable folder of its own, nor its user a home."""
    path = folder / "twice.py"
    path.write_text(TWICE)
    (folder / "__pycache__").write_text("")  # a file: then not even root can make the folder
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA", "XDG"))}
    environment |= {"HOME": os.devnull, "PYTHONWARNINGS": "error"}
    command = [sys.executable, str(path), str(temporary)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr.strip().splitlines()


def test_without_home_a_private_temporary_folder_has_the_code(tmp_path, temporary):
    assert twice_where_nothing_can_be_written(tmp_path, temporary) == ("42", [])
    (private,) = temporary.iterdir()
    assert private.stat().st_mode & 0o777 == 0o700
    assert list(private.rglob("*.nbi"))


def test_without_any_folder_nothing_is_kept_and_one_line_says_so(tmp_path, temporary):
    made = temporary / f"dskrobust-kernels-{os.getuid()}"
    made.mkdir()
    made.chmod(0o777)  # somebody else may have put code there
    result, said = twice_where_nothing_can_be_written(tmp_path, temporary)
    assert result == "42"
    assert len(said) == 1
    assert "NUMBA_CACHE_DIR" in said[0]
    assert list(made.iterdir()) == []


def test_the_private_folder_is_nobody_elses(tmp_path, temporary, monkeypatch):
    made = temporary / f"dskrobust-kernels-{os.getuid()}"
    assert compiling.private_folder() == str(made)
    made.rmdir()
    made.symlink_to(tmp_path)
    compiling.private_folder.cache_clear()
    assert compiling.private_folder() == ""
    made.unlink()
    another = os.getuid() + 1
    made.with_name(f"dskrobust-kernels-{another}").mkdir(mode=0o700)
    monkeypatch.setattr(compiling.os, "getuid", lambda: another)
    compiling.private_folder.cache_clear()
    assert compiling.private_folder() == ""
