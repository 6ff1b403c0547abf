"""The start from moments: Hermite coefficients by quadrature, tensors by Monte Carlo, and what descent makes of it."""

import numpy as np
import pytest
from numpy.polynomial import hermite_e
from scipy.integrate import quad
from scipy.linalg import subspace_angles

from sparelu.train.analysis import teacher_student
from sparelu.train.analysis.tensor_init import (
    fourth_moment,
    hermite_coefficient,
    low_moments,
    orthogonal_components,
    tensor_start,
)


@pytest.mark.parametrize("order", range(8))
def test_coefficients_are_those_of_quadrature(order: int) -> None:
    def integrand(z: float) -> float:
        return z * hermite_e.hermeval(z, np.eye(order + 1)[-1]) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)

    assert hermite_coefficient(order) == pytest.approx(quad(integrand, 0, 40)[0], abs=1e-8)


def test_coefficients_as_printed() -> None:
    assert [hermite_coefficient(k) for k in range(5)] == pytest.approx([0.39894, 0.5, 0.39894, 0, -0.39894], abs=1e-5)


def test_moments_are_sums_over_the_neurons() -> None:
    """M1 = 1/2K sum |w| u, M2 = 1/(K sqrt(2 pi)) sum |w| u u', M4 the negative of M2's weights, M3 = 0: 10^6 rows."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((2, 3))
    x, y = teacher_student.rows(w, 10**6, rng)
    size = np.linalg.norm(w, axis=1)
    u, c = w / size[:, None], 1 / (2 * np.sqrt(2 * np.pi))
    first, second, rest = low_moments(x, y)
    assert first == pytest.approx(w.sum(axis=0) / 4, abs=0.01)
    assert second == pytest.approx(c * np.einsum("k,ki,kj->ij", size, u, u), abs=0.01)
    fourth = -c * np.einsum("k,ki,kj,km,kn->ijmn", size, u, u, u, u)
    assert fourth_moment(x, rest, np.eye(3)) == pytest.approx(fourth, abs=0.05)
    assert fourth_moment(x, y, np.eye(3)) == pytest.approx(fourth, abs=0.15)
    along = x @ u[0]
    third = np.mean(y * hermite_e.hermeval(along, [0, 0, 0, 1]))
    assert abs(third) < 5 * np.std(y * hermite_e.hermeval(along, [0, 0, 0, 1])) / 1000


@pytest.mark.parametrize("seed", range(3))
def test_the_fourth_tensor_is_a_hermite_polynomial_along_every_direction(seed: int) -> None:
    """One row z = A x: the form v'^4 of the tensor is |A'v|^4 He_4 of x along A'v."""
    rng = np.random.default_rng(seed)
    a, x, v = rng.standard_normal((3, 5)), rng.standard_normal(5), rng.standard_normal(3)
    tensor = fourth_moment((a @ x)[None], np.ones(1), a @ a.T)
    size = np.linalg.norm(a.T @ v)
    wanted = size**4 * hermite_e.hermeval(v @ a @ x / size, [0, 0, 0, 0, 1])
    assert np.einsum("ijkl,i,j,k,l", tensor, v, v, v, v) == pytest.approx(wanted)
    for order in ((1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2)):
        assert tensor == pytest.approx(tensor.transpose(order))


def test_rows_come_in_blocks_without_a_difference() -> None:
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((10000, 3)), rng.standard_normal(10000)
    halves = [fourth_moment(z[part], y[part], np.eye(3)) for part in (slice(5000), slice(5000, None))]
    assert fourth_moment(z, y, np.eye(3)) == pytest.approx((halves[0] + halves[1]) / 2)


@pytest.mark.parametrize("sizes", [[3.0, 2.0, 1.0, 0.5], [1.0, 1.0, 1.0, 1.0]])
def test_components_of_a_tensor_that_is_made_of_them(sizes: list[float]) -> None:
    rng = np.random.default_rng(0)
    v = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    tensor = np.einsum("r,ri,rj,rk,rl->ijkl", sizes, v, v, v, v)
    found = np.abs(orthogonal_components(tensor, 4, rng) @ v.T)
    assert np.sort(found, axis=1)[:, -1] == pytest.approx(1)
    assert sorted(found.argmax(axis=1)) == [0, 1, 2, 3]


