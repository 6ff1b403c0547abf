"""Least symmetry breaking: the population loss of student and teacher, and its symmetric spurious minima.

Student sum_i a_i (w_i.x)_+ and teacher sum_j b_j (v_j.x)_+ on x ~ N(0, I_d), all output weights given;
    L(W) = (1/2) E (student - teacher)^2.
Source: Arjevani and Field 2019, Safran and Shamir 2018; the kernels are Cho and Saul's.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment, minimize
from torch import Tensor

from sparelu.gaussian import TwoLayer, cross_hessian, own_hessian, squared_distance
from sparelu.gaussian.kernels import Neurons, pair_moments


@dataclass(frozen=True)
class StudentTeacher:
    """Represent the loss L as a function of the student's weights W (k, d), for a teacher (m, d) and outputs a (k,), b
    (m,).
    """

    teacher: Float[Tensor, "m d"]
    student_outputs: Float[Tensor, " k"]
    teacher_outputs: Float[Tensor, " m"]

    @classmethod
    def identity(cls, d: int, k: int | None = None) -> "StudentTeacher":
        """Return the orthonormal teacher V = I_d with all outputs one, and k (d unless given) student neurons."""
        ones = torch.ones(d, dtype=torch.float64)
        return cls(torch.eye(d, dtype=torch.float64), torch.ones(k or d, dtype=torch.float64), ones)

    def loss(self, weight: Float[Tensor, "k d"]) -> float:
        """Compute L(W), exact; zero below rounding."""
        student = TwoLayer.of(weight, self.student_outputs[None])
        return 0.5 * float(squared_distance(student, TwoLayer.of(self.teacher, self.teacher_outputs[None])))

    def loss_and_gradient(self, weight: Float[Tensor, "k d"]) -> tuple[float, Float[Tensor, "k d"]]:
        """Compute L(W) and dL/dW in closed form."""
        w, v = _centred(weight), _centred(self.teacher)
        a, b = self.student_outputs, self.teacher_outputs
        own, cross = pair_moments(w, w), pair_moments(w, v)
        aa, ab = a[:, None] * a, a[:, None] * b
        constant = float(b @ pair_moments(v, v).value @ b)
        loss = 0.5 * float((aa * own.value).sum()) - float((ab * cross.value).sum()) + 0.5 * constant
        gradient = (aa * own.both) @ weight + (aa * own.turn_f).sum(1)[:, None] * w.unit
        gradient -= (ab * cross.both) @ self.teacher + (ab * cross.turn_f).sum(1)[:, None] * w.unit
        return loss, gradient

    def hessian(self, weight: Float[Tensor, "k d"]) -> Float[Tensor, "k d k d"]:
        """Compute d2L/dW dW in closed form; a term between parallel vectors is its limit, zero in the diagonal
        block.
        """
        k, d = weight.shape
        zero, none = torch.zeros(k, dtype=weight.dtype), torch.zeros(len(self.teacher), dtype=weight.dtype)
        a, b = self.student_outputs, self.teacher_outputs
        hessian = (a[:, None] * a)[:, None, :, None] * cross_hessian(weight, zero, weight, zero)[:, :d, :, :d]
        diagonal = own_hessian(weight, zero, weight, zero, a[:, None] * a)[:, :d, :d]
        diagonal = diagonal - own_hessian(weight, zero, self.teacher, none, a[:, None] * b)[:, :d, :d]
        hessian[torch.arange(k), :, torch.arange(k)] += diagonal
        return hessian

    def minimise(self, weight: Float[Tensor, "k d"], steps: int = 2000) -> tuple[float, Float[Tensor, "k d"]]:
        """Descend by L-BFGS from W: the loss and the weights where it ends."""

        def flat(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            loss, gradient = self.loss_and_gradient(torch.from_numpy(parameters).reshape(weight.shape))
            return loss, gradient.reshape(-1).numpy()

        options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": 30, "gtol": 1e-10, "ftol": 1e-16}
        found = minimize(flat, weight.numpy().reshape(-1), jac=True, method="L-BFGS-B", options=options)
        return float(found.fun), torch.from_numpy(found.x).reshape(weight.shape)


@dataclass(frozen=True)
class Isotropy:
    """Hold the symmetry of W under permutations of rows and columns together: W_{pi i, pi j} = W_ij after alignment.

    ``blocks`` are the sizes of the sets of indices that may be permuted freely, largest first: (d,) for V = I,
    (d - 1, 1) for the least broken spurious minima. ``values`` is the number of different entries.
    """

    blocks: tuple[int, ...]
    values: int

    @property
    def name(self) -> str:
        """Return the group as a product of symmetric groups."""
        return " x ".join(f"S_{b}" for b in self.blocks)


def isotropy(weight: Float[Tensor, "k d"], tolerance: float = 1e-4) -> Isotropy:
    """Return the diagonal symmetry of square weights, entries equal to within ``tolerance`` of the largest.

    Rows are first matched to the coordinates (:func:`align_rows`). Indices i and j are in one
    block when their transposition leaves the matrix as it is; this relation is transitive.

    Raises ``ValueError`` when the matrix is not square.
    """
    if weight.shape[0] != weight.shape[1]:
        raise ValueError(f"isotropy needs as many neurons as inputs, got {tuple(weight.shape)}")
    w = align_rows(weight).numpy()
    size = tolerance * np.abs(w).max()
    left, blocks = list(range(len(w))), []
    while left:
        first = left[0]
        block = [j for j in left if _transposition_keeps(w, first, j, size)]
        blocks.append(len(block))
        left = [j for j in left if j not in block]
    ordered = np.sort(w.reshape(-1))
    return Isotropy(tuple(sorted(blocks, reverse=True)), 1 + int((np.diff(ordered) > size).sum()))


def align_rows(weight: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """Return the rows reordered so that the sum of |diagonal| is largest: a spurious minimum has a negative corner."""
    rows, columns = linear_sum_assignment(-weight.abs().numpy())
    return weight[torch.from_numpy(rows[np.argsort(columns)])]


def symmetric_spurious(weight: Float[Tensor, "d d"], loss: float, tolerance: float = 1e-4) -> Isotropy | None:
    """Return the symmetry of a trained student that sits in a symmetric spurious minimum; None when it does not.

    Spurious: the loss is above ``tolerance``. Symmetric: some block of two or more indices may be permuted.
    """
    found = isotropy(weight, tolerance)
    return found if loss > tolerance and found.blocks[0] > 1 else None


def reduced_weights(parameters: np.ndarray, d: int) -> Float[Tensor, "d d"]:
    """Return the d x d matrix fixed by S_{d-1} x S_1: diagonal a, off-diagonal b, last column c, last row e, corner
    f.
    """
    a, b, c, e, f = parameters
    w = np.full((d, d), b)
    np.fill_diagonal(w, a)
    w[:, -1], w[-1, :], w[-1, -1] = c, e, f
    return torch.from_numpy(w)


def reduced_loss(parameters: Float[Tensor, " five"], d: int) -> Float[Tensor, ""]:
    """Compute L of :func:`reduced_weights` for V = I_d in O(1) operations, whatever d; differentiable.

    With rows P = (a, b, ..., b, c), n = d - 1 of them, and F = (e, ..., e, f), each sum of d^2 kernels is taken less
    its value 1/(2 pi) at orthonormal vectors, so that nothing of order d^2 cancels:
      L = n (n-1) (D(P, P')/2 - D(P, e_j)) + n (D(P, F) - D(P, e_d) - D(F, e_j)) + n N(P, e_i) + N(F, e_d),
    D = k - 1/(2 pi), N(w, v) = k(w, w)/2 - k(w, v) + k(v, v)/2.
    """
    a, b, c, e, f = parameters
    n = d - 1
    rest, tail = (n - 1) * b * b + c * c, n * e * e
    p1 = ((a - 1) * (a + 1) + rest) / (1 + torch.sqrt(a * a + rest))  # |P| - 1
    p, q = 1 + p1, torch.sqrt(tail + f * f)
    pairs = 0.5 * _excess(p1 * (2 + p1), 2 * a * b + (n - 2) * b * b + c * c) - _excess(p1, b)
    last = _excess(p * q - 1, a * e + (n - 1) * b * e + c * f) - _excess(p1, c) - _excess(q - 1, e)
    near = _gap(p, torch.atan2(torch.sqrt(rest), a)) * n + _gap(q, torch.atan2(torch.sqrt(tail), f))
    return n * (n - 1) * pairs + n * last + near


def _excess(size1: Tensor, dot: Tensor) -> Tensor:
    """Compute k - 1/(2 pi) for vectors whose sizes multiply to 1 + size1: small for nearly orthonormal ones."""
    size = 1 + size1
    rho = dot / size
    bend = rho * torch.asin(rho) - rho * rho / (1 + torch.sqrt(1 - rho * rho))
    return 0.25 * dot + (size * bend + size1) / (2 * math.pi)


def _gap(size: Tensor, angle: Tensor) -> Tensor:
    """Compute N(w, v) of a vector of this size at this angle from the unit vector v: (size - 1)^2/4 + size (1/2 -
    kappa).
    """
    turned = 2 * math.pi * torch.sin(0.5 * angle) ** 2 - (torch.sin(angle) - angle * torch.cos(angle))
    return 0.25 * (size - 1) ** 2 + size * turned / (2 * math.pi)


def reduced_minimum(d: int) -> tuple[float, np.ndarray]:
    """Return the spurious minimum of symmetry S_{d-1} x S_1 for V = I_d: its loss and (a, b, c, e, f), d >= 6.

    Found by continuation in the dimension from d = 6, where L-BFGS starts near (1, 0, 0, 0, -1).

    Raises ``ValueError`` for d < 6.
    """
    if d < 6:
        raise ValueError(f"the spurious minimum of this symmetry is followed from d = 6, got {d}")
    parameters, at, loss = np.array([1.0, 0.0, 0.1, 0.2, -0.6]), 6, math.inf
    while True:
        loss, parameters = _descend(parameters, at)
        if at == d:
            return loss, parameters
        step = min(d, 2 * at)
        parameters[[1, 3]] *= at / step  # off-diagonal and last row fall like 1/d
        at = step


def _descend(parameters: np.ndarray, d: int) -> tuple[float, np.ndarray]:
    scale = np.array([1 / math.sqrt(d), 1 / d, 1 / math.sqrt(d), 1 / math.sqrt(d), 1.0])

    def flat(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        variable = torch.from_numpy(scaled * scale).requires_grad_()
        value = reduced_loss(variable, d)
        (gradient,) = torch.autograd.grad(value, variable)
        return d * float(value.detach()), d * gradient.numpy() * scale

    options = {"maxiter": 5000, "maxfun": 20000, "gtol": 1e-9, "ftol": 1e-16}
    found = minimize(flat, parameters / scale, jac=True, method="L-BFGS-B", options=options)
    return float(found.fun) / d, found.x * scale


def _centred(weight: Tensor) -> Neurons:
    return Neurons.of(weight, torch.zeros(len(weight), dtype=weight.dtype))


def _transposition_keeps(w: np.ndarray, i: int, j: int, size: float) -> bool:
    order = np.arange(len(w))
    order[[i, j]] = order[[j, i]]
    return bool(np.abs(w[np.ix_(order, order)] - w).max() <= size)
