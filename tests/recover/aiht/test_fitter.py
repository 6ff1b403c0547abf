"""The scalar AIHT against the same algorithm with A written out, and what it recovers."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from sparelu import store
from sparelu.data import Budget, Data
from sparelu.datasets.planted import planted
from sparelu.experiments.evaluate import evaluate
from sparelu.method import Refusal
from sparelu.outcome import Iterate
from sparelu.recover.aiht import gated_matrix
from sparelu.recover.aiht.fitter import AIHT
from sparelu.recover.aiht.gated_matrix import (
    OwnGates,
    RandomGates,
    Restricted,
    SparseVector,
    StreamedRows,
    batch_rows,
    block_gradient,
)
from sparelu.recover.aiht.scalar_step import refine, scalar_step, step_size
from sparelu.run import fit, generator
from tests.oracle import gated

M, D, N, S = 6, 5, 90, 9


def _vector(w: np.ndarray) -> SparseVector:
    flat = torch.from_numpy(w.ravel())
    index = torch.nonzero(flat)[:, 0]
    return SparseVector(index, flat[index])


def _dense(x: SparseVector, shape: tuple[int, int]) -> np.ndarray:
    out = np.zeros(shape[0] * shape[1])
    out[x.index.numpy()] = x.value.numpy()
    return out.reshape(shape)


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (N, D), targets (N,), and sparse weights (M, D) of which one neuron is empty."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((M, D)) * (rng.random((M, D)) < 0.4)
    w[2] = 0
    return rng.standard_normal((N, D)), rng.standard_normal(N), w


def _rows(x: np.ndarray) -> StreamedRows:
    return StreamedRows(len(x), x.shape[1], batch_rows(torch.from_numpy(x)))


@pytest.fixture(params=["one chunk", "small chunks", "gathered", "grouped"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of rows and blocks of neurons of several sizes, and both ways to take a gradient on a support."""
    if request.param != "one chunk":
        monkeypatch.setattr(gated_matrix, "CELLS", 1)
        monkeypatch.setattr(gated_matrix, "BLOCK", 2 * D)
        monkeypatch.setattr(gated_matrix, "GROUP", 2)
    if request.param == "gathered":
        monkeypatch.setattr(gated_matrix, "DENSE", 0)
    if request.param == "grouped":
        monkeypatch.setattr(gated_matrix, "HELD", 2 * D)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.usefixtures("sizes")
def test_products_equal_the_matrix_written_out(problem: tuple[np.ndarray, ...], own: bool) -> None:
    x, b, w = problem
    gates = OwnGates(_vector(w), D) if own else RandomGates(5, M, D, "cpu")
    h = w if own else gates.matrix(torch.arange(M), None).numpy()
    a = gated.gated_matrix(x, h)
    index = torch.tensor([1, 3, 11, 12, 17, 20, 29])
    z = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q, p = Restricted(_rows(x), index, gates)(z, torch.from_numpy(b))
    expected = a[:, index.numpy()] @ z.numpy() - b
    np.testing.assert_allclose(q, expected, atol=1e-12)
    np.testing.assert_allclose(p, a[:, index.numpy()].T @ expected, atol=1e-11)
    met = []
    for neurons in gates.blocks():
        met += neurons.tolist()
        found = block_gradient(_rows(x), gates, neurons, torch.from_numpy(b))
        np.testing.assert_allclose(found, (a.T @ b).reshape(M, D)[neurons.numpy()], atol=1e-11)
    assert met == ([0, 1, 3, 4, 5] if own else [0, 1, 2, 3, 4, 5])


def test_gradient_is_the_derivative(problem: tuple[np.ndarray, ...]) -> None:
    """Autograd on 1/2 ||f - b||^2 with the gates held."""
    x, b, w = (torch.from_numpy(part) for part in problem)
    gates = RandomGates(1, M, D, "cpu")
    weights = w.clone().requires_grad_()
    gate = x @ gates.matrix(torch.arange(M), None).T > 0
    r = (gate * (x @ weights.T)).sum(1) - b
    (0.5 * r @ r).backward()
    found = block_gradient(_rows(problem[0]), gates, torch.arange(M), r.detach())
    np.testing.assert_allclose(found, weights.grad, atol=1e-11)