def test_the_second_moment_spans_the_teacher() -> None:
    """100000 rows, 20 inputs, three neurons: all principal angles below 0.2."""
    rng = np.random.default_rng(0)
    truth = teacher_student.teacher(20, 3, 20, rng)
    x, y = teacher_student.rows(truth, 100000, rng)
    _, vectors = np.linalg.eigh(low_moments(x, y)[1])
    assert subspace_angles(vectors[:, -3:], truth.T).max() < 0.2


def test_what_lower_moments_explain_makes_the_fourth_quieter() -> None:
    """The same tensor with at most half the deviation from its limit."""
    rng = np.random.default_rng(0)
    truth = teacher_student.teacher(4, 2, 4, rng)
    size = np.linalg.norm(truth, axis=1)
    u = truth / size[:, None]
    wanted = -np.einsum("k,ki,kj,km,kn->ijmn", size, u, u, u, u) / (2 * np.sqrt(2 * np.pi))
    plain, rest = 0.0, 0.0
    for _ in range(20):
        x, y = teacher_student.rows(truth, 2000, rng)
        plain += np.linalg.norm(fourth_moment(x, y, np.eye(4)) - wanted)
        rest += np.linalg.norm(fourth_moment(x, low_moments(x, y)[2], np.eye(4)) - wanted)
    assert rest < 0.5 * plain


def test_it_tends_to_the_teacher_as_the_root_of_the_rows() -> None:
    def error(n: int) -> float:
        found = []
        for seed in range(4):
            rng = np.random.default_rng([seed, 1])
            truth = teacher_student.teacher(20, 3, 10, rng)
            x, y = teacher_student.rows(truth, n, rng)
            found.append(teacher_student.relative_error(tensor_start(x, y, truth != 0, rng), truth))
        return float(np.median(found))

    few, many = error(5000), error(80000)
    assert few < 0.3
    assert many == pytest.approx(few / 4, rel=0.5)


def test_descent_from_there_is_exact() -> None:
    """No knowledge of the teacher but its mask: 100 inputs, 20 of them kept, 2000 rows."""
    rng = np.random.default_rng(5)
    truth = teacher_student.teacher(100, 3, 20, rng)
    x, y = teacher_student.rows(truth, 2000, rng)
    start = tensor_start(x, y, truth != 0, rng)
    assert not start[truth == 0].any()
    run = teacher_student.descend(x, y, truth != 0, start, target=truth, enough=1e-9)
    assert run.errors[-1] < 1e-9


def test_neurons_find_their_rows_of_the_mask() -> None:
    """Disjoint supports: a start in the wrong order would lose all weights."""
    rng = np.random.default_rng(2)
    truth = teacher_student.teacher(30, 3, 8, rng, supports="disjoint")
    x, y = teacher_student.rows(truth, 50000, rng)
    start = tensor_start(x, y, truth != 0, rng)
    assert not start[truth == 0].any()
    assert teacher_student.matching(start, truth).tolist() == [0, 1, 2]
    assert np.linalg.norm(start - truth) < 0.2 * np.linalg.norm(truth)


def test_orders_that_carry_nothing_are_refused() -> None:
    rng = np.random.default_rng(0)
    truth = teacher_student.teacher(6, 2, 6, rng)
    x, y = teacher_student.rows(truth, 100, rng)
    with pytest.raises(ValueError, match="moment of order 3 of a ReLU network under normal inputs is zero"):
        tensor_start(x, y, truth != 0, rng, order=3)
    with pytest.raises(ValueError, match="made from the moment of order 4, not 6"):
        tensor_start(x, y, truth != 0, rng, order=6)
    few = teacher_student.teacher(2, 2, 2, rng)
    x, y = teacher_student.rows(few, 5000, rng)
    with pytest.raises(ValueError, match="has not 2 positive eigenvalues"):
        tensor_start(x, -y, few != 0, rng)
