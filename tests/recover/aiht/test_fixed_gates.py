"""Hard thresholding with fixed gates: exact support among decoys, at the rate that the condition number allows."""

import numpy as np
import pytest
import torch

from sparelu.recover.aiht.fixed_gates import Thresholded, hard_thresholding


def problem(k: int, decoys: int, seed: int = 0, n: int = 1500, d: int = 12) -> tuple[torch.Tensor, ...]:
    """Rows, labels, generators (true ones first) and fused weights: k neurons, all on input 0 and two others."""
    rng = np.random.default_rng(seed)
    x, h = rng.standard_normal((n, d)), rng.standard_normal((k + decoys, d))
    w = np.zeros((k + decoys, d))
    for j in range(k):
        w[j, [0, *rng.choice(np.arange(1, d), 2, replace=False)]] = rng.choice([-1.0, 1.0], 3) * rng.uniform(0.5, 1, 3)
    y = ((x @ h.T >= 0) * (x @ w.T)).sum(1)
    return tuple(torch.as_tensor(a) for a in (x, y, h, w))


def condition(x: torch.Tensor, h: torch.Tensor, w: torch.Tensor, gate: str) -> float:
    """Condition number of the columns of the support, the matrix written out."""
    a, (j, i) = x.numpy(), np.nonzero(w.numpy())
    columns = (a @ h.numpy().T >= 0)[:, j] * a[:, i]
    if gate == "sign":
        columns = columns - a @ np.linalg.lstsq(a, columns, rcond=None)[0]
    return float(np.linalg.cond(columns) ** 2)


def right(found: Thresholded, w: torch.Tensor) -> bool:
    return found.index.tolist() == w.flatten().nonzero()[:, 0].tolist()


@pytest.mark.parametrize("gate", ["step", "sign"])
@pytest.mark.parametrize("seed", [0, 1])
def test_true_generators_are_found_among_ten_times_as_many_decoys(gate: str, seed: int) -> None:
    x, y, h, w = problem(2, 20, seed)
    found = hard_thresholding(x, y, h, 6, gate)
    assert right(found, w)
    assert float((found.value - w.flatten()[found.index]).abs().max()) < 1e-10
    kappa = condition(x, h, w, gate)
    e = np.array(found.errors)
    tail = e[(e < 1e-3) & (e > 1e-12)]
    assert len(tail) > 3
    assert (tail[1:] / tail[:-1]).max() <= (kappa - 1) / (kappa + 1) + 1e-6


def test_signs_need_far_fewer_steps_than_steps() -> None:
    """Six neurons on one input: the columns of step gates share half their rows, those of sign gates do not."""
    x, y, h, w = problem(6, 30)
    step, sign = (hard_thresholding(x, y, h, 18, gate) for gate in ("step", "sign"))
    assert right(sign, w)
    assert condition(x, h, w, "step") > 3 * condition(x, h, w, "sign")
    assert len(step.errors) > 2 * len(sign.errors)


def test_blocks_of_generators_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, h, _ = problem(2, 20)
    whole = hard_thresholding(x, y, h, 6, steps=5)
    monkeypatch.setattr("sparelu.recover.aiht.fixed_gates.GENERATORS", 5)
    blocks = hard_thresholding(x, y, h, 6, steps=5)
    assert blocks.index.tolist() == whole.index.tolist()
    torch.testing.assert_close(blocks.value, whole.value)


def test_an_antipodal_pair_is_refused() -> None:
    x, y, h, _ = problem(2, 3)
    with pytest.raises(ValueError, match="generators 1 and 5 have one hyperplane"):
        hard_thresholding(x, y, torch.cat([h, -2 * h[1:2]]), 6)
    with pytest.raises(ValueError, match="'step' or 'sign'"):
        hard_thresholding(x, y, h, 6, gate="relu")
