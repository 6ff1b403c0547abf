"""Teacher and student: gradients against autograd, risk against closed forms, rows needed against printed numbers."""

from itertools import permutations

import numpy as np
import pytest
import torch

from sparelu.gaussian import TwoLayer, squared_distance
from sparelu.train.analysis import teacher_student

PRINTED = {
    2: {10: 33, 20: 62, 30: 98, 40: 130, 50: 152},
    5: {10: 74, 20: 137, 30: 201, 40: 267, 50: 330},
    10: {10: 225, 20: 325, 30: 456, 40: 583, 50: 718},
}
"""Rows at half success by neurons and mask size, d = 50, of an independent implementation with 20 trials a cell."""


def trial(
    seed: int, *, inputs: int = 50, neurons: int = 5, r: int = 20, n: int = 300, kept: int | None = None
) -> float:
    """The relative error after the printed settings: start at half the norm, step K, momentum 0.8, 1500 steps."""
    rng = np.random.default_rng([seed, neurons, r, n])
    truth = teacher_student.teacher(inputs, neurons, r, rng)
    mask = truth != 0 if kept is None else teacher_student.widened(truth != 0, kept, rng)
    x, y = teacher_student.rows(truth, n, rng)
    start = teacher_student.nearby(truth, mask, 0.5, rng)
    return float(teacher_student.descend(x, y, mask, start, target=truth, enough=1e-3).errors[-1])


def successes(trials: int, **settings: int) -> int:
    return sum(trial(seed, **settings) <= 1e-3 for seed in range(trials))


@pytest.mark.parametrize(("supports", "common"), [("common", True), ("random", False), ("disjoint", False)])
def test_teachers_have_the_supports_asked_for(supports: str, common: bool) -> None:
    truth = teacher_student.teacher(40, 4, 7, np.random.default_rng(0), supports=supports)
    mask = truth != 0
    assert set(mask.sum(axis=1)) == {7}
    assert bool((mask == mask[0]).all()) == common
    assert np.abs(truth).max() <= 0.5
    if supports == "disjoint":
        assert mask.sum(axis=0).max() == 1


def test_orthonormal_teachers() -> None:
    truth = teacher_student.teacher(40, 4, 7, np.random.default_rng(0), orthonormal=True)
    assert truth @ truth.T == pytest.approx(np.eye(4))
    assert (truth != 0).any(axis=0).sum() == 7


def test_the_network_is_the_same_function() -> None:
    rng = np.random.default_rng(0)
    truth = teacher_student.teacher(9, 3, 4, rng)
    x = rng.standard_normal((20, 9))
    by_hand = [np.mean([max(0.0, float(w @ row)) for w in truth]) for row in x]
    assert teacher_student.teacher_outputs(truth, x) == pytest.approx(by_hand)
    net = teacher_student.teacher_network(truth)
    assert net(torch.from_numpy(x))[:, 0].numpy() == pytest.approx(by_hand)
    assert net.nonzeros == 12


def test_noise_is_relative_to_the_outputs() -> None:
    truth = teacher_student.teacher(9, 3, 4, np.random.default_rng(0))
    x, y = teacher_student.rows(truth, 40000, np.random.default_rng(1), noise=0.3)
    clean = teacher_student.teacher_outputs(truth, x)
    assert np.std(y - clean) / np.sqrt(np.mean(clean**2)) == pytest.approx(0.3, rel=0.03)
    assert (
        teacher_student.rows(truth, 10, np.random.default_rng(1))[1] == teacher_student.teacher_outputs(truth, x[:10])
    ).all()


def test_effective_width() -> None:
    """r for one common support, (r/4)(1 + 1/K)^2 = 7.2 for five disjoint ones of 20."""
    same = teacher_student.teacher(200, 5, 20, np.random.default_rng(0)) != 0
    apart = teacher_student.teacher(200, 5, 20, np.random.default_rng(0), supports="disjoint") != 0
    assert teacher_student.effective_width(same) == pytest.approx(20)
    assert teacher_student.effective_width(apart) == pytest.approx(7.2)
    two = np.array([[True, True, False], [False, False, True]])  # 2 sqrt 4 + 2 sqrt 2 + 2 sqrt 3, squared, over 8 * 16
    assert teacher_student.effective_width(two) == pytest.approx((4 + 2 * np.sqrt(2) + 2 * np.sqrt(3)) ** 2 / 128)


