"""Several outputs: the kinks of a random combination start the search; fits, tests and growth are of all outputs.

A combination y.a has the kinks of all outputs, of lengths |V_j.a| |w_j|: almost surely none is zero, some are small.
So every output gets its weights on those kinks by regression, all are refitted jointly (:mod:`.joint`), and what the
t statistics over all outputs ask for is dropped, merged and added, until nothing is left to do.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sparelu.recover.exact.forward import SEARCH_ROWS, more_kinks
from sparelu.recover.exact.hinges import Kinks, Sample, near_pairs
from sparelu.recover.exact.least_squares import ROUNDING, Fit
from sparelu.recover.exact.normal_equations import Held
from sparelu.recover.exact.orientation import Orientations, find_orientations
from sparelu.recover.exact.outputs_least_squares import Joint, Normal, Places, refit_jointly, saliencies, unit
from sparelu.recover.exact.relu_model import Found
from sparelu.recover.exact.search import CLOSE, MERGE, NOISELESS, ROUNDED

MOST_ROUNDS = 12
"""Rounds of dropping and growing before the search is said not to be at rest."""
STRUCTURE = 25.0
"""Squared t of a residual whose outputs are searched one by one: noise has 2 log(outs d^2), about 23 for 10 and 100."""
SEARCHED = 3
"""Outputs whose residual is searched for new kinks in one round, those with most structure first."""


def drafted(kinks: Kinks, sample: Sample) -> Joint:
    """Every output by linear regression on the kinks and the inputs; ``sample`` has targets (n, outs)."""
    outs = sample.y.shape[1]
    kinks = kinks.take((kinks.weight[:, :-1] != 0).any(1))
    affine = kinks.affine.new_zeros(outs, kinks.affine.numel())
    start = unit(Found(kinks.weight, torch.zeros_like(kinks.sign), kinks.sign[:, None].repeat(1, outs), affine))
    return refit_jointly(start, Places.of(start), sample, steps=2, free=False)


def unexplained(draft: Found, sample: Sample) -> np.ndarray:
    """Residuals (n, outs) of unit variance; 0 of an output that is met to rounding."""
    r = torch.cat([y - draft(x) for x, y in sample.blocks()])
    mse = r.square().mean(0)
    return torch.where(mse > NOISELESS, r / mse.clamp_min(ROUNDING).sqrt(), 0.0).cpu().numpy()


def settled(joint: Joint, sample: Sample, rng: np.random.Generator) -> tuple[Joint, bool]:
    """Dropped, merged and grown until nothing changes; and whether that was reached."""
    joint = pruned(refit_jointly(joint.found, Places.of(joint.found), sample), sample)
    best = score(joint)
    for _ in range(MOST_ROUNDS):
        places, found = _grown(joint, sample, rng)
        if places.size == joint.places.size:
            return joint, True
        after = pruned(refit_jointly(found, places, sample), sample)
        value = score(after)
        if value > best - 1e-3:
            return joint, after.places.size == joint.places.size
        joint, best = after, value
    return joint, False


def score(joint: Joint) -> float:
    """Sum over the outputs of log mse, and log n / n for each number fitted, as of Schwarz."""
    return float(joint.noise.log().sum()) + joint.places.size * math.log(joint.rows) / joint.rows


def _thresholds(joint: Joint) -> tuple[Tensor, Tensor]:
    """Squared t statistics that noise rarely reaches: of the weights of every kink (k, 1), of output weights (outs,).

    2 log(candidates) + 6; where labels are exact, what their rounding does not explain.
    """
    count = max(len(joint.found.weight), 20) * (joint.found.weight.shape[1] + len(joint.mse))
    noise = 2 * math.log(count) + 6
    outputs = torch.where(joint.mse < NOISELESS, max(noise, ROUNDED), noise)
    weights = torch.where(joint.found.outputs != 0, outputs, 0.0).amax(1, keepdim=True)
    return weights, outputs


def _weak(joint: Joint) -> tuple[Tensor, Tensor]:
    """Squared t statistics over their thresholds, of the weights and of the output weights; infinite elsewhere."""
    weights, outputs = _thresholds(joint)
    t_weight, t_outputs = saliencies(joint)
    return torch.where(joint.places.weight, t_weight / weights.clamp_min(1e-30), torch.inf), t_outputs / outputs


def pruned(joint: Joint, sample: Sample) -> Joint:
    """Without the weights and output weights that noise or rounding explains, and with kinks of one direction joined.

    A drop that costs an output twice what the t statistics say is made smaller, since weights of small t can be
    needed together.
    """
    for _ in range(8):
        t_weight, t_outputs = _weak(joint)
        values = torch.cat([t_weight.flatten(), t_outputs.flatten()])
        order = values.argsort()
        weak = order[: int((values < 1).sum())]
        highest = float(_thresholds(joint)[1].max())
        while True:
            found = _joined(_without(joint.found, weak), joint)
            gone = joint.places.size - Places.of(found).size
            if gone == 0:
                return joint
            after = refit_jointly(found, Places.of(found), sample, steps=8, enough=CLOSE)
            if bool((after.mse <= joint.noise * (1 + CLOSE + 2 * highest * gone / joint.rows)).all()):
                break
            if len(weak) == 0:
                return joint
            weak = weak[: len(weak) // 4]
        joint = after
    return joint


def _without(found: Found, gone: Tensor) -> Found:
    """With the weights and output weights at flat places ``gone`` set to zero."""
    weight, outputs = found.weight.clone(), found.outputs.clone()
    cut = weight.numel()
    weight.view(-1)[gone[gone < cut]] = 0.0
    outputs.view(-1)[gone[gone >= cut] - cut] = 0.0
    return unit(replace(found, weight=weight, outputs=outputs))


def _joined(found: Found, joint: Joint) -> Found:
    """Kinks of almost one hyperplane made one, where that changes the outputs by less than ``MERGE`` mse / n.

    For unit Gaussian inputs and kinks A |u.x| / 2, B |u'.x| / 2 (A and B over the outputs, in units of their noise) at
    angle t, the common direction of least error leaves t^2 (|A|^2 |B|^2 - (A.B)^2) / (4 |A + B|^2) to first order, zero
    where A and B are parallel, and then the wedge of :func:`.kinks.merged`, of order t^3.
    """
    near = torch.stack(near_pairs(found.weight), dim=1).tolist()
    alive = torch.ones(len(found.weight), dtype=torch.bool, device=found.weight.device)
    weight, outputs = found.weight.clone(), found.outputs.clone()
    for j, k in near:
        if not (bool(alive[j]) and bool(alive[k])):
            continue
        side = float((weight[j] @ weight[k]).sign())
        a, b = outputs[j] / joint.noise.sqrt(), outputs[k] / joint.noise.sqrt()
        total = float((a + b).square().sum())
        angle = float((weight[j] - side * weight[k]).norm())
        inner, size = float(a @ b), float(a.square().sum() * b.square().sum())
        apart = (size - inner**2) / (4 * max(total, 1e-30)) * angle**2
        wedge = 2 / (3 * math.pi) * size / max(total, 1e-30) * angle**3
        if apart + wedge > MERGE / joint.rows:
            continue
        share = float(b @ (a + b)) / max(total, 1e-30)
        weight[j] = (1 - share) * weight[j] + share * side * weight[k]
        outputs[j] = outputs[j] + outputs[k]
        alive[k] = False
    return unit(replace(found, weight=weight, outputs=outputs).take(alive))


def _grown(joint: Joint, sample: Sample, rng: np.random.Generator) -> tuple[Places, Found]:
    """The places with the weights, output weights and kinks that the residuals ask for; the kinks among them."""
    found, size = joint.found, len(joint.support)
    gate_slope, structure = _screened(joint, sample)
    weights, outputs = _thresholds(joint)
    power = joint.base[size:, size:].diagonal() / 4
    t_weight = gate_slope.square() / (power * (found.outputs.square() @ (1 / joint.noise))[:, None]).clamp_min(1e-30)
    t_weight = torch.where(joint.places.weight, 0.0, t_weight)
    most = max(10, int(joint.places.weight.sum()) // 10)
    t_outputs = _t_outputs(joint)
    mask_weight, mask_outputs = _top(t_weight, weights, most), _top(t_outputs, outputs, most)
    places = Places(joint.places.weight | mask_weight, joint.places.outputs | mask_outputs, joint.places.affine)
    return _with_kinks(joint, places, sample, structure, rng)


def _top(t: Tensor, threshold: Tensor, most: int) -> Tensor:
    """Mask of the ``most`` largest entries among those above the threshold."""
    mask = torch.zeros_like(t, dtype=torch.bool)
    if t.numel():
        top = (t / threshold.clamp_min(1e-30)).flatten().topk(min(most, t.numel()))
        mask.view(-1)[top.indices[top.values > 1]] = True
    return mask


def _t_outputs(joint: Joint) -> Tensor:
    """Squared t of the output weights that are zero, outside the span of the live ones and the affine part."""
    normal, outs = Normal(joint), joint.found.outputs.shape[1]
    t = torch.zeros_like(joint.found.outputs)
    for o in range(outs):
        live = joint.places.outputs[:, o]
        inner = normal.lift.T @ normal.eliminated(o)[0] @ normal.lift
        slope = normal.lift.T @ joint.slope[: normal.size, o]
        power = inner.diagonal().clone()
        if bool(live.any()):
            part = torch.linalg.lstsq(inner[live][:, live], inner[live]).solution
            power -= (inner[live] * part).sum(0)
        resolved = power > 1e-6 * inner.diagonal()
        t[:, o] = torch.where(~live & resolved, slope.square() / power / joint.noise[o], 0.0)
    return t


def _screened(joint: Joint, sample: Sample) -> tuple[Tensor, Tensor]:
    """The gradient for every weight, summed over outputs in units of their noise; and the structure of each residual.

    Structure is the largest squared t of an entry of E[r x x'], or of its largest eigenvalue against that of noise.
    """
    found = joint.found
    level, width = joint.noise.sqrt(), sample.inputs - 1
    weighted = (found.outputs / level).float().T
    slope = torch.zeros(found.weight.shape, device=level.device)
    second = torch.zeros(len(level), width, width, device=level.device)
    rows = 0
    for x, y in sample.blocks():
        z, x32 = x @ found.weight.T, x.float()
        r = ((y - x @ found.affine.T - z.abs() @ found.outputs / 2) / level).float()
        slope += (z.sign().float() * (r @ weighted)).T @ x32 / 2
        if rows < SEARCH_ROWS:
            inner = x32[:, :-1]
            for o in range(len(level)):
                second[o].addmm_((inner * r[:, o, None]).T, inner)
            rows += len(x)
    size = (joint.base.diagonal()[-sample.inputs : -1].float() / joint.rows).clamp_min(1e-30).sqrt()
    second /= math.sqrt(rows) * size[:, None] * size
    second.diagonal(dim1=1, dim2=2).div_(math.sqrt(2))  # x_i^2 has variance 2 for Gaussian inputs
    largest = second.square().flatten(1).amax(1)
    edge = torch.linalg.eigvalsh(second).abs().amax(1) / (2 * math.sqrt(width))
    return slope.double(), torch.maximum(largest, STRUCTURE * edge.square() / 1.2).double()


def _with_kinks(
    joint: Joint, places: Places, sample: Sample, structure: Tensor, rng: np.random.Generator
) -> tuple[Places, Found]:
    """With the kinks that the residuals of the most structured outputs, and of one combination, ask for."""
    outs = len(joint.mse)
    order = structure.argsort(descending=True)[:SEARCHED]
    mixes = torch.eye(outs).to(joint.mse)[order[structure[order] > STRUCTURE]]
    mixes = torch.cat([mixes, torch.as_tensor(rng.standard_normal((1, outs))).to(mixes)])
    residuals = torch.cat([y - joint.found(x) for x, y in sample.blocks()])
    fit = Fit(joint.kinks, 1.0, Held(joint.support, joint.base), joint.rows)
    threshold = float(_thresholds(joint)[1].max())
    count, weight = len(joint.kinks), joint.found.weight
    for mix in mixes:
        target = residuals @ (mix / joint.noise.sqrt())
        kinks, _ = more_kinks(fit, sample, target, threshold, max(3, count // 10), rng)
        for new in kinks.weight[count:]:
            new = new / new.norm()
            if not bool((weight[count:] @ new).abs().gt(0.9).any()):
                weight = torch.cat([weight, new[None]])
    extra = len(weight) - count
    return (
        Places(
            torch.cat([places.weight, weight[count:] != 0]),
            torch.cat([places.outputs, places.outputs.new_ones(extra, outs)]),
            places.affine,
        ),
        Found(
            weight,
            torch.zeros(len(weight)).to(weight),
            torch.cat([joint.found.outputs, weight.new_zeros(extra, outs)]),
            joint.found.affine,
        ),
    )


def trimmed_jointly(joint: Joint, sample: Sample, allowed: int | None, width: int) -> Joint:
    """Refit after dropping what the budget does not hold, weights of least saliency first, a fifth at a time."""
    strength = (joint.found.outputs / joint.noise.sqrt()).norm(dim=1)
    found = joint.found
    if len(strength) > width:
        found = found.take(strength.argsort(descending=True)[:width].sort().values)
        joint = refit_jointly(found, Places.of(found), sample)
    while allowed is not None and joint.found.nonzeros > allowed:
        t_weight, t_outputs = saliencies(joint)
        t_weight = torch.where(joint.places.weight, t_weight, torch.inf)
        t_weight[:, -1] = torch.inf
        excess = joint.found.nonzeros - allowed
        order = torch.cat([t_weight.flatten(), t_outputs.flatten()]).argsort()
        found = _without(joint.found, order[: max(1, excess // 5)])
        joint = refit_jointly(found, Places.of(found), sample, steps=4)
    return joint


def oriented_jointly(joint: Joint, sample: Sample) -> tuple[Joint, Orientations | None]:
    """Read off the orientations, put affine entries that are then explained to zero, and refit.

    An entry a_oi less sum_j V_jo e_j w_ji / 2 has the variances of its terms, six standard deviations are its slack.
    The oriented fit is kept only where it explains every output as well; else there are no orientations.
    """
    f = joint.found
    var_w, var_v, var_a = Normal(joint).variances()
    total = var_a + (f.outputs.square().T @ var_w + var_v.T @ f.weight.square()) / 4
    slack = 6 * total.clamp_min(1e-26).sqrt()
    signs = find_orientations(f.weight, f.outputs, f.affine, slack)
    side = signs.signs
    left = f.affine - (f.outputs * side[:, None]).T @ f.weight / 2
    needed = left.abs() > slack
    turned = replace(f, tilt=side, affine=torch.where(needed, left, 0.0))
    places = replace(Places.of(turned), affine=needed)
    again = refit_jointly(turned, places, sample, steps=8)
    kept = bool((again.mse <= joint.mse * (1 + 60 / math.sqrt(joint.rows)) + 100 * ROUNDING).all())
    return (again, signs) if kept else (joint, None)


def all_t(joint: Joint) -> np.ndarray:
    """Return |t| of all weights of either layer."""
    if joint.places.size == 0:
        return np.zeros(0)
    t_weight, t_outputs = saliencies(joint)
    return torch.cat([t_weight[joint.places.weight], t_outputs[joint.places.outputs]]).sqrt().cpu().numpy()


def cut(found: Found, allowed: int | None, width: int) -> Found:
    """The ``width`` kinks and the ``allowed`` weights of both layers that matter most, by |v_jo| |w_ji|."""
    strength = found.outputs.norm(dim=1)
    if len(strength) > width:
        found = found.take(strength.argsort(descending=True)[:width].sort().values)
    value = torch.cat([found.weight[:, :-1].abs() * found.outputs.norm(dim=1)[:, None], found.outputs.abs()], dim=1)
    if allowed is None or int(torch.count_nonzero(value)) <= allowed:
        return found
    mask = torch.zeros_like(value, dtype=torch.bool)
    mask.view(-1)[value.flatten().topk(allowed).indices] = True
    inputs = found.weight.shape[1] - 1
    weight = torch.cat([found.weight[:, :-1] * mask[:, :inputs], found.weight[:, -1:]], dim=1)
    return replace(found, weight=weight, outputs=found.outputs * mask[:, inputs:])
