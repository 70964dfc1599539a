"""Turns: of those that would make the same at the same time one makes it, others take it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..credentials import without_credentials
from .claims import exclusive
from .clearing import clear_up
from .objects import Objects
from .results import Segmented, covering, name_of

_log = logging.getLogger(__name__)


@contextmanager
def made_once(
    store: Segmented, parameters: Mapping[str, Any], *, wait: bool = True
) -> Iterator[None]:
    """Let one process at a time make the results of some parameters.

    Others wait until they are there, or go on where the one that was killed has stopped. In the
    end what nobody needs any more is cleared up.

    Parameters
    ----------
    store : Store
    parameters : mapping
    wait : bool
        Whether to wait for another that makes them.

    Raises
    ------
    BusyStoreError
        Where another makes them, and `wait` is false.
    """
    name = name_of(parameters, [digest for _, digest in store.segments])

    what = f"results ({parameters.get('metric')}) are computed"

    def over() -> bool:
        return bool(covering(store, parameters))

    with exclusive(store.address, name, what, wait=wait, over=over):
        _log.info("%s: %s", without_credentials(store.address.url), what)
        yield
    clear_up(Objects(store.address))