def test_the_gradient_is_that_of_autograd() -> None:
    rng = np.random.default_rng(0)
    w, x, y = rng.standard_normal((3, 6)), rng.standard_normal((25, 6)), rng.standard_normal(25)
    t = torch.from_numpy(w).requires_grad_()
    loss = 0.5 * (torch.relu(torch.from_numpy(x) @ t.T).mean(1) - torch.from_numpy(y)).square().mean()
    loss.backward()
    found, slope = teacher_student.loss_and_gradient(w, x, y)
    assert found == pytest.approx(float(loss.detach()))
    assert slope == pytest.approx(t.grad.numpy())


def test_loss_and_gradient_tend_to_the_population_risk() -> None:
    """Closed form: E f = E|f_W - f_W*|^2 / 2 under N(0, I), with its gradient; 400000 rows leave about 0.2%."""
    rng = np.random.default_rng(0)
    truth = teacher_student.teacher(6, 3, 4, rng)
    w = rng.standard_normal((3, 6))
    out = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    student = torch.from_numpy(w).requires_grad_()
    risk = 0.5 * squared_distance(TwoLayer.of(student, out), TwoLayer.of(torch.from_numpy(truth), out))
    risk.backward()
    loss, slope = teacher_student.loss_and_gradient(w, *teacher_student.rows(truth, 400000, rng))
    assert loss == pytest.approx(float(risk.detach()), rel=0.02)
    assert slope == pytest.approx(student.grad.numpy(), abs=0.02 * float(student.grad.abs().max()))


