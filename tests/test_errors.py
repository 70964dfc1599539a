"""Errors say what to do, in Python and on the command line each in its own words."""

import pickle

import pytest

from dskrobust.errors import DskrobustError, Hint, InvalidOptionError, MemoryPlanError


@pytest.mark.parametrize("kind", [DskrobustError, InvalidOptionError, MemoryPlanError])
def test_a_hint_is_worded_for_whoever_reads_it(kind):
    error = kind("no room", Hint("raise Resources(memory_limit=…)", "raise --memory-limit"))
    for same in (error, pickle.loads(pickle.dumps(error))):  # a worker's error too
        assert str(same) == "no room; raise Resources(memory_limit=…)"
        assert same.on_command_line == "no room; raise --memory-limit"
        assert same.args == ("no room",)


def test_errors_without_a_hint():
    assert str(DskrobustError("no room")) == DskrobustError("no room").on_command_line == "no room"
    assert str(DskrobustError()) == ""
