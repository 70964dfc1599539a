"""Runs of more tiles than a scheduler should hold: one graph after the other."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
from dask.delayed import Delayed

from .graph import Choices, Key, PairGraph, RunGraph
from .plan import Plan
from .rounds import last_rounds
from .spec import TileSpec
from .tasks import has_turn, settle


class Waves:
    """The graphs that have to run before that of a `PairGraph`, whose states read what they leave.

    Between two graphs a worker holds nothing: every tile keeps the states of its blocks in the
    memo. So a run that was stopped goes on with the first wave that is not done.

    Parameters
    ----------
    pairs : PairGraph
    spec : TileSpec
        With a memo.
    plan : Plan
    choices : Choices
        With names for the states of blocks.
    """

    def __init__(self, pairs: PairGraph, spec: TileSpec, plan: Plan, choices: Choices) -> None:
        assert spec.memo is not None
        self._pairs, self._spec, self._plan, self._choices = pairs, spec, plan, choices
        self._memo = spec.memo

    @classmethod
    def of(cls, pairs: PairGraph, spec: TileSpec, plan: Plan, choices: Choices) -> Waves | None:
        """Return the waves of a graph, None where it holds all tiles itself."""
        return cls(pairs, spec, plan, choices) if pairs.waves else None

    def run(self, **kwargs: Any) -> None:
        """Compute all waves that are missing, one after the other; kwargs: of Dask's compute."""
        for k in range(self._done(**kwargs), len(self._pairs.waves)):
            self._compute(k, **kwargs)
            self._memo.save(self._mark(k), {"done": np.ones(1, bool)})

    def _mark(self, wave: int) -> str:
        return f"{self._choices.block_names[0]}-wave-{wave}"

    def _done(self, **kwargs: Any) -> int:
        """Return how many waves are done, and all states there."""
        count = 0
        while count < len(self._pairs.waves) and self._memo.load(self._mark(count)):
            count += 1
        rounds = last_rounds(self._plan, self._pairs.waves[:count])
        run, keys = self._start(), list[Key]()
        for k, number in rounds.items():
            name = self._choices.block_names[k]
            keys.append((f"kept-{self._pairs.token}", k, number))
            run.pairs.graph[keys[-1]] = (has_turn, run.shared, name, number)
        return count if _ended(run.pairs, all, keys, **kwargs) else 0

    def _compute(self, wave: int, **kwargs: Any) -> None:
        run, waves = self._start(), self._pairs.waves
        known = run.add_finished(last_rounds(self._plan, waves[:wave]), run.add_base())
        keys: list[Key] = []
        for k, state in run.add_wave(waves[wave], known).items():
            keys.append((f"settled-{self._pairs.token}", k, wave))
            run.pairs.graph[keys[-1]] = (settle, state)
        _ended(run.pairs, settle, keys, **kwargs)

    def _start(self) -> RunGraph:
        """Return a graph of the same run that has no tiles yet."""
        pairs = self._pairs
        graph = {key: pairs.graph[key] for key in (pairs.source, pairs.context)}
        fresh = PairGraph(graph, pairs.token, pairs.blocks, pairs.source, pairs.context)
        return RunGraph(fresh, self._spec, self._plan, self._choices)


def _ended(pairs: PairGraph, function: Any, keys: list[Key], **kwargs: Any) -> Any:
    """Compute a function of small results of a graph."""
    end = f"end-{uuid.uuid4().hex}"
    return Delayed(end, {**pairs.graph, end: (function, keys)}).compute(**kwargs)