def test_step_size_is_the_exact_minimiser_on_the_support(problem: tuple[np.ndarray, ...]) -> None:
    x, b, w = problem
    gates, start = RandomGates(2, M, D, "cpu"), _vector(w)
    on_support = Restricted(_rows(x), start.index, gates)
    _, g = on_support(start.value, torch.from_numpy(b))
    a = gated.gated_matrix(x, gates.matrix(torch.arange(M), None).numpy())[:, start.index.numpy()]
    z, d = start.value.numpy(), g.numpy()
    best = minimize_scalar(lambda mu: float(np.sum((a @ (z - mu * d) - b) ** 2)), bracket=(0, 0.01), tol=1e-10)
    assert step_size(on_support, g) == pytest.approx(best.x, rel=1e-6)
    empty = Restricted(_rows(x), start.index[:0], gates)
    assert step_size(empty, g[:0]) == 1e-14


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.usefixtures("sizes")
def test_one_step_equals_the_oracle(problem: tuple[np.ndarray, ...], own: bool) -> None:
    """Step size, cut and line search, from an empty start and from another support than the best."""
    x, b, w = problem
    for start in (w, np.zeros_like(w)) if not own else (w,):
        gates = OwnGates(_vector(w), D) if own else RandomGates(3, M, D, "cpu")
        h = w if own else gates.matrix(torch.arange(M), None).numpy()
        new, _ = scalar_step(_rows(x), torch.from_numpy(b), _vector(start), gates, S, 10)
        expected = gated.scalar_step(gated.gated_matrix(x, h), b, start.ravel(), S, 10)
        assert np.count_nonzero(expected) == new.index.numel() == S
        np.testing.assert_allclose(_dense(new, (M, D)).ravel(), expected, atol=1e-9)


@pytest.mark.parametrize("power", [-10, -1, 0, *range(2, 18)])
def test_line_search_halves_and_gives_up_like_the_oracle(problem: tuple[np.ndarray, ...], power: int) -> None:
    """From step sizes far too small to those that take several inner steps to halve, so that some are given up."""
    x, b, w = problem
    gates, start = RandomGates(4, M, D, "cpu"), _vector(w)
    a = gated.gated_matrix(x, gates.matrix(torch.arange(M), None).numpy())
    expected, mu = gated.refine(a, b, w.ravel(), 2.0**power, 3)
    new, last = refine(Restricted(_rows(x), start.index, gates), start, torch.from_numpy(b), 2.0**power, 3)
    np.testing.assert_allclose(_dense(new, (M, D)).ravel(), expected, atol=1e-9)
    assert last == mu


