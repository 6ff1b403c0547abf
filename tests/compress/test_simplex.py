"""The closed forms against the printed table, against enumeration of the objective, and against each other."""

import math

import numpy as np
import pytest
import torch

from sparelu import run
from sparelu.compress.bounds import invariant_bound, lower_bound, pair_bound
from sparelu.compress.frames import (
    C0,
    G1,
    InvariantTarget,
    Regime,
    antipodal,
    build_frame,
    degree_zero_share,
    equal_norms,
    optimum,
)
from sparelu.compress.simplex import Simplex
from sparelu.data import Budget
from sparelu.gaussian import TwoLayer, arc_cosine, squared_distance, squared_norm
from sparelu.method import Refusal
from sparelu.networks.network import Network

# Minima found by searching, w ~ N(0, I/d): a printed table, (d, M) -> loss, only where a simplex exists.
TABLE = {
    (5, 2): 0.047249, (5, 3): 0.021339, (5, 4): 0.010787, (5, 6): 0.001058,
    (10, 2): 0.052648, (10, 3): 0.027988, (10, 4): 0.017944, (10, 6): 0.008685, (10, 8): 0.004288, (10, 11): 0.000792,
    (20, 2): 0.055270, (20, 3): 0.031217, (20, 4): 0.021421, (20, 6): 0.012389, (20, 8): 0.008101, (20, 11): 0.004691,
    (20, 12): 0.003944, (20, 20): 0.000703, (5, 1): 0.103202, (10, 1): 0.105901, (20, 1): 0.107212,
}  # fmt: skip
# The same for a pull of length t in infinite dimension, searched in d = 10: (M, t) -> loss.
PULLED = {
    (5, 0.0): 0.019459, (5, 0.2): 0.017917, (5, 0.5): 0.016920, (5, 1.0): 0.019875, (5, 3.0): 0.019875,
    (3, 0.0): 0.034375, (3, 0.2): 0.030624, (3, 0.5): 0.025460, (3, 1.0): 0.035337,
    (2, 0.0): 0.057834, (2, 0.2): 0.046745, (2, 0.5): 0.035597, (2, 1.0): 0.057730, (2, 2.0): 0.057834,
}  # fmt: skip


def invariant(d: int, t: float = 0.0, total: float = 1.0, infinite: bool = False) -> InvariantTarget:
    pull = torch.zeros(d, dtype=torch.float64)
    pull[0] = t
    return InvariantTarget(total, pull, infinite)


def gaussian_total(d: int) -> float:
    """E|w| for w ~ N(0, I/d)."""
    return math.sqrt(2 / d) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))


def loss_of(target: InvariantTarget, student: TwoLayer) -> float:
    return float(squared_norm(student) - 2 * target.inner(student)) + target.energy


@pytest.mark.parametrize(("d", "m"), list(TABLE))
def test_simplex_reproduces_the_printed_minima(d: int, m: int) -> None:
    assert equal_norms(invariant(d, total=gaussian_total(d)), m).loss == pytest.approx(TABLE[d, m], abs=6e-7)


@pytest.mark.parametrize(("m", "t"), list(PULLED))
def test_pulled_optimum_reproduces_the_printed_minima(m: int, t: float) -> None:
    assert optimum(invariant(10, t, infinite=True), m).loss == pytest.approx(PULLED[m, t], abs=6e-7)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("d", "m", "t"),
    [
        (6, 1, 0.4),
        (6, 4, 0.0),
        (6, 7, 0.0),
        (6, 7, 0.1),
        (6, 7, 3.0),
        (6, 6, 0.3),
        (9, 5, 0.2),
        (9, 5, 2.0),
        (9, 2, 0.8),
    ],
)
def test_the_frame_attains_the_loss_it_claims(d: int, m: int, t: float, sign: float) -> None:
    target = invariant(d, t, sign * 1.3)
    student = build_frame(target, m, np.random.default_rng(0))
    assert student.weight.shape == (m, d)
    assert loss_of(target, student) == pytest.approx(optimum(target, m).loss, abs=1e-12)


def test_the_regimes_change_from_simplex_to_tilted_to_antipodal() -> None:
    found = [optimum(invariant(20, t, infinite=True), 5).regime for t in (0.0, 0.1, 0.5, 0.9, 3.0)]
    assert found[0] is Regime.simplex
    assert found[1] is found[2] is Regime.tilted
    assert found[4] is Regime.antipodal
    assert antipodal(invariant(20, 0.1, infinite=True), 5) is None


def test_the_invariant_part_of_a_drawn_network_is_its_projection() -> None:
    """f0 of a very wide network, by sampling: total E|u_1|/2 |x| + pull.x/2, and E[f0^2] = E[f f0]."""
    rng = np.random.default_rng(1)
    net = TwoLayer.of(
        torch.from_numpy(rng.normal(size=(30, 4)) + 0.3), torch.from_numpy(rng.uniform(size=(1, 30)) / 30)
    )
    part = InvariantTarget.of(net)
    x = torch.from_numpy(rng.normal(size=(400_000, 4)))
    u = rng.normal(size=(400_000, 4))
    gamma = np.maximum(u[:, 0] / np.linalg.norm(u, axis=1), 0).mean()
    f0 = part.total * gamma * x.norm(dim=1) + 0.5 * x @ part.pull
    assert float((f0**2).mean()) == pytest.approx(part.energy, rel=1e-2)
    assert float((f0 * net(x)[:, 0]).mean()) == pytest.approx(part.energy, rel=1e-2)
    assert degree_zero_share(4) == pytest.approx(4 * gamma**2, rel=1e-2)
    assert abs(degree_zero_share(10**6) - C0) < 1e-6


