"""The paper's sessions of training (C.3): how long is best, then fresh models for so long.

Nothing here knows torch, Dask or Zarr: a `Bench` makes models, measures them and keeps checkpoints,
and what a session does next follows from what its models said of the first test subset so far. So
one that goes on from a checkpoint does what it would have done without the interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ....errors import EvaluationError, InvalidDataError
from ...protocol import trimmed_mean

STEP = 5  # the paper counts epochs in fives
LOWER_RATE = 1e-4  # of the epoch after the last, with the best weights (C.3)
SAME = 12  # decimals beyond which two means are equal, as in performance matrices
FIRST, SECOND = "first", "second"  # sessions
LOSS, BALANCED, ACC = range(3)  # what is measured on a test subset

Arrays = dict[str, NDArray[Any]]
Log = dict[int, NDArray[np.float64]]  # epoch → (trials, test subsets, measures)


class Models(Protocol):
    """Models in training; see `training.Trials`."""

    def train_epoch(self, learning_rate: float | None = None) -> NDArray[np.float64]: ...
    def state(self) -> Arrays: ...
    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None: ...
    def weights(self) -> Arrays: ...
    def load_weights(
        self, weights: Mapping[str, NDArray[Any]], optimizer_reset: bool = False
    ) -> None: ...


class Keeper(Protocol):
    """Where checkpoints lie; see `store.checkpoints.Checkpoints`."""

    def save(self, facts: Mapping[str, Any], values: Mapping[str, NDArray[Any]]) -> None: ...
    def load(self) -> tuple[dict[str, Any], Arrays] | None: ...
    def clear(self) -> None: ...


@dataclass(frozen=True)
class Look:
    """What models say at an epoch.

    Attributes
    ----------
    measures : ndarray (trials, test subsets, 3) float64
        LOSS, LOSS re-weighted by class, ACC.
    means : dict of str to ndarray (n,)
        Probability of the true class, the trimmed mean over the trials, of test samples.
    """

    measures: NDArray[np.float64]
    means: Arrays


@dataclass
class Bench:
    """What all sessions of a job share.

    Attributes
    ----------
    make : callable
        Returns fresh models for a sequence of seeds.
    look : callable
        Returns what models say of the test samples.
    more : callable
        Returns what is kept of models that are the best so far, beside `Look.means`.
    keeper : Keeper
    every : int
        Epochs from one checkpoint to the next.
    curves : bool
        Whether every epoch of the second session is looked at.
    facts : dict
        Plain values that go into every checkpoint and come back from it.
    tell : callable
        Called after every epoch with session, epoch, where it goes to, and the last loss.
    earlier : float
        Seconds of the attempts before, each up to its last checkpoint; of what was trained after
        that nothing is known, and it is trained again.
    """

    make: Callable[[Sequence[int]], Models]
    look: Callable[[Any], Look]
    more: Callable[[Any], Arrays]
    keeper: Keeper
    every: int = STEP
    curves: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    tell: Callable[[dict[str, Any]], None] = lambda event: None

    def __post_init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._stored, self._arrays = self.keeper.load() or ({}, {})
        self.earlier: float = self._stored.get("seconds", 0.0)
        self._started = monotonic()
        self.facts = {**self.facts, **self._stored.get("facts", {})}

    @property
    def seconds(self) -> float:
        """Seconds of this attempt and of those before."""
        return self.earlier + monotonic() - self._started

    def session(self, name: str, seeds: Sequence[int], *, best_weights: bool = False) -> Session:
        """Return a session, from its beginning or from where a checkpoint has it.

        The models of the sessions before are let go of; a checkpoint says that they are through.
        """
        self.let_go()
        self._sessions[name] = made = Session(self, name, seeds, best_weights=best_weights)
        if name in self._stored.get("sessions", {}):
            made.restore(self._stored["sessions"][name], _part(self._arrays, name))
            self._arrays = {k: v for k, v in self._arrays.items() if not k.startswith(f"{name}/")}
        elif len(self._sessions) > 1:
            self.save()
        return made

    def let_go(self) -> None:
        """Let go of all models, which a device holds."""
        for session in self._sessions.values():
            session.let_go()

    def save(self) -> None:
        """Keep all sessions as they are."""
        facts: dict[str, Any] = {"facts": self.facts, "seconds": round(self.seconds, 3)}
        facts["sessions"] = {}
        arrays: Arrays = {}
        for name, session in self._sessions.items():
            facts["sessions"][name], own = session.checkpoint()
            arrays |= {f"{name}/{key}": values for key, values in own.items()}
        self.keeper.save(facts, arrays)


class Session:
    """Models that train side by side, and what they said of the test subsets, epoch by epoch.

    Attributes
    ----------
    epoch : int
        Finished epochs.
    log : dict of int to ndarray (trials, test subsets, 3)
        By epoch.
    means : dict of str to ndarray
        Of `Look.means` and `Bench.more`, at the epoch whose mean loss is lowest so far; of the
        second session only.
    """

    def __init__(
        self, bench: Bench, name: str, seeds: Sequence[int], *, best_weights: bool
    ) -> None:
        self.bench, self.name, self.seeds = bench, name, tuple(seeds)
        self.epoch, self.log = 0, Log()
        self.models: Any = None
        self.means: Arrays = {}
        self._state: Arrays | None = None
        self._best: Arrays = {}  # every model's weights where its own loss was lowest
        self._keep_best = best_weights
        self._reported = name == SECOND
        self.curves = bench.curves and self._reported
        self._lowest = np.inf

    # -- training ------------------------------------------------------------------------------

    def train(self, until: int, wanted: Callable[[int], bool]) -> None:
        """Train up to an epoch, looking at those that are wanted."""
        while self.epoch < until:
            self._awake()
            self.models.train_epoch()
            self.epoch += 1
            if self.curves or self._keep_best or wanted(self.epoch):
                self._see(wanted(self.epoch))
            self._tell(until)
            if self.epoch % self.bench.every == 0:
                self.bench.save()

    def top_off(self) -> Look:
        """Train the best weights of every model for one epoch more, at the lower rate (C.3)."""
        self._awake()
        self.models.load_weights(self._best, optimizer_reset=True)
        self.models.train_epoch(LOWER_RATE)
        look = self.bench.look(self.models)
        return Look(look.measures, {**look.means, **self.bench.more(self.models)})

    def let_go(self) -> None:
        """Let go of the models: this session is through."""
        self.models = self._state = None

    def _awake(self) -> None:
        if self.models is None:
            self.models = self.bench.make(self.seeds)
        if self._state is None:
            return
        try:
            self.models.load_state(self._state)
        except InvalidDataError as error:  # a module whose code was changed, say
            self.bench.keeper.clear()
            raise EvaluationError(
                f"its checkpoint is of other models: {error}; it is dropped, so run the same "
                "command again to begin anew"
            ) from error
        self._state = None

    def _see(self, wanted: bool) -> None:
        look = self.bench.look(self.models)
        self.log[self.epoch] = look.measures
        losses = look.measures[:, 0, LOSS]
        if self._keep_best:
            before = np.array([m[:, 0, LOSS] for e, m in self.log.items() if e != self.epoch])
            better = losses < before.min(axis=0, initial=np.inf)
            weights = self.models.weights()
            self._best = self._best or {k: v.copy() for k, v in weights.items()}
            for name, values in weights.items():
                self._best[name][better] = values[better]
            return
        loss = round(trimmed_mean(losses), SAME)
        if wanted and self._reported and loss < self._lowest:
            self._lowest = loss
            self.means = {**look.means, **self.bench.more(self.models)}

    def _tell(self, until: int) -> None:
        loss = self.mean_loss(max(self.log)) if self.log else None
        event = {"session": self.name, "epoch": self.epoch, "until": until, "loss": loss}
        self.bench.tell(event)

    # -- what it said --------------------------------------------------------------------------

    def mean_loss(self, epoch: int) -> float:
        """Return the trimmed mean of the losses on the first test subset."""
        return trimmed_mean(self.log[epoch][:, 0, LOSS])

    def lowest(self, epochs: Sequence[int]) -> int:
        """Return which of some epochs has the lowest mean loss, the first of several."""
        return min(epochs, key=lambda e: (round(self.mean_loss(e), SAME), e))

    def checks(self) -> list[int]:
        """Return the epochs that were looked at, in fives."""
        return [e for e in self.log if e % STEP == 0]

    def best_epochs(self) -> list[int]:
        """Return for every model the epoch at which its loss was lowest, the first of several."""
        epochs = sorted(self.log)
        losses = np.array([self.log[e][:, 0, LOSS] for e in epochs])
        return [epochs[k] for k in losses.argmin(axis=0)]

    # -- checkpoints ---------------------------------------------------------------------------

    def checkpoint(self) -> tuple[dict[str, Any], Arrays]:
        """Return what a checkpoint has of it: plain values and arrays."""
        lowest = self._lowest if np.isfinite(self._lowest) else None  # JSON has no ∞
        facts = {"epoch": self.epoch, "log": list(self.log), "lowest": lowest}
        arrays = _named("means", self.means) | _named("best", self._best)
        if self.log:
            arrays["log"] = np.stack(list(self.log.values()))
        if self.models is not None:
            arrays |= _named("state", self.models.state())
        return facts, arrays

    def restore(self, facts: Mapping[str, Any], arrays: Arrays) -> None:
        """Go back to what `checkpoint` returned."""
        lowest = facts["lowest"]
        self.epoch, self._lowest = facts["epoch"], np.inf if lowest is None else lowest
        self.log = dict(zip(facts["log"], arrays.get("log", ()), strict=True))
        self.means, self._best = _part(arrays, "means"), _part(arrays, "best")
        self._state = _part(arrays, "state") or None


def _named(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    return {f"{prefix}/{name}": values for name, values in arrays.items()}


def _part(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


# -- the ways --------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingLog:
    """What the sessions of a job say of its models.

    Attributes
    ----------
    log : dict of int to ndarray (trials, test subsets, 3)
        At the epochs that are reported.
    curves : dict of int to ndarray (trials, test subsets, 3)
        At every epoch of the reported models that was looked at.
    means : dict of str to ndarray (n,)
        Probabilities of the true class, where the mean loss is lowest.
    facts : dict
        Plain values: how it came about.
    """

    log: Log
    curves: Log
    means: Arrays
    facts: dict[str, Any]


def plain(bench: Bench, seeds: Sequence[int], epochs: Sequence[int]) -> TrainingLog:
    """Train models for the most epochs, and read off the others."""
    session = bench.session(SECOND, seeds)
    session.train(max(epochs), lambda epoch: epoch in epochs)
    log = {e: session.log[e] for e in sorted(epochs)}
    facts = {"way": "given", "epochs": session.lowest(list(log))}
    return TrainingLog(log, session.log, session.means, facts)


def search(
    bench: Bench, seeds: Sequence[int], first: Sequence[int], patience: int, most: int
) -> TrainingLog:
    """Find the overfitting threshold with a few models, then the best epochs with fresh ones.

    The first session ends when the mean loss has not fallen for `patience` checks, one every five
    epochs. The second, of fresh models, goes on until its lowest loss is not at its last check,
    and five epochs beyond the threshold at least; smaller numbers of epochs are read off on the
    way. Both end at `most` epochs, a multiple of five, at the latest.
    """
    few = bench.session(FIRST, first)
    while few.epoch < most and not _has_turned(few, patience):
        few.train(_next_check(few), _in_fives)
    threshold = few.lowest(few.checks())
    losses = {str(e): few.mean_loss(e) for e in few.checks()}
    session = bench.session(SECOND, seeds)
    session.train(min(threshold + STEP, most), _in_fives)
    while session.epoch < most and (
        session.epoch % STEP or session.lowest(session.checks()) == session.epoch
    ):
        session.train(_next_check(session), _in_fives)
    best = session.lowest(session.checks())
    facts = {
        "way": "search",
        "threshold": threshold,
        "first": losses,
        "epochs": best,
        "inside": best < session.epoch,
    }
    log = {e: session.log[e] for e in session.checks()}
    return TrainingLog(log, session.log, session.means, facts)


def _in_fives(epoch: int) -> bool:
    return epoch % STEP == 0


def _next_check(session: Session) -> int:
    """The next multiple of five; a session that goes on may be between two."""
    return (session.epoch // STEP + 1) * STEP


def _has_turned(session: Session, patience: int) -> bool:
    checks = session.checks()
    return bool(checks) and len(checks) - 1 - checks.index(session.lowest(checks)) >= patience


def best_weights(
    bench: Bench, seeds: Sequence[int], first: Sequence[int], most: int
) -> TrainingLog:
    """Train fresh models up to a threshold, keep each one's best weights, add an epoch (C.3).

    The threshold comes from other models, each trained for `most` epochs: see `threshold_of`.
    """
    many = bench.session(FIRST, first)
    many.train(most, lambda epoch: True)
    best = many.best_epochs()
    threshold = threshold_of(best)
    session = bench.session(SECOND, seeds, best_weights=True)
    session.train(threshold, lambda epoch: True)
    last = session.top_off()
    facts = {
        "way": "best-weights",
        "threshold": threshold,
        "best_epochs": best,
        "average": average_of(best),
        "epochs": threshold,
        "extra": 1,
        "second_best_epochs": session.best_epochs(),
    }
    return TrainingLog({threshold: last.measures}, session.log, last.means, facts)


def threshold_of(epochs: Sequence[int]) -> int:
    """Return the smallest multiple of five that at most a fifth of the epochs lie above (C.3)."""
    allowed = len(epochs) // 5
    highest = sorted(epochs)[len(epochs) - 1 - allowed]
    return -(-highest // STEP) * STEP


def average_of(epochs: Sequence[int]) -> int:
    """Return the rounded mean without the fifth of highest and of lowest epochs (C.3)."""
    drop = len(epochs) // 5
    return round(float(np.mean(sorted(epochs)[drop : len(epochs) - drop])))
