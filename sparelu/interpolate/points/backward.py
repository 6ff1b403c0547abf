"""Interpolants of many points by elimination: weights leave one after another while the rest keeps every
point.

For a fixed pattern of active neurons the outputs are linear in the products nu_k = v_k [w_k, b_k] (Lemma 4.1
of Nakhleh & Nowak 2025), so that a network of P > N nonzeros has a (P - N)-dimensional family of interpolants
around it. A weight is set to zero, the others return to the points by Gauss-Newton steps of least norm, and
this repeats until N are left: the lower bound for almost every y, since the outputs lie in the span of as
many columns as there are nonzeros. Which weight goes first is decided as in optimal brain surgery: the least
nu_e^2 / (I - J^+ J)_ee, the squared distance to the interpolants without it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

TOLERANCE = 1e-10
"""Largest residual, on targets of unit scale, at which the points count as met before the final refit."""
BATCH = 0.1
"""Share of the surplus weights that is tried at once."""


@dataclass(frozen=True, eq=False)
class Shallow:
    """Hold sum_k sign_k (xbar . nu_k)_+ with xbar = [x, 1]: ``nu`` (K, d+1), ``sign`` (K,), ``live`` (K, d+1)
    where nu may be nonzero.
    """

    nu: np.ndarray
    sign: np.ndarray
    live: np.ndarray

    @property
    def nonzeros(self) -> int:
        """Count the nonzero products v w, biases included."""
        return int(self.live.sum())

    def outputs(self, xbar: np.ndarray) -> np.ndarray:
        """Return the values at the rows of ``xbar`` (n, d+1)."""
        return np.maximum(xbar @ self.nu.T, 0) @ self.sign

    def jacobian(self, xbar: np.ndarray) -> np.ndarray:
        """Return the derivatives (n, P) by the live weights, in the order of ``live``."""
        active = (xbar @ self.nu.T > 0) * self.sign
        k, i = np.nonzero(self.live)
        return active[:, k] * xbar[:, i]

    def stepped(self, step: np.ndarray) -> "Shallow":
        """Add ``step`` (P,) to the live weights."""
        nu = self.nu.copy()
        nu[self.live] += step
        return replace(self, nu=nu)

    def without(self, weights: np.ndarray) -> "Shallow":
        """Set the live weights number ``weights`` to zero for good."""
        live = self.live.copy()
        k, i = np.nonzero(self.live)
        live[k[weights], i[weights]] = False
        return replace(self, nu=np.where(live, self.nu, 0.0), live=live)


def start_random(xbar: np.ndarray, y: np.ndarray, neurons: int, rng: np.random.Generator) -> Shallow | None:
    """Build an interpolant with ``neurons`` random neurons; None when Gauss-Newton does not reach the points."""
    nu = rng.standard_normal((neurons, xbar.shape[1])) / np.sqrt(xbar.shape[1])
    sign = np.where(np.arange(neurons) % 2, 1.0, -1.0)
    return return_to_points(xbar, y, Shallow(nu, sign, np.ones_like(nu, dtype=bool)), steps=200)


def start_linear(xbar: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Shallow:
    """Build an interpolant with 2n random neurons, output weights of least norm: always there for distinct rows."""
    w = rng.standard_normal((2 * len(xbar), xbar.shape[1])) / np.sqrt(xbar.shape[1])
    v = np.linalg.lstsq(np.maximum(xbar @ w.T, 0), y, rcond=None)[0]
    nu = np.abs(v)[:, None] * w
    return Shallow(nu, np.sign(v), np.broadcast_to(v[:, None] != 0, nu.shape).copy())


@dataclass(frozen=True, eq=False)
class Elimination:
    """Hold the interpolant worked on, the sparsest so far, and the dead ends met."""

    net: Shallow
    best: Shallow
    dead_ends: int = 0


def eliminate_weights(
    xbar: np.ndarray,
    y: np.ndarray,
    search: Elimination,
    rng: np.random.Generator,
    dead_ends: int,
    hold: bool,
    *,
    revived: float = 0.05,
) -> Iterator[Elimination]:
    """Yield after every elimination and every dead end, until n nonzeros are left or ``dead_ends`` are used.

    ``xbar`` (n, d+1) with its column of ones, ``y`` (n,); ``hold`` keeps the bias of every living neuron. At
    a dead end, where no weight can leave, a few zero weights of the sparsest interpolant so far are revived
    and it takes a random step among the interpolants.

    ``revived``: weights revived at a dead end, as a share of the points: more than one, so that others can leave in
    their place.
    """
    net, best, met = search.net, search.best, search.dead_ends
    while best.nonzeros > len(y):
        jacobian = net.jacobian(xbar)
        smaller = _eliminate_some(xbar, y, net, _order(net, jacobian, hold))
        if smaller is not None:
            net = smaller
            best = net if net.nonzeros <= best.nonzeros else best
        elif met >= dead_ends:
            return
        else:
            met += 1
            net = _moved(xbar, y, _revived(best, max(2, int(revived * len(y))), rng), rng)
        yield Elimination(net, best, met)


def merge_patterns(xbar: np.ndarray, net: Shallow) -> Shallow:
    """Add up the neurons of one sign that are active at the same points: the outputs at the points stay (Lemma 4.1)."""
    active = xbar @ net.nu.T > 0
    groups: dict[tuple[bytes, float], list[int]] = {}
    for k in np.flatnonzero(net.live.any(axis=1)):
        if active[:, k].any():
            groups.setdefault((active[:, k].tobytes(), float(net.sign[k])), []).append(int(k))
    members = list(groups.values())
    nu = np.array([net.nu[m].sum(axis=0) for m in members]).reshape(-1, net.nu.shape[1])
    return Shallow(nu, np.array([net.sign[m[0]] for m in members]), nu != 0)


def _revived(net: Shallow, count: int, rng: np.random.Generator) -> Shallow:
    """Free ``count`` zero weights of living neurons again."""
    k, i = np.nonzero(net.live.any(axis=1, keepdims=True) & ~net.live)
    chosen = rng.permutation(k.size)[:count]
    live = net.live.copy()
    live[k[chosen], i[chosen]] = True
    return replace(net, live=live)


def _order(net: Shallow, jacobian: np.ndarray, hold: bool) -> np.ndarray:
    """Order the live weights that may go by the distance to the interpolants without them."""
    projected = linalg.cho_solve(_factor(jacobian), jacobian)
    free = 1 - np.einsum("np,np->p", jacobian, projected)
    order = np.argsort(net.nu[net.live] ** 2 / np.maximum(free, 1e-9))
    k, i = np.nonzero(net.live)
    if not hold:
        return order
    held = (i == net.live.shape[1] - 1) & (net.live.sum(axis=1) > 1)[k]
    return order[~held[order]]


def _eliminate_some(
    xbar: np.ndarray, y: np.ndarray, net: Shallow, order: np.ndarray, *, singles: int = 12
) -> Shallow | None:
    """Drop a share of the surplus weights at once, less of them where that fails, or one of the first ``singles``."""
    batch = int((net.nonzeros - len(y)) * BATCH)
    while batch > 1:
        smaller = return_to_points(xbar, y, net.without(order[:batch]))
        if smaller is not None:
            return smaller
        batch //= 2
    for weight in order[:singles]:
        smaller = return_to_points(xbar, y, net.without(np.array([weight])))
        if smaller is not None:
            return smaller
    return None


def _moved(xbar: np.ndarray, y: np.ndarray, net: Shallow, rng: np.random.Generator) -> Shallow:
    """Move to another interpolant on the same weights: a random step in the null space, halved until the points are
    met again.
    """
    jacobian = net.jacobian(xbar)
    step = rng.standard_normal(net.nonzeros)
    step -= jacobian.T @ linalg.cho_solve(_factor(jacobian), jacobian @ step)
    step *= 0.5 * np.linalg.norm(net.nu) / max(float(np.linalg.norm(step)), 1e-300)
    for _ in range(6):
        moved = return_to_points(xbar, y, net.stepped(step))
        if moved is not None:
            return moved
        step = step / 2
    return net


def return_to_points(xbar: np.ndarray, y: np.ndarray, net: Shallow, steps: int = 15) -> Shallow | None:
    """Return to the points by Gauss-Newton steps of least norm with halving; None when they are not reached."""
    residual = y - net.outputs(xbar)
    for _ in range(steps):
        if np.abs(residual).max() < TOLERANCE:
            return net
        jacobian = net.jacobian(xbar)
        step = jacobian.T @ linalg.cho_solve(_factor(jacobian), residual)
        length, before = 1.0, float(np.linalg.norm(residual))
        while True:
            tried = net.stepped(length * step)
            residual = y - tried.outputs(xbar)
            if float(np.linalg.norm(residual)) < (1 - 0.01 * length) * before:
                net = tried
                break
            length /= 2
            if length < 1e-3:
                return None
    return None


def _factor(jacobian: np.ndarray, *, jitter: float = 1e-13) -> tuple[np.ndarray, bool]:
    """Factor J J', its diagonal shifted by this share where patterns make it singular, and by more as needed."""
    gram = jacobian @ jacobian.T
    shift = jitter * max(float(np.trace(gram)) / len(gram), 1e-300)
    while True:
        try:
            return linalg.cho_factor(gram + shift * np.eye(len(gram)), check_finite=False)
        except linalg.LinAlgError:
            shift *= 10


def polish(xbar: np.ndarray, y: np.ndarray, net: Shallow) -> Shallow:
    """Refit the live weights to the points exactly: linear solves of least norm, residuals in extended
    precision.
    """
    long = np.longdouble
    best, least = net, np.inf
    for _ in range(5):
        z = xbar.astype(long) @ net.nu.T.astype(long)
        residual = np.asarray(y - np.maximum(z, 0) @ net.sign.astype(long), dtype=np.float64)
        size = float(np.abs(residual).max())
        if size >= least:
            break
        best, least = net, size
        net = net.stepped(np.linalg.lstsq(net.jacobian(xbar), residual, rcond=None)[0])
    return best
