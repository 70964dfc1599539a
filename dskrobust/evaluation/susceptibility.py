"""Susceptibility to adversarial examples, by what networks were trained on (paper, section 5 iii).

Networks of an evaluation are attacked where they are trained (`models/networks/attacks`): from
which of them are right about which moved images follow accuracies, and paired comparisons of the
training subsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from ..declared_types import checked_arguments
from ..display import caption, card, counted, escape
from ..display import table as html_table
from ..errors import Hint, InvalidOptionError
from ..memory import check_memory
from ..part_choice import CONFIDENCE, Interval
from ..store import Store, open_store
from .commands import TEST, TRAIN, default_subsets
from .evaluation import Evaluation, Progress, Watch
from .experiment import Experiment, ModelSpec, Selection
from .findings import RightAnswers
from .models import model_class
from .models.networks.limits import PGD_STEPS
from .models.networks.model import Network

if TYPE_CHECKING:
    from distributed import Client

Floats = NDArray[np.float64]

ATTACKS = ("fgsm", "pgd")
LEVELS = 255  # of a pixel
SIZES = tuple(n / LEVELS for n in (0, 1, 2, 4, 8, 16, 32))
TRIALS = 5
# Made-up samples beside the real ones, without which an accuracy of 0 or 1 would look certain:
# two right and two wrong (Agresti and Coull, 1998), and of differences one either way (as Agresti
# and Min, 2005, have it for matched pairs, with twice their weight).
OF_ACCURACY, OF_DIFFERENCE = (0.0, 0.0, 1.0, 1.0), (1.0, -1.0)


@checked_arguments()
def susceptibility(
    store: str | Path | Store,
    train: Mapping[str, Selection] | None = None,
    test: Mapping[str, Selection] | None = None,
    *,
    attack: str = "pgd",
    sizes: Sequence[float] = SIZES,
    model: str | ModelSpec = "cnn",
    client: Client | None = None,
    **experiment: Any,
) -> Susceptibility:
    """Return how networks' accuracy falls under attack, by what they were trained on; lazy.

    The networks are those that `evaluate` trains: the same seeds, epochs and checkpoints, all
    trials in one job, on a worker with a GPU or with ``device="cpu"``. Once trained, each is
    attacked with images of its own. Networks are not kept, so a second call with other sizes
    trains again: ask for all at once.

    Parameters
    ----------
    store : Store or str
        Of images: it says how a row is one, or the model's option ``shape`` does.
    train, test : mapping of str to selection, optional
        As `Experiment` takes them; by default a group and, where the store has results, its least
        and most robust halves. Others are compared to the first training subset.
    attack : {"pgd", "fgsm"}
        Steps of projected gradient descent from a random start (the model's option
        ``attack_steps``, 10 by default), or one step of the fast gradient sign method.
    sizes : sequence of float
        How far a pixel may move (∞-norm), as shares of the range of the test images: 8/255, say. 0
        is always among them.
    model : Model or str
        One network: cnn, resnet56 or torch: and the import path of a module. Without the
        hyper-parameter ``epochs`` their number is searched for, and every candidate attacked.
    client : distributed.Client, optional
        Where to run, as for `evaluate`.
    **experiment : int, float or str
        Further parts of an experiment: trials (5 by default), seed, metric, name.

    Raises
    ------
    InvalidOptionError
        For a store whose rows are no images or labels no classes, a model that is no network, a
        size beyond 0 to 1, and without torch.
    StaleResultsError
        Where subsets are chosen by robustness and the store has no results.
    """
    opened = open_store(store)
    subsets = (train or default_subsets(opened, TRAIN), test or default_subsets(opened, TEST))
    spec = _attacked(model, attack, _sizes(sizes))
    parts = {"name": "susceptibility", "trials": TRIALS, **experiment}
    return Susceptibility(Evaluation(opened, Experiment(*subsets, [spec], **parts), client))


def _sizes(given: Sequence[float]) -> tuple[float, ...]:
    try:
        sizes = {0.0, *map(float, given)}
    except (TypeError, ValueError) as error:
        raise InvalidOptionError(f"sizes must be numbers from 0 to 1, not {given!r:.60}") from error
    wrong = [size for size in sizes if not 0 <= size <= 1]
    if wrong or len(sizes) < 2:
        what = f"not {wrong[0]:g}" if wrong else "and one beyond 0"
        raise InvalidOptionError(
            f"sizes must be shares of the range of the data, from 0 to 1, {what}; write 8/255, say"
        )
    return tuple(sorted(sizes))


def _attacked(model: str | ModelSpec, attack: str, sizes: tuple[float, ...]) -> ModelSpec:
    """Return the model with the attack among its options."""
    spec = ModelSpec(model) if isinstance(model, str) else model
    if attack not in ATTACKS:
        raise InvalidOptionError(f"attack {attack!r} is unknown; it is {' or '.join(ATTACKS)}")
    if not issubclass(model_class(spec.kind), Network):
        raise InvalidOptionError(
            f"susceptibility is of networks, and {spec.kind} is none; take cnn, resnet56 or torch: "
            "and the import path of a module"
        )
    if spec.grid:
        raise InvalidOptionError(
            f"susceptibility is of one network; give {next(iter(spec.grid))} a single value"
        )
    own = {"attack": attack, "sizes": sizes}
    if attack == "pgd":
        own["attack_steps"] = spec.options.get("attack_steps", PGD_STEPS)
    return replace(spec, options={**spec.options, **own})


# -- intervals -----------------------------------------------------------------------------------


def interval(samples: Floats, made_up: Sequence[float], networks: Sequence[Floats]) -> Interval:
    """Return the mean over samples with its 95 % interval for other samples and other networks.

    The variance of the mean has a part of the samples and one of every set of networks, each from
    its own spread, with degrees of freedom as Welch and Satterthwaite have them. What a network
    does on single samples is in both, so the interval is rather too wide.

    Parameters
    ----------
    samples : ndarray (n,)
        Means over the networks, or differences of such means.
    made_up : sequence of float
        Samples beside them, that the interval also takes in.
    networks : sequence of ndarray (trials,)
        Accuracies; a single network says nothing of others.
    """
    seen = np.append(samples, made_up)
    parts = [(float(seen.var(ddof=1)) / len(seen), len(seen) - 1)]
    parts += [(float(own.var(ddof=1)) / len(own), len(own) - 1) for own in networks if len(own) > 1]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    reach = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * variance**0.5
    centre = float(seen.mean())
    return Interval(float(samples.mean()), centre - reach, centre + reach)


class Cell(NamedTuple):
    """What the networks of a training subset reach on a test subset under an attack of a size.

    Attributes
    ----------
    train, test : str
    size : float
    acc : Interval
    gain : Interval
        Beside the networks of the first training subset, on the same samples; NaN of these.
    """

    train: str
    test: str
    size: float
    acc: Interval
    gain: Interval


NOT_KNOWN = Interval(np.nan, np.nan, np.nan)


class _Means(NamedTuple):
    """Of a training subset: shares of its networks that are right (sizes, n), and all of them."""

    samples: NDArray[np.float32]
    answers: RightAnswers

    def of(self, test: str, size: int) -> Floats:
        """Of a test subset's samples (k,)."""
        return self.samples[size, self.answers.places[test]].astype(np.float64)

    def networks(self, test: str, size: int) -> Floats:
        """Accuracies of the networks (trials,)."""
        right: Floats = self.answers.right[:, size, self.answers.places[test]].mean(axis=1)
        return right


