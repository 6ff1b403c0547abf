"""Which weights of an :class:`MLP` stay: the strongest that together leave no loose ends."""

import itertools

import torch
from torch import Tensor

from sparelu.train.fit.masked_mlp import MLP
from sparelu.train.sparsifier.scores import magnitude, strongest


def gauge_free(net: MLP) -> Tensor:
    """Return the counted weights; for products |w_j| |v_j|, which scaling w_j up and v_j down does not change."""
    if not net.fused:
        return net.value[net.counted]
    w, v = net.split(net.value)[0]
    return (w * v[:, 0]).flatten()


def selection(net: MLP, score: Tensor, k: int) -> Tensor:
    """Keep ``k`` counted weights by ``score`` (counted,), all on paths from input to output: a mask over all weights.

    A weight without a path does nothing and still counts. Where the ``k`` strongest hold such weights, the weaker half
    of them makes room for the next in order, until every one kept is on a path. ``k`` is reached through its doublings,
    so that a harsh cut does not tear all paths at once. Should they all tear in a deep network, one path is kept. Then
    the strongest of those that can join fill up what is missing, and where none is left, further units join by two
    weights each; fewer than ``k`` are kept when one is missing then, or no more are alive.
    """
    part, alive = net.counted, net.alive.clone()
    for stage in reversed([k << i for i in range(max(1, net.nonzeros // k).bit_length())]):
        alive = _on_paths(net, alive, score, stage)
    if not alive.any():
        alive = _strongest_path(net, score)
    while (missing := k - int(alive[part].sum())) > 0:
        room = net.attachable(alive) & net.alive & ~alive
        alive[part] |= strongest(score, room[part], missing)
        if net.fused or missing - int(room[part].sum()) < 2 or not (ear := _strongest_ear(net, score, alive)).any():
            break
        alive |= ear
    return alive


def _on_paths(net: MLP, alive: Tensor, score: Tensor, k: int) -> Tensor:
    """Keep at most ``k`` counted weights of ``alive``, the weaker ones without a path taken out again and again."""
    part, alive = net.counted, alive.clone()
    while True:
        mask = alive.clone()
        mask[part] = strongest(score, alive[part], k)
        linked = net.connected(mask)
        loose = (mask[part] & ~linked[part]).nonzero()[:, 0]
        if not loose.numel():
            return linked
        weakest = score[loose].argsort(descending=True, stable=True)[loose.numel() // 2 :]
        alive[loose[weakest]] = False


def _strongest_path(net: MLP, score: Tensor) -> Tensor:
    """Find the active path from an input to an output whose scores have the largest product."""
    matrices = net.split(score * net.alive)[0]
    reach, origins = torch.ones_like(matrices[0][:, 0]), []
    for matrix in matrices:
        reach, origin = (reach[:, None] * matrix).max(0)
        origins.append(origin)
    mask, unit = torch.zeros_like(net.alive), int(reach.argmax())
    for matrix, origin in zip(reversed(net.split(mask)[0]), reversed(origins), strict=True):
        matrix[origin[unit], unit] = True
        unit = int(origin[unit])
    return mask & net.alive


def _strongest_ear(net: MLP, score: Tensor, alive: Tensor) -> Tensor:
    """Find the two weights of the largest product that join a unit without any to others: a mask, empty without one."""
    scores, there = net.split(score * net.alive)[0], net.split(alive)[0]
    joined = [torch.ones_like(there[0][:, 0]), *(m.any(0) for m in there[:-1]), torch.ones_like(there[-1][0])]
    mask, best = torch.zeros_like(alive), 0.0
    for i, (into, out) in enumerate(itertools.pairwise(scores)):
        (fed, origin), (read, target) = (into * joined[i][:, None]).max(0), (out * joined[i + 2]).max(1)
        product = fed * read * ~joined[i + 1]
        unit = int(product.argmax())
        if product[unit] > best:
            best, mask = float(product[unit]), torch.zeros_like(alive)
            first, second = net.split(mask)[0][i : i + 2]
            first[origin[unit], unit] = second[unit, target[unit]] = True
    return mask


def within(net: MLP, k: int) -> MLP:
    """Copy and cut to ``k`` counted weights by magnitude at once; return the network itself where it has no more."""
    if net.nonzeros <= k:
        return net
    cut = MLP.restored(net.state(), str(net.value.device))
    cut.keep(selection(cut, magnitude(gauge_free(cut)), k))
    return cut
