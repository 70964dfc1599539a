"""Coverage looks away and back again, and takes no line for another."""

import itertools
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import tracing
from helpers import TESTS

MODULE = """def deep(count, end):
    if count:
        found = deep(count - 1, end)
        return found
    end()
    return 1


def hidden():
    a = 1
    return a


def catch(fails):
    try:
        fails()
    except ZeroDivisionError:
        b = 2
    return 3
"""
PROGRAM = """
import coverage, tracing

def unseen(function):
    with tracing.untraced():
        function()

looking = coverage.Coverage(source=["looked_at"], data_file=None)
looking.start()
import looked_at
for _ in range(3):
    looked_at.deep(5, lambda: unseen(lambda: looked_at.deep(3, lambda: unseen(looked_at.hidden))))
looked_at.catch(lambda: unseen(lambda: 1 / 0))
looking.stop()
print(looking.analysis2(looked_at.__file__)[3])
"""


def test_lines_before_and_afterwards_are_seen(tmp_path):
    pytest.importorskip("coverage")
    (tmp_path / "looked_at.py").write_text(MODULE)
    (tmp_path / "program.py").write_text(f"import sys\nsys.path.append({str(TESTS)!r})\n{PROGRAM}")
    command = [sys.executable, str(tmp_path / "program.py")]
    own = {**os.environ, "COVERAGE_CORE": "ctrace"}  # another one never has to look away
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=own)
    assert done.stdout == "[10, 11]\n"  # the body of `hidden`


def test_a_function_is_looked_at_until_it_took_long(monkeypatch):
    done = []
    tracer = SimpleNamespace(stop=lambda: done.append("stop"), start=lambda: done.append("start"))
    monkeypatch.setattr(tracing, "sys", SimpleNamespace(gettrace=lambda: tracer))
    clock = itertools.count(0.0, 2 * tracing.SECONDS)
    monkeypatch.setattr(tracing, "time", SimpleNamespace(process_time=lambda: next(clock)))
    for _ in range(2):
        with tracing.traced_at_first(test_lines_before_and_afterwards_are_seen):
            done.append("run")
    assert done == ["run", "stop", "run", "start"]
    tracing._spent.pop(test_lines_before_and_afterwards_are_seen)