def test_inner_agrees_with_the_limit_of_drawn_networks() -> None:
    """E[student f] over targets of 4000 random neurons comes to E[student f0] as 1/sqrt(N)."""
    rng = np.random.default_rng(2)
    student = TwoLayer.of(torch.from_numpy(rng.normal(size=(3, 5))), torch.from_numpy(rng.normal(size=(1, 3))))
    weights = rng.normal(size=(4000, 5)) / math.sqrt(5)
    net = TwoLayer.of(torch.from_numpy(weights), torch.full((1, 4000), 1 / 4000, dtype=torch.float64))
    part = InvariantTarget.of(net)
    gap = float(squared_norm(student) - 2 * part.inner(student)) + part.energy
    assert float(squared_distance(student, net)) == pytest.approx(gap, rel=5e-2)


def test_random_positive_networks_are_never_below_the_bound() -> None:
    """Random positive networks, each at its best scale."""
    rng = np.random.default_rng(3)
    for d, m, t in ((4, 3, 0.0), (4, 3, 0.5), (3, 7, 0.0), (3, 7, 0.4)):
        target = invariant(d, t)
        bound = invariant_bound(target, m)
        best = math.inf
        for _ in range(150):
            weight = torch.from_numpy(rng.normal(size=(m, d)))
            student = TwoLayer.of(weight, torch.ones(1, m, dtype=torch.float64))
            norm, reach = float(squared_norm(student)), float(target.inner(student))
            best = min(best, target.energy - max(reach, 0.0) ** 2 / norm)
        assert best >= bound - 1e-12
        assert best < target.energy


def test_the_pair_bound_is_attained_by_the_simplex_and_holds_for_any_directions() -> None:
    rng = np.random.default_rng(7)
    corner = arc_cosine(torch.tensor(-1 / 5, dtype=torch.float64))
    assert pair_bound(5, 6).whole == pytest.approx((0.5 + 5 * float(corner)) / 6, abs=1e-7)
    for d, m in ((2, 9), (3, 6), (4, 9)):
        bound = pair_bound(d, m)
        for _ in range(50):
            v = rng.normal(size=(m, d))
            v /= np.linalg.norm(v, axis=1, keepdims=True)
            r = rng.uniform(size=m)
            energy = float(squared_norm(TwoLayer.of(torch.from_numpy(v), torch.from_numpy(r)[None])))
            assert energy >= bound.whole * r.sum() ** 2 + bound.first * ((r @ v) ** 2).sum() - 1e-12
        assert bound.first > 0.2


@pytest.mark.parametrize(("d", "m"), [(5, 8), (5, 11), (5, 12), (5, 20), (10, 12), (10, 20)])
def test_beyond_the_simplex_the_bound_is_sharper_and_below_the_printed_minima(d: int, m: int) -> None:
    printed = {(5, 8): 0.000717, (5, 11): 0.000392, (5, 12): 0.000316, (5, 20): 0.000101, (10, 12): 0.000715,
               (10, 20): 0.000374}  # fmt: skip
    target = invariant(d, total=gaussian_total(d))
    bound = invariant_bound(target, m)
    assert max(equal_norms(target, m).loss, 0.5 * printed[d, m]) < bound < printed[d, m] + 6e-7


def test_lower_bound_holds_for_a_finite_target() -> None:
    rng = np.random.default_rng(4)
    weights = rng.normal(size=(5000, 4)) / 2
    net = TwoLayer.of(torch.from_numpy(weights), torch.full((1, 5000), 1 / 5000, dtype=torch.float64))
    bound = lower_bound(net, 3, float(squared_norm(net)))
    student = build_frame(InvariantTarget.of(net), 3, rng)
    assert 0 < bound < float(squared_distance(net, student)) < 1.2 * bound


def test_orthonormal_frames_with_a_free_linear_part_have_the_stated_loss() -> None:
    """C0 and G1 as E|Z|^2/4 and Var(|Z|)/4 for a standard normal: (Z)_+ = (Z + |Z|)/2."""
    z = np.abs(np.random.default_rng(5).normal(size=2_000_000)) / 2
    assert z.mean() ** 2 == pytest.approx(C0, rel=2e-3)
    assert z.var() == pytest.approx(G1, rel=5e-3)


def test_the_method_and_what_it_refuses() -> None:
    rng = np.random.default_rng(6)
    network = Network.two_layer(rng.normal(size=(300, 12)) / math.sqrt(12), np.full(300, 1 / 300))
    solution = run.compress(Simplex(), network, Budget(hidden=(6,)))
    assert solution.network.hidden == (6,)
    distance, predicted, bound = (c.value for c in solution.certificates)
    assert bound <= distance
    assert abs(distance - predicted) < 0.5 * predicted + 0.002
    same = run.compress(Simplex(), network, Budget(hidden=(300,)))
    assert same.network is network
    assert "unchanged" in same.certificates[0].claim
    with pytest.raises(Refusal, match="population"):
        run.compress(Simplex(), network, Budget(hidden=(14,)))
    biased = Network.two_layer(rng.normal(size=(30, 4)), np.ones(30), bias=np.ones(30))
    with pytest.raises(Refusal, match="without biases"):
        run.compress(Simplex(), biased, Budget(hidden=(3,)))
    with pytest.raises(Refusal, match="give `hidden` alone"):
        run.compress(Simplex(), network, Budget(hidden=(3,), nonzeros=5))
