"""The vector-output AIHT against autograd and against the same algorithm written out."""

import numpy as np
import pytest
import torch

from sparelu.data import Budget, Data
from sparelu.datasets.planted import planted
from sparelu.experiments.evaluate import evaluate
from sparelu.outcome import Status
from sparelu.recover.aiht import gated_matrix, vector_step
from sparelu.recover.aiht.fitter import AIHT
from sparelu.recover.aiht.gated_matrix import OwnGates, RandomGates, SparseVector, StreamedRows, batch_rows
from sparelu.recover.aiht.vector_step import (
    Shape,
    Surrogate,
    gated_outputs,
    moves,
    output_residual,
    published_step,
    sketch_width,
)
from sparelu.run import fit
from tests.oracle import gated

SHAPE = Shape(d=5, m=6, k=3)
N = 80


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (N, d) and sparse W1 (m, d), W2 (m, k): neuron 2 has no input weights, neuron 4 no output weights."""
    rng = np.random.default_rng(0)
    w1 = rng.standard_normal((SHAPE.m, SHAPE.d)) * (rng.random((SHAPE.m, SHAPE.d)) < 0.5)
    w2 = rng.standard_normal((SHAPE.m, SHAPE.k)) * (rng.random((SHAPE.m, SHAPE.k)) < 0.7)
    w2[:, 0] = rng.standard_normal(SHAPE.m)
    w1[2], w2[4] = 0, 0
    return rng.standard_normal((N, SHAPE.d)), w1, w2


def _vector(w1: np.ndarray, w2: np.ndarray) -> SparseVector:
    flat = torch.from_numpy(np.concatenate([w1.ravel(), w2.ravel()]))
    index = torch.nonzero(flat)[:, 0]
    return SparseVector(index, flat[index])


def _rows(x: np.ndarray) -> StreamedRows:
    return StreamedRows(len(x), x.shape[1], batch_rows(torch.from_numpy(x)))


@pytest.fixture(params=[False, True])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without many small chunks and blocks."""
    if request.param:
        monkeypatch.setattr(gated_matrix, "CELLS", 1)
        monkeypatch.setattr(vector_step, "BLOCK", 20)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.usefixtures("small")
def test_steps_follow_the_gradient(problem: tuple[np.ndarray, ...], labels: bool) -> None:
    """Autograd of 1/2 mean ||f - b||^2 or of the cross-entropy, with the gates held."""
    x, w1, w2 = problem
    rng = np.random.default_rng(1)
    target = torch.from_numpy(rng.integers(0, 3, N) if labels else rng.standard_normal((N, 3)))
    gates = RandomGates(7, SHAPE.m, SHAPE.d, "cpu")
    gate = torch.from_numpy(x) @ gates.matrix(torch.arange(SHAPE.m), None).T > 0
    a, b = (torch.from_numpy(w).requires_grad_() for w in (w1, w2))
    out = (gate * (torch.from_numpy(x) @ a.T)) @ b
    loss = torch.nn.functional.cross_entropy(out, target) if labels else ((out - target) ** 2).sum() / 2 / N
    loss.backward()
    sparse = _vector(w1, w2)
    np.testing.assert_allclose(gated_outputs(_rows(x), sparse, gates, SHAPE), out.detach(), atol=1e-12)
    r, value = output_residual(out.detach(), target)
    assert value == pytest.approx(float(loss.detach()) if labels else float(loss.detach()) * 2 / 3)
    change = np.zeros(SHAPE.weights)
    moved = np.concatenate([w1.ravel(), w2.ravel()])
    for index, new, delta in moves(_rows(x), r, sparse, gates, SHAPE, 0.3, None):
        change[index.numpy()], moved[index.numpy()] = delta.numpy(), new.numpy()
    gradient = np.concatenate([a.grad.numpy().ravel(), b.grad.numpy().ravel()])
    np.testing.assert_allclose(change, -0.3 * gradient, atol=1e-13)
    np.testing.assert_allclose(moved, np.concatenate([w1.ravel(), w2.ravel()]) - 0.3 * gradient, atol=1e-13)


@pytest.mark.usefixtures("small")
def test_zero_blocks_are_filled_and_others_kept(problem: tuple[np.ndarray, ...]) -> None:
    x, w1, w2 = problem
    r = torch.zeros(N, SHAPE.k, dtype=torch.float64)
    gates, new = RandomGates(7, SHAPE.m, SHAPE.d, "cpu"), np.zeros(SHAPE.weights)
    for index, value, delta in moves(_rows(x), r, _vector(w1, w2), gates, SHAPE, 1.0, Surrogate(3)):
        assert not delta.any()
        new[index.numpy()] = value.numpy()
    a, b = new[: w1.size].reshape(w1.shape), new[w1.size :].reshape(w2.shape)
    others = [0, 1, 3, 5]
    assert np.array_equal(a[others], w1[others])
    assert np.array_equal(b[[0, 1, 2, 3, 5]], w2[[0, 1, 2, 3, 5]])
    assert np.all((a[2] != 0) & (np.abs(a[2]) <= 1 / np.sqrt(30)))
    assert np.all((b[4] != 0) & (np.abs(b[4]) <= 1 / np.sqrt(18)))
    wide = torch.zeros(500, 40, dtype=torch.float64)
    Surrogate(3).fill(wide, torch.arange(500), 1, 20000)
    assert float(wide.var()) == pytest.approx(1 / 3 / 20000, rel=0.05)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.usefixtures("small")
