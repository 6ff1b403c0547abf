"""Which weights of an :class:`MLP` stay: the strongest that together leave no loose ends."""

from torch import Tensor

from sparelu.train.mlp import MLP
from sparelu.train.scores import magnitude, strongest


def gauge_free(net: MLP) -> Tensor:
    """The counted weights; with products counted |w_j| |v_j|, which scaling w_j up and v_j down does not change."""
    if not net.fused:
        return net.value[net.counted]
    w, v = net.split(net.value)[0]
    return (w * v[:, 0]).flatten()


def selection(net: MLP, score: Tensor, k: int) -> Tensor:
    """A mask over all weights that keeps ``k`` counted ones by ``score`` (counted,), or all that live when fewer do.

    A weight without a path from an input to an output does nothing and still counts. Where the ``k`` strongest hold
    such weights, the weaker half of them makes room for the next in order, until every one kept is on a path. ``k`` is
    reached through its doublings, so that a harsh cut does not tear all paths at once.
    """
    part, alive = net.counted, net.alive.clone()
    stages = [k]
    while stages[-1] * 2 < net.nonzeros:
        stages.append(stages[-1] * 2)
    mask = alive
    for stage in reversed(stages):
        while True:
            mask = alive.clone()
            mask[part] = strongest(score, alive[part], stage)
            linked = net.connected(mask)
            loose = (mask[part] & ~linked[part]).nonzero()[:, 0]
            if not loose.numel():
                break
            weakest = loose[score[loose].argsort(stable=True)[: (loose.numel() + 1) // 2]]
            alive[weakest] = False
        alive = linked
    return alive


def within(net: MLP, k: int) -> MLP:
    """A copy cut to ``k`` counted weights by magnitude at once; the network itself where it has no more."""
    if net.nonzeros <= k:
        return net
    cut = MLP.restored(net.state(), str(net.value.device))
    cut.keep(selection(cut, magnitude(gauge_free(cut)), k))
    return cut
