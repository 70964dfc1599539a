"""How much an attack does at once, and how many steps it takes: known without torch too."""

PGD_STEPS = 10
ATTACKED = 256  # images times models that are attacked at once, or a training step's, if more


def attacked_at_once(batch_size: int, models: int) -> int:
    """Return how many images an attack moves at once."""
    return max(batch_size, ATTACKED // models)