def cells_of(
    found: Iterator[RightAnswers], sizes: Sequence[float], first: str
) -> dict[tuple[str, str, float], Cell]:
    """Return all cells by training subset, test subset and size.

    Parameters
    ----------
    first : str
        The training subset that others are compared to.
    """
    cells: dict[tuple[str, str, float], Cell] = {}
    base: _Means | None = None
    for answers in found:
        own = _Means(answers.right.mean(axis=0, dtype=np.float32), answers)
        base = own if answers.train == first else base
        for test in answers.places:
            for k, size in enumerate(sizes):
                mine, networks = own.of(test, k), own.networks(test, k)
                acc = interval(mine, OF_ACCURACY, [networks])
                acc = Interval(acc.mean, max(acc.low, 0.0), min(acc.high, 1.0))
                gain = NOT_KNOWN
                if base is not None and base is not own:
                    both = [networks, base.networks(test, k)]
                    gain = interval(mine - base.of(test, k), OF_DIFFERENCE, both)
                cells[answers.train, test, size] = Cell(answers.train, test, size, acc, gain)
    return cells


# -- the result ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Susceptibility:
    """How the accuracy of networks falls under attack; see `susceptibility`.

    Attributes
    ----------
    evaluation : Evaluation
        All that is trained, tested and attacked; a Dask collection.
    """

    evaluation: Evaluation

    def compute(
        self,
        client: Client | None = None,
        tell: Progress | None = None,
        watch: Watch | None = None,
    ) -> Susceptibility:
        """Train and attack what the store does not have; return self.

        Parameters
        ----------
        client : distributed.Client, optional
            Where to run.
        tell, watch : callable, optional
            Called for every step and every epoch, as by `Evaluation.compute`.
        """
        self.__dict__.pop("cells", None)
        self.evaluation.compute(client, tell, watch)
        return self

    @property
    def spec(self) -> ModelSpec:
        """The network and its attack, among the options."""
        return self.evaluation.models[0].spec

    @property
    def sizes(self) -> tuple[float, ...]:
        """Sizes of the attack, rising from 0."""
        return tuple(map(float, self.spec.options["sizes"]))

    @property
    def subsets(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the training and of the test subsets; of steps that failed too."""
        experiment = self.evaluation.experiment
        return tuple(experiment.train), tuple(experiment.test)

    @property
    def _tested(self) -> int:
        """Test samples, of all test subsets."""
        return sum(self.evaluation.problem.test.values())

    @property
    def _row_bytes(self) -> int:
        return len(self.sizes) * (2 * self.evaluation.experiment.trials + 16) + 64

    @property
    def memory(self) -> int:
        """How many bytes `cells` takes at most, beside the records."""
        return self._tested * self._row_bytes

    @cached_property
    def cells(self) -> Mapping[tuple[str, str, float], Cell]:
        """What was reached, by training subset, test subset and size; computed if need be.

        Raises
        ------
        MemoryPlanError
            Where what networks say of every test sample does not fit into this process.
        """
        if not self.evaluation.is_computed:
            self.compute()
        instead = Hint("take fewer test samples, trials or sizes", "take a smaller --test")
        check_memory("what networks say of test samples", self._tested, self._row_bytes, instead)
        return cells_of(self.evaluation.right_answers(), self.sizes, self.subsets[0][0])

    def to_frame(self) -> pd.DataFrame:
        """Return a row a training subset, test subset and size, computed if need be.

        Columns: train, test, size (a share of the range of the data), acc with its 95 % interval
        (acc_low, acc_high), and gain, the difference to the first training subset on the same
        samples, with its interval and verdict (gain_low, gain_high, verdict).
        """
        lines = [
            {"train": cell.train, "test": cell.test, "size": cell.size, "acc": cell.acc.mean,
             "acc_low": cell.acc.low, "acc_high": cell.acc.high, "gain": cell.gain.mean,
             "gain_low": cell.gain.low, "gain_high": cell.gain.high,
             "verdict": "" if np.isnan(cell.gain.mean) else cell.gain.verdict}
            for cell in self.cells.values()
        ]  # fmt: skip
        return pd.DataFrame(lines)

    @property
    def telling(self) -> float:
        """The size at which the first networks keep about half of their accuracy.

        There differences show most. It is told from the first training and test subset alone.
        """
        (train, *_), (test, *_) = self.subsets
        known = {size: cell.acc.mean for size in self.sizes
                 if (cell := self.cells.get((train, test, size)))}  # fmt: skip
        if not known:  # they failed
            return self.sizes[-1]
        return min(self.sizes[1:], key=lambda size: abs(known[size] - known[0.0] / 2))

    def table(self, test: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return head and lines of what is shown of a test subset: a line a training subset."""
        first, telling = self.subsets[0][0], self.telling
        sizes = ["no attack", *map(size_text, self.sizes[1:])]
        compared = len(self.subsets[0]) > 1
        head = ("trained on", *sizes)
        head += (f"at {size_text(telling)}, beside {first}", "verdict") if compared else ()
        lines = []
        for train in self.subsets[0]:
            cells = [self.cells.get((train, test, size)) for size in self.sizes]
            line = (train, *(f"{cell.acc.mean:.3f}" if cell else "failed" for cell in cells))
            gain = self._gain(train, test, telling)
            known = not np.isnan(gain.mean)
            line += (str(gain), VERDICTS[gain.verdict]) if known else ("–", "") if compared else ()
            lines.append(line)
        return head, lines

    def _gain(self, train: str, test: str, size: float) -> Interval:
        cell = self.cells.get((train, test, size))
        return cell.gain if cell else NOT_KNOWN

    def findings(self) -> list[str]:
        """Return what was found and what to do, in sentences, the decision first."""
        return list(_findings(self))

    def foot(self) -> str:
        """Return how to read the numbers."""
        trials = self.evaluation.experiment.trials
        many = (
            f"for other samples and other networks ({counted(trials, 'trial')})"
            if trials > 1
            else "for other samples; of other networks a single trial says nothing: give more"
        )
        return (
            f"{self.attack_words}: no pixel moves further than a size (a share of the range of the "
            f"data). Intervals are 95 % each, {many}. An attack that fails proves nothing: a "
            "stronger one may succeed."
        )

    @property
    def attack_words(self) -> str:
        """What the attack is called."""
        if self.spec.options["attack"] == "fgsm":
            return "FGSM"
        return f"PGD of {counted(int(self.spec.options['attack_steps']), 'step')}"

    def __repr__(self) -> str:
        return f"<Susceptibility to {self.attack_words}: {self.evaluation!r}>"

    def _repr_html_(self) -> str:
        if not self.evaluation.is_computed:
            return f"<p>{escape(repr(self))}; <code>.compute()</code> runs it</p>"
        decision, *more = self.findings()
        parts: list[Any] = [caption(decision)]
        for test in self.subsets[1]:
            head, lines = self.table(test)
            parts += [caption(f"accuracy on {test}"), html_table(head, lines, (0, len(head) - 1))]
        title = f"{self.spec.name} on {self.evaluation.store.spec.name}"
        return card("Susceptibility", title, *parts, *more, self.foot())


VERDICTS = {
    "better": "less susceptible", "worse": "more susceptible", "no difference": "no difference",
}  # fmt: skip


def size_text(size: float) -> str:
    """Return a size in words: as levels of a pixel where that is shorter."""
    levels, short = size * LEVELS, f"{size:.3g}"
    whole = abs(levels - round(levels)) < 1e-6
    return f"{round(levels)}/{LEVELS}" if whole and float(short) != size else short


def _findings(made: Susceptibility) -> Iterator[str]:
    (first, *others), (test, *parts) = made.subsets
    size = made.telling
    base = made.cells.get((first, test, size))
    if base is None:
        yield f"The networks of {first} failed: there is nothing to compare others to."
        return
    plain = made.cells[first, test, 0.0]
    gains = {train: made._gain(train, test, size) for train in others}
    known = {train: gain for train, gain in gains.items() if not np.isnan(gain.mean)}
    yield _decision(made, known)
    yield (
        f"Trained on {first}: {plain.acc.mean:.1%} of {test} right without attack, "
        f"{base.acc.mean:.1%} [{base.acc.low:.1%}, {base.acc.high:.1%}] at {size_text(size)}."
    )
    for part in parts:
        before, after = made.cells[first, part, 0.0], made.cells[first, part, size]
        fall = before.acc.mean - after.acc.mean
        beside = plain.acc.mean - base.acc.mean
        yield (
            f"On {part} that is {before.acc.mean:.1%} and {after.acc.mean:.1%}, "
            f"{_more_or_less(fall - beside)} than on {test}."
        )
        yield from _sure(made, part, others)


def _sure(made: Susceptibility, part: str, others: Sequence[str]) -> Iterator[str]:
    """Say which networks differ surely on a part of the test spectrum."""
    first = made.subsets[0][0]
    for train in others:
        gain = made._gain(train, part, made.telling)
        if gain.verdict != "no difference":
            yield f"On {part} those of {train} are {VERDICTS[gain.verdict]} than {first}'s: {gain}."


def _more_or_less(points: float) -> str:
    """Say how much larger a fall is."""
    return f"a fall {abs(points) * 100:.1f} points {'larger' if points > 0 else 'smaller'}"


def _decision(made: Susceptibility, gains: Mapping[str, Interval]) -> str:
    """Return what to train on where attacks matter."""
    (first, *_), (test, *_) = made.subsets
    at = f"at {size_text(made.telling)} on {test}"
    if not gains:
        return f"Nothing is compared to {first}: give further training subsets."
    best = max(gains, key=lambda train: gains[train].low)
    if gains[best].verdict != "better":
        worse = [train for train, gain in gains.items() if gain.verdict == "worse"]
        said = f"; surely more are those of {', '.join(worse)}" if worse else ""
        return (
            f"Train on {first}: no other networks are surely less susceptible to "
            f"{made.attack_words} {at}{said}."
        )
    cost = made._gain(best, test, 0.0)
    without = {
        "worse": f"but costs {-cost.mean:.4f} without attack",
        "better": f"and gains {cost.mean:.4f} without attack too",
        "no difference": f"and without attack {cost}, no sure difference",
    }
    return (
        f"Where {made.attack_words} matters, train on {best}: beside {first} that gains accuracy "
        f"{gains[best]} {at}, {without[cost.verdict]}."
    )
