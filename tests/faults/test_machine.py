"""A store in any order of use and misuse, against a model in memory.

Stores are created, appended to, computed, replaced, abandoned in the middle of any of these, and
damaged, through two handles. Rows and results are always those of one state of the model, whole; or
an error says why there are none.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import brute
import numpy as np
import pytest
from faults.writes import NEEDS_SPACE, written_paths
from helpers import flipped
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import dskrobust as dr
from dskrobust.errors import DskrobustError
from dskrobust.store import Block, find_results

GROUPS = ("a", "b")
TABLES = ("robustness", "lipschitz", "reach", "witness")


class AbandonedError(OSError):
    """The run that is writing is given up here, as on a full disk."""


class Abandon:
    """Raises at the n-th write to a store, and at every one after it, as long as it is armed.

    What only removes goes on: a run that can clean up, unlike a process that is killed, may.
    """

    def __init__(self):
        self.name, self.left, self.struck = "", 0, False

    def __call__(self, event, args):
        if self.name and event in NEEDS_SPACE:
            if not any(self.name in path for path in written_paths(event, args)):
                return
            self.left -= 1
            if self.left < 0:
                self.struck = True
                raise AbandonedError(f"at {event} of {args[0]}")


ABANDON = Abandon()
sys.addaudithook(ABANDON)


class Rows(NamedTuple):
    """What a store holds."""

    X: np.ndarray
    y: np.ndarray
    codes: np.ndarray

    @classmethod
    def drawn(cls, n, seed):
        """Return rows of small whole numbers; both groups and classes are among them."""
        rng = np.random.default_rng(seed)
        X = rng.integers(-99, 99, (n, 4)).astype(np.float32)
        y, codes = np.arange(n) // 2 % 2, np.arange(n) % 2
        return cls(X, y, codes.astype(np.int16))

    def then(self, other):
        """Return these rows and others after them."""
        return Rows(*map(np.concatenate, zip(self, other, strict=True)))

    def equal(self, block):
        """Whether a block that was read holds these rows."""
        return all(map(np.array_equal, self, block[:3]))


class FaultMachine(RuleBasedStateMachine):
    """The store, and what it may hold: more than one state after a run that was abandoned."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.url = f"{self.folder}/own.zarr"
        self.possible, self.past, self.handles = [], [], []

    @initialize(seed=st.integers(0, 99))
    def create(self, seed):
        self.possible = [Rows.drawn(16, seed)]
        self._write(self.possible[0])
        self.handles = [dr.open_store(self.url) for _ in range(2)]

    def _write(self, rows):
        spec = dr.StoreSpec("own", "categorical", classes=("x", "y"))
        split = np.array(GROUPS)[rows.codes]
        dr.create_store(self.url, rows.X, rows.y, split, spec=spec, overwrite=True)

    def _append(self, store, rows):
        dr.append_rows(store, [Block(*rows)])

    def _compute(self, store):
        dr.sample_robustness(store).write()

    def _do(self, change, after, at):
        """Make a change, perhaps abandoned at a write; the store is then as before or as after."""
        before = self._settled()
        if at is None:
            change()
            states = [after]
        else:
            states = [before, after] if self._abandoned(change, at) else [after]
        self.past += [before]
        self.possible = states

    def _abandoned(self, change, at):
        ABANDON.name, ABANDON.left, ABANDON.struck = "own.zarr", at, False
        try:
            change()
        except (AbandonedError, DskrobustError, OSError):
            assert ABANDON.struck
            return True
        finally:
            ABANDON.name = ""
        return ABANDON.struck  # what it was to remove may still be there

    def _settled(self):
        """Read the store: it holds one of the possible states, the only one from now on."""
        store = dr.open_store(self.url)
        block = store.read_block(0, store.rows)
        fit = [rows for rows in self.possible if rows.equal(block)]
        assert fit, f"{store.rows} rows of no state"
        self.possible = fit[:1]
        return fit[0]

    @rule(n=st.integers(4, 12), seed=st.integers(0, 99), at=st.none() | st.integers(0, 40))
    def append(self, n, seed, at):
        rows, store = Rows.drawn(n, seed), dr.open_store(self.url)
        self._do(lambda: self._append(store, rows), self._settled().then(rows), at)

    @rule(n=st.integers(8, 20), seed=st.integers(0, 99), at=st.none() | st.integers(0, 60))
    def overwrite(self, n, seed, at):
        rows = Rows.drawn(n, seed)
        self._do(lambda: self._write(rows), rows, at)

    @rule(at=st.none() | st.integers(0, 150))
    def compute(self, at):
        store, rows = dr.open_store(self.url), self._settled()
        self._do(lambda: self._compute(store), rows, at)

    @rule(which=st.integers(0, 1))
    def reopen(self, which):
        self.handles[which] = dr.open_store(self.url)

    @rule(which=st.integers(0, 1), n=st.integers(4, 12), seed=st.integers(0, 99))
    def append_by_an_old_handle(self, which, n, seed):
        rows, before = Rows.drawn(n, seed), self._settled()
        try:
            self._append(self.handles[which], rows)
        except DskrobustError:
            assert self._settled().equal(before)
        else:
            self.past += [before]
            self.possible = [before.then(rows)]

    @rule(which=st.integers(0, 1))
    def read_by_an_old_handle(self, which):
        store, now = self.handles[which], self._settled()
        try:
            block = store.read_block(0, store.rows)
        except DskrobustError:
            return
        assert any(rows.equal(block) for rows in (now, *self.past)), "a mixture of states"

    @precondition(lambda self: self.possible)
    @rule(data=st.data())
    def flip(self, data):
        rows = self._settled()
        files = sorted(f for f in Path(self.url).rglob("*") if f.is_file() and f.stat().st_size)
        file = data.draw(st.sampled_from(files), label="file")
        bit = data.draw(st.integers(0, 8 * file.stat().st_size - 1), label="bit")
        with flipped(file, bit):
            try:
                store = dr.open_store(self.url)
                block = store.read_block(0, store.rows)
                self._results_are_right(store, rows)
            except DskrobustError:
                return
        assert rows.equal(block), "other rows, and nothing said"

    def _results_are_right(self, store, rows):
        for result in find_results(store):
            if not result.covers(store):
                continue
            wanted = brute.score(rows.X, rows.y, np.array(GROUPS)[rows.codes])
            for name in TABLES:
                got = result.read(name, 0, store.rows)
                np.testing.assert_array_equal(got, getattr(wanted, name))

    @invariant()
    def holds_one_state(self):
        if self.possible:
            rows = self._settled()
            self._results_are_right(dr.open_store(self.url), rows)

    def teardown(self):
        ABANDON.name = ""
        shutil.rmtree(self.folder)


STEPS = int(os.environ.get("FAULT_STEPS", "8"))
TestFaults = FaultMachine.TestCase
TestFaults.settings = settings(
    max_examples=max(4, STEPS // 2), stateful_step_count=STEPS, deadline=None
)
TestFaults.pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning")]
