"""Which cluster is used, as one frozen value."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..declared_types import check_types
from ..errors import ClusterError, Hint, InvalidOptionError

PACKAGE = "dskrobust"
HOST = "127.0.0.1"  # nothing of ours listens to the network


TLS_FILES = Hint("give tls_ca, tls_cert and tls_key", "give --tls-ca, --tls-cert and --tls-key")


@dataclass(frozen=True)
class Patience:
    """For how many seconds a scheduler, or its workers, are waited for; `math.inf` is without end.

    Attributes
    ----------
    connect : float
        For the scheduler's first answer.
    workers : float
        For the workers of a local cluster to start.
    queue : float
        For workers that are waited for by number: their jobs may be in a queue.
    no_workers : float
        While there are none, or the scheduler does not answer: before a run and in its middle.

    Raises
    ------
    InvalidOptionError
        Where one is not above 0.
    """

    connect: float = 10
    workers: float = 60
    queue: float = 3_600
    no_workers: float = 600

    def __post_init__(self) -> None:
        check_types(self)
        for name, seconds in vars(self).items():
            if math.isnan(seconds) or seconds <= 0:
                raise InvalidOptionError(
                    f"patience for {name} is {seconds} s, and has to be above 0"
                )


@dataclass(frozen=True)
class ClusterOptions:
    """Which scheduler to use, or which local cluster to start.

    Attributes
    ----------
    scheduler : str, optional
        Address of a running scheduler, such as ``tcp://10.0.0.1:8786``.
    scheduler_file : str, optional
        The file that a scheduler wrote its address to.
    workers, threads : int, optional
        Of a local cluster: processes, and threads of each.
    memory_limit : int, optional
        Bytes of each local worker; 80 % of the free memory over all of them by default.
    dashboard : bool
        Whether a local cluster has a dashboard.
    wait_for : int, optional
        Of a running scheduler: how many workers must be there before a plan is made for them.
    tls_ca, tls_cert, tls_key : str, optional
        Files of a running scheduler's TLS; what Dask's configuration says by default.
    patience : Patience
    """

    scheduler: str | None = None
    scheduler_file: str | None = None
    workers: int | None = None
    threads: int | None = None
    memory_limit: int | None = None
    dashboard: bool = True
    wait_for: int | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    patience: Patience = Patience()

    def __post_init__(self) -> None:
        check_types(self)
        local = (self.workers, self.threads, self.memory_limit)
        remote = (self.wait_for, *self.tls.values())
        if self.scheduler and self.scheduler_file:
            raise ClusterError("give either the address of a scheduler or its file, not both")
        if self.is_remote and any(value is not None for value in local):
            raise ClusterError(
                "workers, threads and memory limit are those of a local cluster; a running "
                "scheduler has its own: leave either out"
            )
        if not self.is_remote and any(value is not None for value in remote):
            raise ClusterError(
                "TLS files and a number of workers to wait for are for a running scheduler",
                Hint(
                    "name it by scheduler= or scheduler_file=",
                    "name it by --scheduler or --scheduler-file",
                ),
            )
        if any(self.tls.values()) and not all(self.tls.values()):
            raise ClusterError("TLS needs certificate authority, certificate and key", TLS_FILES)

    @property
    def is_remote(self) -> bool:
        """Whether a scheduler is running already."""
        return bool(self.scheduler or self.scheduler_file)

    @property
    def is_open(self) -> bool:
        """Whether nobody has said what to compute on: a small job may stay in this process."""
        local = (self.workers, self.threads, self.memory_limit)
        return not self.is_remote and all(value is None for value in local)

    @property
    def tls(self) -> dict[str, str | None]:
        """TLS files by the names that Dask's `Security` gives them."""
        return {
            "tls_ca_file": self.tls_ca,
            "tls_client_cert": self.tls_cert,
            "tls_client_key": self.tls_key,
        }
