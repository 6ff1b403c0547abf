"""Fewer neurons for any two-layer network: the exact population distance, minimised over all weights.

Inputs are taken as Gaussian: standard normal, or of the mean and covariance of the data (the Gaussian surrogate).
Outputs are eliminated exactly (:mod:`sparelu.compress.projection`), hidden weights move by L-BFGS from several starts.
With data, a last fit to the original's outputs on the rows follows, and both errors are claimed.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparelu.compress.bounds import lower_bound
from sparelu.compress.frames import InvariantTarget, build_frame
from sparelu.compress.projection import Form, NetworkTarget, Projection, descend_neurons
from sparelu.compress.refit import refit_students
from sparelu.compress.shallow import distance_certificate, fits, from_two_layer, shallow_reason, two_layer, unchanged
from sparelu.compress.starts import Chosen, choose_greedily, find_centres, largest_neurons, scatter_neurons
from sparelu.data import Budget, Data
from sparelu.gaussian import NormalInputs, TwoLayer, inner, squared_norm
from sparelu.method import Compressor, setting
from sparelu.networks.network import Network
from sparelu.outcome import Assumption, Certificate


@dataclass(frozen=True)
class Population(Compressor):
    """Minimise the exact mean squared distance to the original under Gaussian inputs.

    Use it to say the same with fewer neurons, for one hidden layer.

    Not for convolutions or several hidden layers: ``chase`` and ``merge``.
    """

    restarts: int = setting(
        4, "starts: greedy selection, k-means, the closed-form frame, then random directions", low=1
    )
    steps: int = setting(400, "L-BFGS steps of the best start", low=1)
    screening: int = setting(40, "L-BFGS steps that every start gets before the best goes on", low=1)
    law: str = setting("data", "law of the inputs; data: mean and covariance of the rows", choices=("data", "standard"))
    affine: str = setting("keep", "affine part; free: add one, keep: as the original", choices=("keep", "free"))
    refit: str = setting("all", "last fit to the original on the rows", choices=("none", "outputs", "all"))
    refit_steps: int = setting(200, "L-BFGS steps of the last fit", low=1)
    refit_starts: int = setting(
        4, "starts of a last fit of all weights: the population optimum, greedy, k-means, the largest neurons", low=1
    )
    rows: int = setting(20000, "rows that the last fit uses at most, drawn at random", low=1)

    name = "population"
    question = "compress"
    paper = "Amani, Bombari, Mondelli, Pukdee, Rini, Sharp asymptotics on the compression of two-layer networks, 2022"

    def refuses(self, network: Network, budget: Budget, data: Data | None) -> str | None:
        if data is not None and data.inputs != network.inputs:
            return f"the network reads {network.inputs} inputs, the data have {data.inputs}"
        return shallow_reason(network, budget)

    def compress(
        self, network: Network, budget: Budget, data: Data | None, rng: np.random.Generator
    ) -> tuple[Network, tuple[Certificate, ...]]:
        if fits(network, budget):
            return unchanged(network, budget)
        original, m = two_layer(network), budget.hidden[0]
        law, law_name = NormalInputs.standard(network.inputs), "standard normal"
        if data is not None and self.law == "data":
            law, law_name = gaussian_law(data), "Gaussian of the rows' mean and covariance"
        target = NetworkTarget.of(law.whiten(original))
        starts = self.refit_starts if data is not None and self.refit == "all" else 1
        students = self.search(original, target, law, m, rng, starts)
        rows, student = None if data is None else _rows(data, self.rows, rng), students[0]
        if data is not None and rows is not None and self.refit != "none":
            classes = data.task == "classification"
            student = refit_students(students, original, rows, classes, self.refit, self.refit_steps, rng)
        small = from_two_layer(student, network)
        returned = two_layer(small)
        distance = max(target.energy + float(_excess(law.whiten(returned), target.net)), 0.0)
        if rows is not None:
            return small, _claims_on_rows(returned, original, distance, target.energy, law_name, rows.double())
        claims = [distance_certificate(distance, target.energy, law_name)]
        affine = (original.bias, original.offset, original.linear, returned.linear, returned.offset)
        if len(original.out) == 1 and not any(bool(part.any()) for part in affine):
            claims.append(_bound(returned, original, target.energy))
        return small, tuple(claims)

    def search(
        self,
        original: TwoLayer,
        target: NetworkTarget,
        law: NormalInputs,
        neurons: int,
        rng: np.random.Generator,
        starts: int | None = None,
    ) -> list[TwoLayer]:
        """Return the nearest student of ``original`` found under ``law``; then greedy, k-means and the largest,
        unmoved.

        Outputs are the best under the law; ``target`` is the original whitened. At most ``starts`` (none: all).
        """
        back = torch.linalg.pinv(law.root)
        form = Form(
            bias=bool(original.bias.any()),
            offset=self.affine == "free" or bool(original.offset.any()),
            linear=self.affine == "free" or bool(original.linear.any()),
            shift=back @ law.mean,
        )
        projection = Projection(target, form)
        selected = [_start(i, target, form, neurons, rng) for i in range(min(self.restarts, 2))]
        best = self._best(projection, target, neurons, selected, rng)
        kept = largest_neurons(target.net, neurons)

        def seen(weight: Tensor, bias: Tensor) -> TwoLayer:
            found = projection.solve(weight, bias)
            weight, linear = found.weight @ back, found.linear @ back
            bias = found.bias - weight @ law.mean if form.bias else torch.zeros_like(found.bias)
            return TwoLayer(found.out, weight, bias, linear, found.offset - linear @ law.mean)

        return [seen(*hidden) for hidden in (best, *selected, kept)[:starts]]

    def _best(
        self,
        projection: Projection,
        target: NetworkTarget,
        neurons: int,
        selected: list[Chosen],
        rng: np.random.Generator,
    ) -> Chosen:
        """Descend from every start for some steps, from the best to the end."""
        found = []
        for i in range(self.restarts):
            start = selected[i] if i < len(selected) else _start(i, target, projection.form, neurons, rng)
            steps = self.steps if self.restarts == 1 else self.screening
            found.append(descend_neurons(projection, *start, steps))
        weight, bias, _ = min(found, key=lambda f: f[2])
        if self.restarts > 1:
            weight, bias, _ = descend_neurons(projection, weight, bias, self.steps)
        return weight, bias


def gaussian_law(data: Data) -> NormalInputs:
    """Return the Gaussian of the rows' mean and covariance, from one pass; constant directions are left out."""
    n, total = 0, np.zeros(data.inputs)
    square = np.zeros((data.inputs, data.inputs))
    shift = data.statistics.mean
    for x, _ in data.chunks():
        part = np.asarray(x, dtype=np.float64) - shift
        n, total, square = n + len(part), total + part.sum(0), square + part.T @ part
    mean = total / n
    covariance = square / n - np.outer(mean, mean)
    return NormalInputs.of(torch.from_numpy(mean + shift), torch.from_numpy(0.5 * (covariance + covariance.T)))