@pytest.mark.parametrize("batches", [1, 3])
def test_descent_is_masked_heavy_ball(batches: int) -> None:
    """Five steps of torch's SGD with momentum on the same batches, its velocity scaled by the step, masked by hand.

    W <- W - eta g + beta (W - W_before) is v <- beta v + g, W <- W - eta v.
    """
    rng = np.random.default_rng(0)
    truth = teacher_student.teacher(8, 3, 4, rng, supports="random")
    mask = teacher_student.widened(truth != 0, 5, rng)
    x, y = teacher_student.rows(truth, 60, rng)
    start = teacher_student.nearby(truth, mask, 0.5, rng)
    t = torch.from_numpy(start.copy()).requires_grad_()
    optimizer = torch.optim.SGD([t], lr=0.7, momentum=0.6)
    for step in range(5):
        rows = slice(20 * (step % 3), 20 * (step % 3) + 20) if batches == 3 else slice(None)
        optimizer.zero_grad()
        (
            0.5 * (torch.relu(torch.from_numpy(x[rows]) @ t.T).mean(1) - torch.from_numpy(y[rows])).square().mean()
        ).backward()
        t.grad *= torch.from_numpy(mask)
        optimizer.step()
    run = teacher_student.descend(x, y, mask, start, step=0.7, momentum=0.6, steps=5, batches=batches, target=truth)
    assert run.weights == pytest.approx(t.detach().numpy())
    assert not run.weights[~mask].any()
    assert len(run.losses) == 5
    assert run.errors[-1] == pytest.approx(np.linalg.norm(run.weights - truth) / np.linalg.norm(truth))
    assert run.losses[0] == pytest.approx(
        teacher_student.loss_and_gradient(start, x[: 60 // batches], y[: 60 // batches])[0]
    )


def test_the_error_does_not_know_the_order_of_neurons() -> None:
    rng = np.random.default_rng(0)
    truth, w = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    best = min(np.linalg.norm(w[list(p)] - truth) for p in permutations(range(4))) / np.linalg.norm(truth)
    assert teacher_student.relative_error(w, truth) == pytest.approx(best)
    assert teacher_student.relative_error(truth[[2, 0, 3, 1]], truth) == 0


def test_weights_the_mask_lacks_count_as_error() -> None:
    """On inputs that no neuron reads."""
    rng = np.random.default_rng(0)
    truth = teacher_student.teacher(8, 2, 4, rng)
    mask = (truth != 0) & (np.arange(8) != np.flatnonzero(truth[0])[0])
    x, y = teacher_student.rows(truth, 50, rng)
    run = teacher_student.descend(x, y, mask, np.where(mask, truth, 0.0), steps=0, target=truth)
    assert run.errors == pytest.approx([np.linalg.norm(truth[~mask]) / np.linalg.norm(truth)])


def test_masks_that_are_too_wide_or_too_narrow() -> None:
    rng = np.random.default_rng(0)
    truth = teacher_student.teacher(30, 4, 10, rng)
    wide = teacher_student.widened(truth != 0, 17, rng)
    assert set(wide.sum(axis=1)) == {17}
    assert wide[truth != 0].all()
    assert (wide == wide[0]).all(), "one support stays one"
    narrow = teacher_student.narrowed(truth, 0.25)
    assert narrow.sum() == 30
    assert np.abs(truth[narrow]).min() > np.abs(truth[~narrow]).max()
    assert not narrow[truth == 0].any()


@pytest.mark.parametrize("neurons", [2, 5])
def test_rows_needed_grow_with_the_mask_as_printed(neurons: int) -> None:
    compare(neurons, (20, 30, 50), np.geomspace(1.0, 2.35, 8), trials=8)


@pytest.mark.slow
@pytest.mark.parametrize("neurons", PRINTED)
def test_the_printed_table(neurons: int) -> None:
    compare(neurons, (10, 20, 30, 40, 50), np.geomspace(1.0, 3.5, 11), trials=40)


def compare(neurons: int, sizes: tuple[int, ...], ratios: np.ndarray, trials: int) -> None:
    """Rows at half success within 15% of an independent implementation's, and their slope in the mask size.

    The grid has the same ``ratios`` of rows to weights everywhere; its steps of 13% show most with ten neurons.
    """
    found, printed = [], [PRINTED[neurons][r] for r in sizes]
    for r in sizes:
        grid = np.unique(np.round(neurons * r * ratios).astype(int))
        share = np.array([successes(trials, neurons=neurons, r=r, n=int(n)) / trials for n in grid])
        found.append(teacher_student.threshold(grid, share))
    assert found == pytest.approx(printed, rel=0.15)
    assert np.polyfit(sizes, found, 1)[0] == pytest.approx(np.polyfit(sizes, printed, 1)[0], rel=0.15)
    assert np.corrcoef(sizes, found)[0, 1] ** 2 > (0.99 if neurons < 10 else 0.96)


def test_the_mask_makes_the_difference() -> None:
    """300 rows, 50 inputs of which 20 matter: 10 of 10 with the mask and none without, as printed."""
    assert successes(10) == 10
    assert successes(10, kept=50) == 0


def test_rows_needed_follow_the_mask_and_not_the_support() -> None:
    """20 inputs matter of 100: 200 rows are enough for masks of 20, 300 for 30 and not for 60, 600 for those."""
    assert successes(5, inputs=100, n=200) >= 4
    assert successes(5, inputs=100, n=300, kept=30) >= 4
    assert successes(5, inputs=100, n=300, kept=60) <= 1
    assert successes(5, inputs=100, n=600, kept=60) >= 4


def test_convergence_is_linear_to_rounding_and_faster_with_momentum() -> None:
    """Orthonormal rows; printed for d = 100, r = 20, 2000 rows: 0.9845 plain, a floor of sqrt(0.8) = 0.894 else."""
    rng = np.random.default_rng(0)
    truth = teacher_student.teacher(100, 5, 20, rng, orthonormal=True)
    x, y = teacher_student.rows(truth, 2000, rng)
    start = teacher_student.nearby(truth, truth != 0, 0.5, rng)
    plain, fast = (
        teacher_student.descend(x, y, truth != 0, start, momentum=m, steps=s, target=truth).errors
        for m, s in ((0.0, 700), (0.8, 250))
    )
    assert fast[-1] < 1e-8
    assert teacher_student.rate(plain) == pytest.approx(0.9845, abs=0.002)
    assert teacher_student.rate(fast) == pytest.approx(np.sqrt(0.8), abs=0.01)


def test_errors_follow_noise_and_rows() -> None:
    """Linear in the noise (printed .0074 and .079 at .01 and .1), and as the root of the rows (.079 to .051)."""

    def error(noise: float, n: int) -> float:
        found = []
        for seed in range(5):
            rng = np.random.default_rng([seed, n])
            truth = teacher_student.teacher(50, 5, 20, rng)
            x, y = teacher_student.rows(truth, n, rng, noise)
            start = teacher_student.nearby(truth, truth != 0, 0.5, rng)
            found.append(teacher_student.descend(x, y, truth != 0, start, steps=400, target=truth).errors[-1])
        return float(np.mean(found))

    small, large = error(0.01, 1000), error(0.1, 1000)
    assert small == pytest.approx(0.0074, rel=0.2)
    assert large == pytest.approx(0.079, rel=0.2)
    assert error(0.1, 2000) == pytest.approx(0.051, rel=0.2)


def test_a_wrong_mask_leaves_an_error_in_proportion_to_what_it_lacks() -> None:
    """Printed: error about 1.25 to 1.3 of the norm of the dropped weights, from 1% to 36%."""
    lost, errors = [], []
    for dropped in (0.0, 0.1, 0.3):
        rng = np.random.default_rng(3)
        truth = teacher_student.teacher(50, 5, 20, rng)
        mask = teacher_student.narrowed(truth, dropped)
        x, y = teacher_student.rows(truth, 1000, rng)
        start = teacher_student.nearby(truth, mask, 0.5, rng)
        errors.append(teacher_student.descend(x, y, mask, start, steps=500, target=truth).errors[-1])
        lost.append(np.linalg.norm(truth[~mask]) / np.linalg.norm(truth))
    assert errors[0] < 1e-8
    assert errors[1] / lost[1] == pytest.approx(1.27, abs=0.2)
    assert errors[2] / lost[2] == pytest.approx(1.27, abs=0.2)


def test_rates_of_known_sequences() -> None:
    steps = np.arange(400)
    assert teacher_student.rate(3 * 0.95**steps) == pytest.approx(0.95)
    assert teacher_student.rate(0.9**steps + 0.5**steps) == pytest.approx(0.9)
    assert teacher_student.rate(np.maximum(0.8**steps, 1e-12)) == pytest.approx(0.8), "rounding is no part of the rate"


def test_thresholds_of_known_shares() -> None:
    """Half way on the logarithmic scale between 100 at 0.2 and 200 at 0.8; a dip is averaged away."""
    n = np.array([400, 50, 200, 100])
    assert teacher_student.threshold(n, np.array([1, 0, 0.8, 0.2])) == pytest.approx(100 * np.sqrt(2))
    dip = np.array([0.0, 0.4, 0.2, 0.9])  # 0.4 and 0.2 become 0.3 and 0.3
    expected = np.exp(np.log(200) + np.log(2) * (0.5 - 0.3) / (0.9 - 0.3))
    assert teacher_student.threshold(np.array([50, 100, 200, 400]), dip) == pytest.approx(expected)
    with pytest.raises(ValueError, match="do not pass a half"):
        teacher_student.threshold(n, np.zeros(4))


def test_a_descent_that_diverges_stops() -> None:
    rng = np.random.default_rng(0)
    truth = teacher_student.teacher(10, 2, 5, rng)
    x, y = teacher_student.rows(truth, 50, rng)
    run = teacher_student.descend(x, y, truth != 0, truth + (truth != 0), step=1e3, target=truth)
    assert len(run.losses) < 50
    assert np.isfinite(run.errors).all()


def test_bad_input() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="supports must be"):
        teacher_student.teacher(10, 2, 3, rng, supports="nested")
    with pytest.raises(ValueError, match="take 12 inputs and there are 10"):
        teacher_student.teacher(10, 4, 3, rng, supports="disjoint")
    with pytest.raises(ValueError, match="4 orthonormal rows need one common support of at least 4"):
        teacher_student.teacher(10, 4, 3, rng, orthonormal=True)
    truth = teacher_student.teacher(10, 2, 3, rng)
    x, y = teacher_student.rows(truth, 20, rng)
    with pytest.raises(ValueError, match="weights off the mask"):
        teacher_student.descend(x, y, truth != 0, np.ones((2, 10)))
    with pytest.raises(ValueError, match="20 rows cannot be split into 21"):
        teacher_student.descend(x, y, truth != 0, truth, batches=21)
    with pytest.raises(ValueError, match="cannot be widened to 2"):
        teacher_student.widened(truth != 0, 2, rng)
    with pytest.raises(ValueError, match="hold no rate"):
        teacher_student.rate(np.ones(5))
