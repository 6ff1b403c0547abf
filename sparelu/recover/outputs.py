"""Several outputs: the kinks are found on one random combination of the outputs, then every output is linear in them.

A combination y.a has the kinks of all outputs, with lengths (V_j.a) |w_j|, none zero for almost every a. Given the
kinks, each output is a linear regression on |w_j.x| and x.
"""

import math

import torch
from torch import Tensor

from sparelu.recover.found import Found, _slack
from sparelu.recover.kinks import Kinks, Sample
from sparelu.recover.orient import orientations
from sparelu.recover.refit import ROUNDING


def normal_equations(kinks: Kinks, sample: Sample, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gram matrix of |u_j.x| / 2 and x for unit directions u_j, its products with targets y (n, K), and y'y."""
    unit = kinks.weight / kinks.weight[:, :-1].norm(dim=1, keepdim=True)
    size = len(kinks) + sample.inputs
    gram = torch.zeros(size, size).to(y)
    inner, start = torch.zeros(size, y.shape[1]).to(y), 0
    for x, _ in sample.blocks():
        columns = torch.cat([(x @ unit.T).abs() / 2, x], dim=1)
        gram += columns.T @ columns
        inner += columns.T @ y[start : start + len(x)]
        start += len(x)
    return gram, inner, y.square().sum(0)


def all_outputs(kinks: Kinks, sample: Sample, y: Tensor, power: Tensor) -> Found:
    """Output weights of every kink by least squares, those that noise explains set to zero, and orientations."""
    n, k = len(y), len(kinks)
    gram, inner, _ = normal_equations(kinks, sample, y)
    threshold = 2 * math.log(max(k, 20) * y.shape[1]) + 6
    outputs, affine, mse = [], [], []
    unit = kinks.weight / kinks.weight[:, :-1].norm(dim=1, keepdim=True)
    for o in range(y.shape[1]):
        live = torch.ones(len(gram), dtype=torch.bool, device=gram.device)
        while True:
            solution, error = _solve(gram, inner[:, o], live, unit, sample, y[:, o])
            inverse = torch.linalg.pinv(gram[live][:, live], hermitian=True).diagonal()
            t = torch.full((len(gram),), torch.inf).to(gram)
            t[live] = solution[live].square() / (inverse * error).clamp_min(1e-300)
            weak = live & (t < threshold)
            weak[k:] = False
            if not bool(weak.any()):
                break
            live &= ~weak
        outputs.append(solution[:k])
        affine.append(solution[k:])
        mse.append(error)
    v, a = torch.stack(outputs, dim=1), torch.stack(affine)
    keep = (v != 0).any(1)
    return _oriented(unit[keep], v[keep], a, torch.tensor(mse).to(a), power, n)


def _solve(gram: Tensor, inner: Tensor, live: Tensor, unit: Tensor, sample: Sample, y: Tensor) -> tuple[Tensor, float]:
    """Least squares on the live columns, with one step of refinement on the residual; its mean squared error."""
    k, solution = len(unit), torch.zeros(len(gram)).to(gram)
    factor = torch.linalg.pinv(gram[live][:, live], hermitian=True)
    solution[live] = factor @ inner[live]
    for _ in range(2):
        slope, squares, start = torch.zeros_like(solution), 0.0, 0
        for x, _target in sample.blocks():
            columns = torch.cat([(x @ unit.T).abs() / 2, x], dim=1)
            r = y[start : start + len(x)] - columns @ solution
            slope += columns.T @ r
            squares += float(r @ r)
            start += len(x)
        error = max(squares / len(y), ROUNDING * float(y.var()))
        solution[live] += factor @ slope[live]
    solution[:k] = torch.where(live[:k], solution[:k], 0.0)
    return solution, error


def _oriented(unit: Tensor, v: Tensor, a: Tensor, mse: Tensor, power: Tensor, rows: int) -> Found:
    slack = _slack(unit, v, mse, power, rows)
    side = orientations(unit, v, a, slack)
    left = a - (v * side[:, None]).T @ unit / 2
    return Found(unit, side, v, torch.where(left.abs() > slack, left, 0.0))
