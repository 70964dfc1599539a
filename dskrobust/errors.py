"""The exceptions and warnings of dskrobust; each message says what is wrong and what to do."""

from __future__ import annotations

import errno
import os
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


class MissingLibraryError(DskrobustError, ModuleNotFoundError):
    """A library of an extra is not installed; the message names both."""

    def __init__(self, message: str = "", hint: Hint | None = None, *, name: str = "") -> None:
        super().__init__(message, hint)
        self.name = name


class OutputError(DskrobustError, OSError):
    """A file or folder cannot be written: the disk is full, read-only or gone."""


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
    """What is asked for does not fit into the memory there is; the message gives the numbers."""


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


class MissingClassesWarning(UserWarning):
    """Training and test set do not have the same classes, which the paper's 3.1 asks for."""


class BusyStoreWarning(UserWarning):
    """Another process is at work on a store and is waited for."""


class SharedStoreWarning(UserWarning):
    """A file system cannot tell two writers apart, so one at a time may change a store."""


class DamagedRecordWarning(UserWarning):
    """A record of a finished step was damaged, so the step runs again."""


REMEDIES = {  # by what the system says of a failed call
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "your share of this disk is used up: remove something, or write elsewhere",
    errno.EFBIG: "the limit on the size of a file is reached (ulimit -f): raise it",
    errno.EROFS: "this file system is read-only: write elsewhere",
    errno.EACCES: "change its owner or mode (chmod), or choose another",
    errno.EPERM: "change its owner or mode (chmod), or choose another",
    errno.EIO: "the disk or the network to it fails: check it, then run the same command again",
    errno.ESTALE: "the file system was mounted anew: run the same command again",
    errno.ENOENT: "was it moved or removed meanwhile?",
    errno.ENOTDIR: "a part of this path is a file: choose another",
    errno.EISDIR: "this is a folder: name a file",
    errno.ELOOP: "symbolic links lead in a circle: remove one",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine: close some",
}
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)


def system_error(error: BaseException | None) -> OSError | None:
    """Return the failed call of the system that an error is, or that led to it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in REMEDIES:
            return error
        error = error.__cause__ or error.__context__
    return None


def system_reason(error: OSError) -> str:
    """Return what the system says of a failed call, and what to do about it, in a line."""
    known = os.strerror(error.errno) if error.errno in REMEDIES else error.strerror
    said = " ".join((known or str(error)).split()) or type(error).__name__
    remedy = REMEDIES.get(error.errno or 0)
    return f"{said[:1].lower()}{said[1:]}{f'; {remedy}' if remedy else ''}"
