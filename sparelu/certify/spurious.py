"""Does this network sit in a symmetric spurious minimum? See :mod:`sparelu.certify.student_teacher`."""

from dataclasses import dataclass

import numpy as np
import torch

from sparelu.certify.premises import some_rows, width_reason
from sparelu.certify.student_teacher import StudentTeacher, isotropy
from sparelu.data import Data
from sparelu.method import Certifier, setting
from sparelu.networks.network import Network
from sparelu.outcome import Assumption, Certificate


@dataclass(frozen=True)
class Spurious(Certifier):
    """Tell whether a trained network is stuck in a local minimum that keeps most of the teacher's symmetry.

    The teacher is sum_i (x_i)_+ on standard normal inputs (in a basis of your choice: the rows of the data decide), the
    network one hidden layer of as many neurons as inputs, without biases and with positive output weights. The nearest
    stationary point is found by L-BFGS on the exact population loss; its loss, least curvature and isotropy are the
    evidence. Source: Arjevani and Field, Analytic characterization of the Hessian in shallow ReLU models: a tale of
    symmetry, 2020: spurious minima are fixed by S_(d-1) x S_1 and other large subgroups. Departs from it in that the
    network is looked at where it is, not at a limit.

    Use it for a student of the symmetric teacher that stopped above zero loss: as many neurons as inputs, no biases,
    positive output weights.

    Not for other networks, which it refuses.
    """

    near: float = setting(0.1, "how far the minimum may be from the network, as a share of its weights", above=0)
    tolerance: float = setting(1e-3, "largest difference of entries that are called equal, as a share", above=0)

    name = "spurious"
    question = "certify"
    paper = "Arjevani and Field, Analytic characterization of the Hessian in shallow ReLU models, 2020"

    def refuses(self, network: Network, data: Data | None) -> str | None:
        """Name the reason: another shape of network than the theory has, or data of another width."""
        if len(network.parts) != 2 or network.convolutions or network.outputs != 1:
            return "the theory is of one hidden layer and one output: certify `regions` or `kernel` instead"
        net = network.compact()
        if net.biases or net.skip is not None and (net.skip.nonzeros or net.skip.biases):
            return "the theory is of networks without biases and without an affine part"
        if net.hidden != (network.inputs,) or bool((net.layers[1].values <= 0).any()):
            return (
                f"the theory is of as many neurons as inputs, all with positive output weights; {net.hidden[0]} "
                f"neurons of {network.inputs} inputs do something here"
            )
        if data is not None and (data.task != "regression" or data.outputs != 1):
            return f"the theory is of regression with one target, got {data.task} with {data.outputs} output(s)"
        return width_reason(network, data, "whether the targets are those of the teacher")

    def certify(self, network: Network, data: Data | None, rng: np.random.Generator) -> Certificate:
        """Compare the network with the nearest minimum of the population loss; the value is that minimum's loss."""
        if data is None:
            raise ValueError(self.refuses(network, data))
        hidden, output = network.to(torch.float64, "cpu").compact().layers
        weight = output.dense()[0][:, None] * hidden.dense()
        problem = StudentTeacher.identity(network.inputs)
        loss, minimum = problem.minimise(weight)
        moved = float((minimum - weight).norm() / weight.norm())
        least = float(torch.linalg.eigvalsh(problem.hessian(minimum).reshape(weight.numel(), -1))[0])
        symmetry = isotropy(minimum, self.tolerance)
        stuck = loss > self.tolerance / network.inputs
        where = f"a spurious minimum of isotropy {symmetry.name}" if stuck else "the global minimum"
        return Certificate(
            f"the nearest minimum is {where}, with population loss (half the mean squared error)",
            loss,
            "output^2",
            (
                _teacher(data),
                _standard(data, rng),
                Assumption(
                    "the network is near that minimum",
                    "checked" if moved <= self.near else "violated",
                    f"its weights are {moved:.2g} of their norm away; least curvature there {least:.2g}",
                ),
            ),
            vacuous=stuck and symmetry.blocks[0] == 1,
            source=self.paper,
        )


def _teacher(data: Data) -> Assumption:
    """Check whether the targets are sum_i (x_i)_+ on every row, to the rounding of float32."""
    largest, size = 0.0, 0.0
    for x, y in data.chunks():
        taught = np.maximum(np.asarray(x, dtype=np.float64), 0).sum(axis=1)
        largest = max(largest, float(np.abs(np.asarray(y, dtype=np.float64).reshape(-1) - taught).max()))
        size = max(size, float(taught.max()))
    state = "checked" if largest <= 1e-5 * max(size, 1.0) else "violated"
    return Assumption("the teacher is the sum of the positive parts of the inputs", state, f"off by {largest:.2g}")


def _standard(data: Data, rng: np.random.Generator, count: int = 10_000) -> Assumption:
    """Check means, variances and correlations of rows against those of N(0, I), within five standard errors."""
    x = some_rows(data, count, rng)
    products = x.T @ x / len(x) - np.eye(data.inputs)
    error = np.sqrt((1 + np.eye(data.inputs)) / len(x))  # var x_i x_j = 1, var x_i^2 = 2
    off = max(float(np.abs(products / error).max()), float(np.abs(x.mean(axis=0)).max() * np.sqrt(len(x))))
    return Assumption(
        "inputs are standard normal",
        "checked" if off < 5 else "violated",
        f"moments of {len(x)} rows are off by at most {off:.1f} standard errors",
    )