def _start(i: int, target: NetworkTarget, form: Form, neurons: int, rng: np.random.Generator) -> Chosen:
    """Start ``i``: greedy selection, k-means, the frame of the invariant theory where it has one, random directions."""
    if i == 2 and _plain(target.net, form, neurons):
        best = build_frame(InvariantTarget.of(target.net), neurons, rng)
        return best.weight, best.bias
    if i > 1:
        return scatter_neurons(target.net, form, neurons, rng)
    weight, bias = choose_greedily(target, form, neurons, rng) if i == 0 else find_centres(target.net, neurons, rng)
    if len(bias) < neurons:  # the selected neurons span the others: the rest may point anywhere
        more = scatter_neurons(target.net, form, neurons - len(bias), rng)
        weight, bias = torch.cat([weight, more[0]]), torch.cat([bias, more[1]])
    return weight, bias


def _plain(net: TwoLayer, form: Form, neurons: int) -> bool:
    """Tell whether the invariant theory has a frame for this many neurons: one output, no biases, centred inputs."""
    simple = len(net.out) == 1 and not (form.bias or form.offset or form.linear or bool(net.bias.any()))
    return simple and neurons <= net.weight.shape[1] and bool(net.out.any())


def _rows(data: Data, limit: int, rng: np.random.Generator) -> Tensor:
    chosen = data if data.n <= limit else data.take(np.sort(rng.choice(data.n, limit, replace=False)))
    return chosen.tensors()[0].cpu()


def _excess(small: TwoLayer, original: TwoLayer) -> Tensor:
    """Return the squared distance less E|original|^2, which is known already."""
    return squared_norm(small) - 2 * inner(small, original)


def _claims_on_rows(
    small: TwoLayer, original: TwoLayer, distance: float, energy: float, law: str, rows: Tensor
) -> tuple[Certificate, ...]:
    """Return the exact distance under ``law``, and the gap on the rows themselves.

    The law is called violated where E|f|^2 under it is more than five standard errors from its mean on the rows.
    """
    squares = original(rows).square().sum(1)
    error = float(squares.std()) / math.sqrt(len(rows)) if len(rows) > 1 else math.inf
    state = "violated" if abs(energy - float(squares.mean())) > 5 * error else "taken on trust"
    evidence = f"E|f|^2 is {energy:.4g} under the law and {float(squares.mean()):.4g} on the rows"
    gap = float((original(rows) - small(rows)).square().sum(1).mean())
    measured = Certificate(
        f"mean squared gap to the original network on {len(rows)} rows",
        gap,
        "output^2",
        (Assumption("the rows stand for future inputs", "taken on trust", "the last fit used them"),),
    )
    return distance_certificate(distance, energy, law, state, evidence), measured


def _bound(small: TwoLayer, original: TwoLayer, energy: float) -> Certificate:
    positive = bool((small.out * original.out.sum().sign() > 0).all())
    bound = lower_bound(original, len(small.bias), energy)
    evidence = "so they are in the returned network" if positive else "the returned network has both signs"
    return Certificate(
        f"no {len(small.bias)} neurons with outputs of one sign come nearer",
        bound,
        "output^2",
        (Assumption("outputs of one sign", "checked" if positive else "violated", evidence),),
        vacuous=bound <= 0,
        source="docs/simplex_proof.md",
    )
