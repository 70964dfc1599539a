"""xgboost's external memory: one worker trains on data that stays in the store, and on its disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distributed import get_worker


def train_from_batches(
    read: Callable[[Any], tuple[Any, Any]],
    parts: Sequence[Any],
    parameters: Mapping[str, Any],
    rounds: int,
) -> Any:
    """Return a booster that is trained on features and labels read part by part.

    The worker's folder keeps what xgboost makes of them, about a byte a feature, until it is done.

    Parameters
    ----------
    read : callable
        From a part to features (k, d) float32 and labels (k,) float32.
    parts : sequence
        In the order in which xgboost takes them.
    parameters : mapping
        Of xgboost.
    rounds : int
    """
    import xgboost

    class Batches(xgboost.DataIter):
        """Gives xgboost one part after the other, as often as it asks."""

        def __init__(self, prefix: str) -> None:
            self._at = 0
            super().__init__(cache_prefix=prefix)

        def next(self, input_data: Callable[..., None]) -> bool:
            if self._at == len(parts):
                return False
            features, labels = read(parts[self._at])
            self._at += 1
            input_data(data=features, label=labels)
            return True

        def reset(self) -> None:
            self._at = 0

    worker = get_worker()
    own = {**parameters, "nthread": worker.state.nthreads}
    bins = {"max_bin": own["max_bin"]} if "max_bin" in own else {}
    with (
        tempfile.TemporaryDirectory(dir=worker.local_directory) as folder,
        xgboost.config_context(verbosity=0),
    ):
        data = xgboost.ExtMemQuantileDMatrix(Batches(f"{folder}/pages"), nthread=own["nthread"],
                                             **bins)  # fmt: skip
        booster = xgboost.train(own, data, num_boost_round=rounds)
        del data  # before its files
    return booster
