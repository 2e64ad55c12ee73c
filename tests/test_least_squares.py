"""The search and what it is told: against SciPy's, along bounds, and where a direction is noise."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from fastlam.identification import identify, sentences
from fastlam.least_squares import Point, minimise

T = np.linspace(0, 3, 40)
NOISY = 2.0 * np.exp(-1.3 * T) + 0.01 * np.random.default_rng(0).standard_normal(40)


def decay(values):
    a, b = values
    slopes = np.stack([np.exp(-b * T), -a * T * np.exp(-b * T)], axis=1)
    return Point(a * np.exp(-b * T), slopes, np.eye(2))


def search(start, least=(-np.inf, -np.inf), targets=NOISY, most=50):
    return minimise(decay, targets, np.array(start), np.array(least), 1e-14, most)


@pytest.mark.parametrize("start", [(1.0, 1.0), (30.0, 0.01), (-3.0, 2.0)])
def test_the_minimum_is_that_of_scipy(start):
    """Both stop where the loss is within 1e-12 of the least: 1e-6 of the standard errors, themselves 1e-3."""
    found = search(start)
    want = least_squares(lambda values: decay(values).fitted - NOISY, (2.0, 1.3), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert found.converged
    np.testing.assert_allclose(found.values, want.x, rtol=1e-7)
    np.testing.assert_array_equal(found.point.fitted, decay(found.values).fitted)


def test_exact_targets_are_met_to_rounding():
    found = search((1.0, 1.0), targets=decay((2.0, 1.3)).fitted)
    np.testing.assert_allclose(found.values, (2.0, 1.3), rtol=1e-12)  # 1e-14 of the targets, condition about 3


def test_bounds_are_kept():
    """The best a is 2, below its bound: it ends there, and b where it is best beside it."""
    found = search((5.0, 1.0), least=(3.0, 0.0))
    beside = least_squares(lambda b: decay((3.0, b[0])).fitted - NOISY, (2.0,), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert found.converged
    assert found.values[0] == 3.0
    assert found.values[1] == pytest.approx(beside.x[0], rel=1e-5)


def test_a_bound_that_was_met_on_the_way_is_left():
    """From b at its bound, 0, where the model is flat: the slope in b is inwards."""
    found = search((1.0, 0.0), least=(-np.inf, 0.0))
    assert found.converged
    np.testing.assert_allclose(found.values, search((1.0, 1.0)).values, rtol=1e-7)


def test_a_direction_that_is_not_known_is_not_moved_in():
    def model(values):
        return decay(values)._replace(known=np.array([[0.0], [1.0]]))

    found = minimise(model, NOISY, np.array([1.7, 1.0]), np.full(2, -np.inf), 1e-14, 50)
    beside = least_squares(lambda b: decay((1.7, b[0])).fitted - NOISY, (1.0,), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert found.converged
    assert found.values[0] == 1.7
    assert found.values[1] == pytest.approx(beside.x[0], rel=1e-6)


def test_no_model_there_makes_the_step_shorter():
    """Beyond b = 1.2 there is no model: the search stays on this side, and says that it has not converged."""
    seen = []

    def model(values):
        if values[1] > 1.2:
            raise ValueError
        seen.append(values[1])
        return decay(values)

    found = minimise(model, NOISY, np.array([1.0, 0.5]), np.full(2, -np.inf), 1e-14, 50)
    assert max(seen) <= 1.2
    assert not found.converged
    assert found.values[1] > 0.9


def test_too_few_steps_are_not_converged():
    assert search((30.0, 0.01), most=2).iterations == 2
    assert not search((30.0, 0.01), most=2).converged


COLUMNS = np.stack([np.ones(40), T, T**2], axis=1)
RNG = np.random.default_rng(5)


def jacobians(columns, noise):
    """16 of them, with independent noise of so many standard deviations in each column."""
    return columns + noise * RNG.standard_normal((16, *columns.shape))


def test_a_column_of_noise_takes_nothing_from_the_others():
    found = identify(jacobians(COLUMNS * [1, 0, 1], [0, 1, 0]), np.array([1.0, 1e-3, 2.0]))
    assert found.loose.tolist() == [False, True, False]
    assert found.known.shape == (3, 2)


def test_columns_that_differ_by_noise_alone_are_not_told_apart():
    """As d/dmu and d/dsigma of a geometric Brownian motion's moment: equal but for noise, which has no part in c.

    The mean of the noise is 0.6 of its standard error.
    """
    same = np.stack([T, T, np.ones(40)], axis=1)
    bent = T**2 - np.polyval(np.polyfit(T, T**2, 1), T)
    noise = np.linspace(-1.0, 1.2, 16)[:, None, None] * np.stack([0 * T, bent, 0 * T], axis=1)
    values = np.array([1.0, 2.0, 3.0])
    found = identify(same + noise, values)
    assert found.condition < 1000  # so that it is the noise by which this is seen
    assert found.loose.tolist() == [True, True, False]
    said = sentences(found, ("a", "b", "c"), values, (same + noise).mean(axis=0), 1600)
    assert len(said) == 1
    assert said[0].startswith(
        "only a combination of a and b is known: k stays the same, as far as 1,600 paths can tell"
    )


def test_columns_that_differ_by_more_than_noise_are_told_apart():
    near = np.stack([T, T + 0.1 * T**2, np.ones(40)], axis=1)
    found = identify(jacobians(near, 0.01), np.ones(3))
    assert not found.loose.any()
    np.testing.assert_allclose(np.linalg.matrix_rank(found.known), 3)


def test_two_directions_in_words():
    """One of a and b, one of c and d, and e is known: exactly, so without "as far as"."""
    columns = np.stack([T, T, T**2, -2 * T**2, np.ones(40)], axis=1)
    found = identify(np.array([columns] * 16), np.ones(5))
    assert found.condition > 1e12
    said = sentences(found, tuple("abcde"), np.ones(5), columns, 1600)
    assert sorted(sentence.partition("where")[0] for sentence in said) == [
        "only a combination of a and b is known: k stays the same ",
        "only a combination of c and d is known: k stays the same ",
    ]
    assert any("c changes by +1% and d by +0.5%" in sentence or "c changes by -1% and d by -0.5%" in sentence
               for sentence in said)  # fmt: skip
    assert found.loose.tolist() == [True] * 4 + [False]


@pytest.mark.parametrize("m", [1, 2])
def test_fewer_times_than_parameters(m):
    found = identify(np.array([COLUMNS[5 : 5 + m]] * 16), np.ones(3))
    assert found.known.shape == (3, m)
    assert found.condition == np.inf
    assert found.loose.all()


def test_nothing_depends_on_anything():
    found = identify(np.zeros((16, 40, 2)), np.array([1.0, 0.0]))
    said = sentences(found, ("a", "b"), np.array([1.0, 0.0]), np.zeros((40, 2)), 100)
    assert sorted(said) == ["k does not depend on a near 1", "k does not depend on b near 0"]