def test_fit_equals_the_oracle(monkeypatch: pytest.MonkeyPatch, labels: bool, fixed: bool) -> None:
    """With a sketch too wide for collisions the cut is by the exact sum of changes."""
    monkeypatch.setattr("sparelu.recover.aiht.fitter.sketch_width", lambda budget, shape: 2**18)
    rng = np.random.default_rng(5)
    x = rng.standard_normal((N, SHAPE.d))
    y = rng.integers(0, 3, N) if labels else np.abs(x[:, :3]) + x[:, [1, 2, 3]]
    data = Data(x, y, "classification" if labels else "regression")
    seed = int(np.random.default_rng(8).integers(2**63))
    every = torch.arange(SHAPE.m)
    h = RandomGates(seed, SHAPE.m, SHAPE.d, "cpu").matrix(every, None).numpy()
    fills = [torch.zeros(SHAPE.m, c, dtype=torch.float64) for c in (SHAPE.d, SHAPE.k)]
    for stream, fill in enumerate(fills, 1):
        Surrogate(seed).fill(fill, every, stream, fill.numel())
    method = AIHT(epochs=8, step=0.4, convex=fixed)
    b = np.eye(3)[y] if labels else y
    for steps, iterate in enumerate(method.steps(data, Budget((6,), nonzeros=20), np.random.default_rng(8)), 1):
        w1, w2 = (layer.dense().numpy() for layer in iterate.network().layers)
        e1, e2 = gated.vector_fit(x, b, h, [f.numpy() for f in fills], 20, steps, 0.4, labels, fixed)
        np.testing.assert_allclose(w1, e1, atol=1e-10)
        np.testing.assert_allclose(w2.T, e2, atol=1e-10)
    out = gated.vector_outputs(x, h if fixed else w1, w1, w2.T)
    expected = evaluate(iterate.network(), data)
    if not fixed:
        assert iterate.loss == pytest.approx(expected.cross_entropy if labels else expected.mse)
    elif not labels:
        assert iterate.loss == pytest.approx(np.mean((out - b) ** 2))


def test_the_sketch_cuts_by_sums_not_by_magnitude() -> None:
    data = planted(hidden=(10,), nonzeros=40, inputs=12, outputs=3, rows=400, test_rows=0, seed=0)
    budget = Budget((10,), nonzeros=40)
    by_sum, by_size = (fit(AIHT(step=0.05, countsketch=c), data, budget).network for c in (True, False))
    supports = [n.layers[0].dense() != 0 for n in (by_sum, by_size)]
    assert not torch.equal(*supports)
    assert by_sum.nonzeros == by_size.nonzeros == 40


def test_published_step_sizes_and_sketch_width() -> None:
    """0.001 for labels; 2 below 6 m^0.536 nonzeros, which for m = 100 is 70.8, else 0.005. Width s max(1, log(n/s))."""
    shape = Shape(d=784, m=100, k=10)
    assert published_step(70, shape, False) == 2
    assert published_step(71, shape, False) == 0.005
    assert published_step(70, shape, True) == 0.001
    assert sketch_width(100, shape) == 667  # 100 ln 794 = 667.7
    assert sketch_width(79400, shape) == 79400


def test_gates_of_the_first_epoch_are_random_then_the_weights() -> None:
    """With minibatches too: the weights first gate after the first step of the second epoch."""
    data = planted(hidden=(4,), nonzeros=20, inputs=6, outputs=2, rows=96, test_rows=0, seed=0)
    met: list[str] = []
    original = vector_step.vector_step

    def spy(rows: StreamedRows, r: torch.Tensor, x: SparseVector, gates: object, *rest: object) -> SparseVector:
        met.append(("own" if type(gates).__name__ == OwnGates.__name__ else "random") + "+" * (rest[3] is not None))
        return original(rows, r, x, gates, *rest)

    for batch, expected in (
        (32, ["random+", "random", "random", "random+", "own", "own", "own+", "own", "own"]),
        (0, ["random+", "random", "own"]),
    ):
        met.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vector_step, "vector_step", spy)
            fit(AIHT(epochs=3, batch=batch), data, Budget((4,), nonzeros=20))
        assert met == expected


def test_minibatch_classification_learns() -> None:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    data = Data(x[:600], y[:600], "classification")
    solution = fit(AIHT(epochs=30, batch=200, step=0.02), data, Budget((20,), nonzeros=300))
    test = Data(x[600:], y[600:], "classification", classes=data.classes)
    assert evaluate(solution.network, test).accuracy > 0.65
    assert solution.network.nonzeros == 300


def test_a_step_too_large_is_reported_as_divergence() -> None:
    data = planted(hidden=(10,), nonzeros=40, inputs=12, outputs=3, rows=400, test_rows=0, seed=0)
    for batch in (0, 100):
        solution = fit(AIHT(step=1e6, epochs=40, batch=batch), data, Budget((10,), nonzeros=40))
        assert solution.status is Status.diverged
        assert solution.network.nonzeros == 0
