# %% [markdown]
# # What can be recovered
#
# A sparse network made these data. How many rows does it take to find it, and when may the result be called exact?
# Here is a phase diagram, and what stands behind the word *converged*.

# %%
import matplotlib.pyplot as plt
import numpy as np

from sparelu import Budget, Data, Status, fit, fitter
from sparelu.datasets import planted_network
from sparelu.identifiability import identifiability

INPUTS, NEURONS = 12, 3
truth = planted_network(inputs=INPUTS, hidden=(NEURONS,), nonzeros=8, output_weights="sign", seed=3)
print(f"{truth.nonzeros} weights in {truth.hidden[0]} neurons of {truth.inputs} inputs")
print(identifiability(truth))

# %% [markdown]
# ## Fit, and compare with the truth
#
# `exact` needs no number of weights. Networks are compared in canonical form, in which one function has one network:
# neurons of one direction merged, and a free linear part for the orientation of each neuron.

# %%
rng = np.random.default_rng(0)
x = rng.standard_normal((400, INPUTS))
y = truth(x).numpy()
solution = fit(fitter("exact"), Data(x, y), Budget((10,)))
fresh = rng.standard_normal((10_000, INPUTS))
error = np.abs(solution.network(fresh).numpy() - truth(fresh).numpy()).max()
print(f"{solution.status.name}: {solution.network.nonzeros} weights, off by {error:.1e} at most on 10,000 fresh rows")
for certificate in solution.certificates:
    print(f"{certificate.claim}: {certificate.value:.3g} {certificate.unit}")
    for assumption in certificate.assumptions:
        print(f"    {assumption.state}: {assumption.text} ({assumption.evidence})")

# %% [markdown]
# ## A phase diagram
#
# Success is the function, on fresh rows, to a millionth of its spread. What is plotted beside it is the share of fits
# that *say* they are exact. The second may be below the first (the data do not always prove it) and must never be
# above.

# %%
ROWS, SEEDS = (16, 24, 32, 48, 72), range(4)
found, said, wrong = [], [], 0
for rows in ROWS:
    good, claims = [], []
    for seed in SEEDS:
        network = planted_network(inputs=INPUTS, hidden=(NEURONS,), nonzeros=8, output_weights="sign", seed=seed)
        draw = np.random.default_rng(seed)
        given, fresh = draw.standard_normal((rows, INPUTS)), draw.standard_normal((2000, INPUTS))
        solution = fit(fitter("exact"), Data(given, network(given).numpy()), Budget((10,)), seed=seed)
        target = network(fresh).numpy()
        good.append(np.sqrt(np.mean((solution.network(fresh).numpy() - target) ** 2)) < 1e-6 * target.std())
        claims.append(solution.status is Status.converged)
        wrong += claims[-1] and not good[-1]
    found.append(np.mean(good))
    said.append(np.mean(claims))
print(f"called exact and wrong: {wrong} of {len(ROWS) * len(SEEDS)} fits")
figure, axis = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
axis.plot(ROWS, found, "o-", label="found")
axis.plot(ROWS, said, "s--", label="said to be exact")
axis.set(xlabel="rows", ylabel="share of networks", ylim=(-0.05, 1.05))
axis.legend()
plt.show()

# %% [markdown]
# The affine part is free, so no fewer rows than inputs + 1 can do. [What is identifiable](../identifiability.md) says
# which networks are one function, [Two hidden layers](../two_hidden_layers.md) what changes with depth, and
# [Measurements](../measurements.md) has the same curve at 100 inputs with the published method beside it.
#
# ## One input: everything is known
#
# Through points on a line the sparsest interpolant is found exactly, and so is the exponent p* below which the
# minimiser of the l^p norm of the weights is the sparsest network.

# %%
from sparelu.interpolate.curves.interpolant import interpolate

points = np.array([-2.0, -1, 0, 1, 2, 3]), np.array([0.0, 0, 1, 1, 0, 0])
sparsest = interpolate(*points)
low, high = sparsest.critical.overall
print(f"{sparsest.least_knots} knots are least, for every network; p* is in [{low:.3f}, {high:.3f}]")
print("unique" if sparsest.unique else "not unique")
