"""Networks of one input with one hidden layer at any size: evaluated by sorting, not by a table of activations."""

import numpy as np

from sparelu.networks.layer import Layer

Long = np.longdouble
"""Sums over many hinges cancel: they are taken with the longest floats of the processor (64 bits of mantissa on
x86).
"""


def evaluate_sorted(hidden: Layer, output: Layer, x: np.ndarray) -> np.ndarray:
    """Compute ``v (w x + b)_+ + c`` at x (n,) in O((n + m) log m) and memory O(n + m), for each output; (n, k).

    Between two neighbouring knots t_j = -b_j/w_j an output is a line. With the knots sorted, the slope right of the
    p-th is A_p = sum_(w<0) v w + sum_(j<=p) v_j |w_j|, since there a neuron of positive w begins and one of negative w
    ends; the values at the knots follow from F_(p+1) = F_p + A_p (t_(p+1) - t_p), and f(x) = F_p + A_p (x - t_p).
    """
    w, b = np.zeros(hidden.shape[0]), hidden.dense_bias().double().cpu().numpy()
    w[hidden.outputs_of_values.cpu().numpy()] = hidden.values.double().cpu().numpy()
    knotted = w != 0
    v = output.to_scipy().tocsc().astype(np.float64)
    constant = output.dense_bias().double().cpu().numpy() + v[:, ~knotted] @ np.maximum(b[~knotted], 0.0)
    w, b, v = w[knotted], b[knotted], v[:, knotted]
    out = np.broadcast_to(constant, (x.size, constant.size)).copy()
    if w.size == 0:
        return out
    knots = -b.astype(Long) / w.astype(Long)
    order = np.argsort(knots, kind="stable")
    w, b, knots, v = w[order], b[order], knots[order], v[:, order].tocsr()
    piece = np.searchsorted(knots, x.astype(Long), side="right") - 1
    anchor = np.maximum(piece, 0)
    from_anchor = x.astype(Long) - knots[anchor]
    steps = np.diff(knots)
    for k in range(v.shape[0]):
        row = slice(v.indptr[k], v.indptr[k + 1])
        outgoing = np.zeros(w.size, dtype=Long)
        outgoing[v.indices[row]] = v.data[row]
        left = (outgoing * w)[w < 0].sum()  # the slope left of all knots, where neurons of negative w alone are active
        slopes = left + np.cumsum(outgoing * np.abs(w))
        first = (outgoing * w * (knots[0] - knots))[w < 0].sum()
        values = first + np.concatenate([[Long(0)], np.cumsum(slopes[:-1] * steps)])
        slope = np.where(piece < 0, left, slopes[anchor])
        out[:, k] += (values[anchor] + slope * from_anchor).astype(np.float64)
    return out
