"""The exceptions and warnings of dskrobust; each message says what is wrong and what to do."""

from __future__ import annotations


class DskrobustError(Exception):
    """Base class of every error that dskrobust raises on purpose."""


class InvalidDataError(DskrobustError, ValueError):
    """Features, labels or the split cannot be used; the message names row, column or array."""


class InvalidOptionError(DskrobustError, ValueError):
    """An option (metric, label map, subset size) has no meaning; the message says what has."""


class StoreError(DskrobustError):
    """A store cannot be opened, created or extended."""


class DamagedStoreError(StoreError):
    """Bytes in a store are not those that were written; the message names array and chunk."""


class StaleResultsError(StoreError):
    """Results in a store belong to other data or other parameters."""


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


class IncompleteEvaluationWarning(UserWarning):
    """Steps of an experiment failed, so its table lacks their rows."""


class OverlapWarning(UserWarning):
    """Samples that a model is tested on are among those that it is trained on."""


class ContradictionWarning(UserWarning):
    """Two samples at distance zero carry different labels (Q is infinite, R is 0)."""