class _Stuck(Restricted):
    """A = I until its third use, then 0: no step size is accepted any more."""

    def __init__(self) -> None:
        self.uses, self.rows = 0, _rows(np.zeros((2, 1)))

    def __call__(
        self, z: torch.Tensor, target: torch.Tensor | None = None, adjoint: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.uses += 1
        q = (z if target is None else z - target) * (self.uses < 3)
        return q, q


def test_a_search_given_up_falls_back_to_where_it_began() -> None:
    """Even when steps before it succeeded: the inner loop is left at the thresholded point."""
    start = SparseVector(torch.tensor([0, 3]), torch.tensor([1.0, 2.0], dtype=torch.float64))
    target = torch.tensor([5.0, -1.0], dtype=torch.float64)
    once, _ = refine(_Stuck(), start, target, 0.5, 1)
    assert once.value.tolist() == [3.0, 0.5]
    twice, mu = refine(_Stuck(), start, target, 0.5, 2)
    assert twice.value.tolist() == [1.0, 2.0]
    assert mu == 2.0**-12


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.usefixtures("sizes")
def test_fit_equals_the_oracle(fixed: bool) -> None:
    """All steps: random gates for two, then the weights; or random throughout."""
    data = planted(hidden=(M,), nonzeros=S, inputs=D, rows=150, test_rows=0, seed=4)
    x, b = data.x.astype(np.float64), data.y.astype(np.float64)
    seed = int(np.random.default_rng(8).integers(2**63))
    h = RandomGates(seed, M, D, "cpu").matrix(torch.arange(M), None).numpy()
    method, found = AIHT(epochs=6, convex=fixed), []
    for iterate in method.steps(data, Budget((M,), nonzeros=S), np.random.default_rng(8)):
        found.append((iterate.network().layers[0].dense().numpy(), iterate.loss))
    for steps, (w, _) in enumerate(found, 1):
        np.testing.assert_allclose(w, gated.scalar_fit(x, b, h, S, steps, 10, fixed), atol=1e-8)
    gate = x @ (h if fixed else found[-1][0]).T > 0
    assert found[-1][1] == pytest.approx(np.mean(((gate * (x @ found[-1][0].T)).sum(1) - b) ** 2), abs=1e-12)


@pytest.mark.parametrize(("m", "s"), [(1, 1), (1, 5), (1, 20), (5, 1)])
def test_single_neurons_are_recovered_exactly(m: int, s: int) -> None:
    """The published figure, and the table in benchmarks/aiht_table.py: about 167 dB, the rounding of the labels."""
    for seed in (0, 1):
        data = planted(hidden=(m,), nonzeros=s, inputs=20, rows=3000, test_rows=500, seed=seed)
        network = fit(AIHT(), data, Budget((m,), nonzeros=s), seed=seed).network
        assert data.test is not None
        assert evaluate(network, data.test).psnr > 150
        assert network.nonzeros == s


def test_an_emptied_neuron_stays_dead() -> None:
    """As published: h_j = 0 has no active row, though another generator would lower the loss."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400, 4))
    b = np.maximum(x[:, 0], 0) + np.maximum(-x[:, 0], 0)
    start = SparseVector(torch.tensor([0]), torch.tensor([0.7], dtype=torch.float64))
    new, _ = scalar_step(_rows(x), torch.from_numpy(b), start, OwnGates(start, 4), 4, 10)
    assert set((new.index // 4).tolist()) == {0}
    awake, _ = scalar_step(_rows(x), torch.from_numpy(b), start, RandomGates(0, 2, 4, "cpu"), 4, 10)
    assert set((awake.index // 4).tolist()) == {0, 1}


def test_two_classes_are_cut_at_one_half() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((500, 6))
    label = np.where(np.maximum(x[:, 1], 0) + np.maximum(x[:, 2] - x[:, 3], 0) > 0.5, "yes", "no")
    solution = fit(AIHT(), Data(x, label, "classification"), Budget((4,), nonzeros=6))
    hidden, output = solution.network.layers
    assert output.dense_bias().tolist() == [-0.5]
    fitted = np.maximum(x @ hidden.dense().numpy().T, 0).sum(1)
    assert np.array_equal(solution.predict(x), np.where(fitted > 0.5, "yes", "no"))
    assert (solution.predict(x) == label).mean() > 0.85


def test_random_generators_depend_on_seed_and_neuron_alone() -> None:
    gates = RandomGates(11, 1000, 7, "cpu")
    whole = gates.matrix(torch.arange(1000), None)
    some = torch.tensor([3, 64, 65, 700, 999])
    assert torch.equal(gates.matrix(some, None), whole[some])
    assert torch.equal(gates.matrix(some, torch.tensor([1, 4])), whole[some][:, [1, 4]])
    assert not torch.equal(RandomGates(12, 1000, 7, "cpu").matrix(some, None), whole[some])
    assert abs(float(whole.mean())) < 4 / math.sqrt(7000)
    assert abs(float(whole.var()) - 1) < 4 * math.sqrt(2 / 7000)
    assert torch.linalg.matrix_rank(whole) == 7
    assert torch.unique(whole).numel() == whole.numel()


def test_memory_mapped_rows_give_the_same_bits(tmp_path: Path) -> None:
    data = planted(hidden=(4,), nonzeros=12, inputs=8, rows=300, test_rows=0, seed=0)
    np.save(tmp_path / "x.npy", data.x)
    mapped = Data(np.load(tmp_path / "x.npy", mmap_mode="r"), data.y)
    budget = Budget((4,), nonzeros=12)
    for method in (AIHT(epochs=4), AIHT(epochs=4, batch=64)):
        here, there = (fit(method, d, budget).network for d in (data, mapped))
        for a, b in zip(here.layers, there.layers, strict=True):
            assert torch.equal(a.indices, b.indices)
        if not method.batch:  # minibatches of a file are shuffled otherwise
            assert torch.equal(here.layers[0].values, there.layers[0].values)


CASES = {
    "all rows": (AIHT(epochs=5), {}, (6,)),
    "fixed gates": (AIHT(epochs=4, convex=True), {}, (6,)),
    "minibatch": (AIHT(epochs=4, batch=64), {}, (6,)),
    "two layers": (AIHT(epochs=3), {}, (6, 4)),
    "vector": (AIHT(epochs=4, step=0.05), {"outputs": 3}, (6,)),
    "vector minibatch two layers": (AIHT(epochs=3, batch=64, step=0.05), {"outputs": 3}, (6, 5)),
}


@pytest.mark.parametrize("case", CASES)
def test_resumes_bit_for_bit_through_a_file(case: str, tmp_path: Path) -> None:
    method, extra, hidden = CASES[case]
    data = planted(hidden=hidden, nonzeros=24, inputs=8, rows=200, test_rows=0, seed=1, **extra)
    budget, rng = Budget(hidden, nonzeros=24), generator(0, case)
    saved = []
    for iterate in method.steps(data, budget, rng):
        path = tmp_path / f"{len(saved)}"
        store.save_state({"method": iterate.state(), "rng": rng.bit_generator.state}, path)
        saved.append((path, _bits(iterate), iterate.loss))
    for at, (path, _, _) in enumerate(saved):
        state, again = store.load_state(path), generator(1, "elsewhere")
        again.bit_generator.state = state["rng"]
        rest = [(_bits(i), i.loss) for i in method.steps(data, budget, again, state["method"])]
        assert rest == [(bits, loss) for _, bits, loss in saved[at:]]


def _bits(iterate: Iterate) -> list[bytes]:
    layers = iterate.network().layers
    return [a.numpy().tobytes() for layer in layers for a in (layer.rows, layer.indptr, layer.indices, layer.values)]


def test_a_deep_network_is_fitted_layer_by_layer() -> None:
    data = planted(hidden=(6, 6), nonzeros=40, inputs=10, rows=800, test_rows=0, seed=2)
    budget, seen = Budget((6, 5), nonzeros=40), []
    solution = fit(AIHT(), data, budget, watch=lambda i: seen.append((i.progress, i.network())))
    network = solution.network
    assert network.hidden == (6, 5)
    first, second, output = network.layers
    assert first.nonzeros == 20
    assert second.nonzeros == 15  # min(20, 40 - 20 - 5): the five output weights count
    assert output.nonzeros <= 5
    assert network.nonzeros <= 40
    assert [len(n.layers) for _, n in seen] == [2] * 15 + [3] * 15
    assert [p for p, _ in seen] == pytest.approx(np.arange(1, 31) / 30)
    assert torch.equal(seen[14][1].layers[0].values, first.values)
    assert solution.history[-1]["loss"] == pytest.approx(evaluate(network, data).mse, rel=1e-6)


@pytest.mark.parametrize(
    ("hidden", "nonzeros", "outputs", "words"),
    [((4,), None, 1, "needs a budget"), ((4, 4), 3, 1, "at least 4"), ((4,), 1, 2, "at least 2")],
)
def test_refusals_say_what_to_do(hidden: tuple[int, ...], nonzeros: int | None, outputs: int, words: str) -> None:
    rng = np.random.default_rng(0)
    data = Data(rng.standard_normal((30, 5)), rng.standard_normal((30, outputs)))
    with pytest.raises(Refusal, match=words):
        fit(AIHT(), data, Budget(hidden, nonzeros=nonzeros))


WIDE = """
import resource, numpy as np
from sparelu.data import Budget, Data
from sparelu.recover.aiht.fitter import AIHT
from sparelu.run import fit
x = np.random.default_rng(0).standard_normal((40, 10))
data = Data(x, np.maximum(x[:, 0], 0))
fit(AIHT(epochs=3), data, Budget((100,), nonzeros=20))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
network = fit(AIHT(epochs=2), data, Budget((10**6,), nonzeros=20)).network
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, network.nonzeros)
"""


def test_memory_follows_the_nonzeros_not_the_width() -> None:
    """A million neurons of 10 inputs would be 80 MB dense; the peak of a fresh process rises by less than half."""
    done = subprocess.run([sys.executable, "-c", WIDE], capture_output=True, text=True, check=True)
    kilobytes, nonzeros = (int(word) for word in done.stdout.split())
    assert nonzeros == 20
    assert kilobytes < 40_000
