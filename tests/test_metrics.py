"""Names of metrics, and what their kernel forms say of them."""

import numpy as np
import pytest

from dskrobust.errors import InvalidOptionError
from dskrobust.metrics import Mahalanobis, resolve_metric


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("manhattan", "cityblock"),
        ("L1", "cityblock"),
        ("l2", "euclidean"),
        ("linf", "chebyshev"),
        (" Minkowski(3) ", "minkowski(3)"),
        ("angular", "angular"),
    ],
)
def test_names_that_people_type(typed, name):
    assert str(resolve_metric(typed)) == name


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("cosine", "angular is the metric of it"),
        ("euclid", "choose one of euclidean, cityblock"),
        ("l1(3)", "unknown"),
        ("minkowski(x)", "must be a number"),
        ("mahalanobis", "Mahalanobis"),
    ],
)
def test_other_names_are_refused(typed, said):
    with pytest.raises(InvalidOptionError, match=said):
        resolve_metric(typed)


FORMS = {
    # name: (screened, byte-bounded, homogeneous, exponent, stretch)
    "euclidean": (True, False, True, 2.0, 1.0),
    "cityblock": (False, True, True, 1.0, 1.0),
    "chebyshev": (False, True, True, np.inf, 1.0),
    "minkowski(3)": (False, True, True, 3.0, 1.0),
    "angular": (True, False, False, None, np.pi / 2),
    "hamming": (False, False, False, None, 1.0),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_say_what_kernels_may_do(name):
    form = resolve_metric(name).form(4, 0.5)
    said = form.screened, form.byte_bounded, form.homogeneous, form.exponent, form.stretch
    assert said == FORMS[name]


def test_forms_of_matrices_and_functions():
    form = Mahalanobis(np.eye(3)).form(3, 1.0)
    assert form.widened
    assert (form.screened, form.exponent) == (True, 2.0)
    form = resolve_metric(lambda a, b: 0.0).form(3, 1.0)
    assert form.widened
    assert (form.screened, form.homogeneous, form.byte_bounded) == (False, False, False)
