"""LOSS and ACC of whole arrays, from the sums that evaluations merge."""

import numpy as np

from dskrobust.evaluation.measures import ClassCosts, true_class_probabilities, value_sums


def cross_entropy(classes, probabilities, *, balanced=False):
    """The LOSS of a classifier."""
    chosen = true_class_probabilities(classes, probabilities)
    costs = ClassCosts.of(np.asarray(classes), chosen)
    return costs.balanced() if balanced else costs.mean()


def regression_loss(true, predicted):
    """The LOSS of a regression."""
    return value_sums(true, predicted, None).result()["loss"]


def threshold_accuracy(true, predicted, threshold):
    """The ACC of a regression."""
    return value_sums(true, predicted, threshold).result()["acc"]
