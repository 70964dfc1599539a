"""The exceptions and warnings of dskrobust; each message says what is wrong and what to do."""

from __future__ import annotations

from typing import NamedTuple

from .credentials import without_credentials


class Hint(NamedTuple):
    """What to do about an error, as Python and as the command line word it."""

    python: str
    command: str


class DskrobustError(Exception):
    """Base class of every error that dskrobust raises on purpose.

    Attributes
    ----------
    hint : Hint, optional
        What to do; its Python wording is part of the message.
    """

    def __init__(self, message: str = "", hint: Hint | None = None) -> None:
        super().__init__(without_credentials(message))  # messages go into logs
        self.hint = hint and Hint(*map(without_credentials, hint))

    def __str__(self) -> str:
        return self._with(self.hint and self.hint.python)

    @property
    def on_command_line(self) -> str:
        """The message with the hint as the command line words it."""
        return self._with(self.hint and self.hint.command)

    def _with(self, hint: str | None) -> str:
        return f"{self.args[0]}; {hint}" if hint else str(self.args[0])


class InvalidDataError(DskrobustError, ValueError):
    """Features, labels or the split cannot be used; the message names row, column or array."""


class InvalidTypeError(InvalidDataError, TypeError):
    """Features or labels are of a type that is no number, as scikit-learn has it."""


class InvalidOptionError(DskrobustError, ValueError):
    """An option (metric, label map, subset size) has no meaning; the message says what has."""


class StoreError(DskrobustError):
    """A store cannot be opened, created or extended."""


class DamagedStoreError(StoreError):
    """Bytes in a store are not those that were written; the message names array and chunk."""


class StaleResultsError(StoreError):
    """Results in a store belong to other data or other parameters."""


class BusyStoreError(StoreError):
    """Another process is at work on a store; the message says who, since when and where."""


class SourceFileError(DskrobustError, ValueError):
    """A file is missing, truncated or not of the format that was asked for."""


class MemoryPlanError(DskrobustError, MemoryError):
    """No block size fits the memory limit; the message gives the numbers."""


class ClusterError(DskrobustError):
    """A scheduler cannot be reached or its workers do not fit the plan."""


class VerificationError(DskrobustError):
    """`verify` found a stored result that the brute force contradicts."""


class EvaluationError(DskrobustError):
    """Steps of an experiment failed; the others are kept."""


class EmbeddingError(DskrobustError):
    """A model cannot be loaded, or fails on rows; the message names the model and the rows."""


class IncompleteEvaluationWarning(UserWarning):
    """Steps of an experiment failed, so its table lacks their rows."""


class OverlapWarning(UserWarning):
    """Samples that a model is tested on are among those that it is trained on."""


class EqualRowsWarning(OverlapWarning):
    """Samples that a model is tested on equal, in every feature, some that it is trained on."""


class ContradictionWarning(UserWarning):
    """Two samples at distance zero carry different labels (Q is infinite, R is 0)."""


class BusyStoreWarning(UserWarning):
    """Another process is at work on a store and is waited for."""


class SharedStoreWarning(UserWarning):
    """A file system cannot tell two writers apart, so one at a time may change a store."""


class DamagedRecordWarning(UserWarning):
    """A record of a finished step was damaged, so the step runs again."""
