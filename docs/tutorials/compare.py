# %% [markdown]
# # Comparing sparse training methods
#
# You want to know which way to train a sparse network is best on your problem, at equal budgets, with seeds, and
# without fooling yourself. Every method here is one object in your own training loop.

# %%
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sparelu.train import SET, GradualMagnitude, RigL, Static

torch.set_num_threads(1)  # matrices this small are slower on several
STEPS, DENSITIES, SEEDS = 300, (0.02, 0.1), range(3)
pixels, labels = load_digits(return_X_y=True)
x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0, stratify=labels)

# %% [markdown]
# ## One loop for all of them
#
# The sparsifier takes the model and the optimizer, and its `step` takes the place of the optimizer's. Zeros stay
# zero, in the weights and in every slot of the optimizer, and the count is kept at every update.

# %%
METHODS = {
    "static": lambda m, o, d: Static(m, o, density=d),
    "SET": lambda m, o, d: SET(m, o, density=d, total_steps=STEPS),
    "RigL": lambda m, o, d: RigL(m, o, density=d, total_steps=STEPS),
    "gradual": lambda m, o, d: GradualMagnitude(m, o, density=d, total_steps=STEPS),
}


def accuracy(method: str, density: float, seed: int) -> float:
    """Train one network and return its accuracy on the test rows."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    sparsifier = METHODS[method](model, optimizer, density)
    rows = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        batch = torch.randint(len(x_train), (64,), generator=rows)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x_train[batch]), y_train[batch]).backward()
        sparsifier.step()
    assert sparsifier.nonzeros <= round(density * sparsifier.size)
    with torch.no_grad():
        return float((model(x_test).argmax(1) == y_test).float().mean())


table = {(m, d): np.array([accuracy(m, d, s) for s in SEEDS]) for m in METHODS for d in DENSITIES}

# %%
import matplotlib.pyplot as plt

figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for i, method in enumerate(METHODS):
    mean = [table[method, d].mean() for d in DENSITIES]
    spread = [table[method, d].std(ddof=1) for d in DENSITIES]
    axis.errorbar(np.array(DENSITIES) * (1 + 0.03 * i), mean, spread, marker="o", capsize=3, label=method)
    print(f"{method:>8}: " + ", ".join(f"{100 * m:.1f} +- {100 * s:.1f}" for m, s in zip(mean, spread, strict=True)))
axis.set(xscale="log", xlabel="density", ylabel="test accuracy")
axis.legend()
plt.show()

# %% [markdown]
# Three seeds on one small data set show how a comparison is made, not who wins: differences below the bars are noise.
# What the methods reach on MNIST at equal budgets, with the rows that it was read off, is in
# [Measurements](../measurements.md).
#
# ## Is the mask worth anything?
#
# A mask is only as good as its lead over random masks with as many weights in every layer. `diagnose_layers` gives a
# number of the mask beside the same number of such random masks.

# %%
from sparelu.train import diagnose_layers

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
sparsifier = RigL(model, optimizer, density=0.1, total_steps=STEPS)
for step in range(STEPS):
    batch = torch.randint(len(x_train), (64,), generator=torch.Generator().manual_seed(step))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x_train[batch]), y_train[batch]).backward()
    sparsifier.step()
for name, layer in diagnose_layers(model).items():
    print(name, layer)

# %% [markdown]
# ## Grids that survive a night
#
# For more than a few cells write them as a file. A sweep keeps one row for each trial with its seeds, versions, time
# and memory, a killed sweep loses only the rows in flight, and the same command goes on. Rows are addressed by what
# decides them, so nothing is computed twice.

# %%
import subprocess
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
grid = """
format = 1
[[trials]]
data = "planted"
method = ["exact", "pursuit"]
seed = [0, 1]
hidden = [4]
nonzeros = [12]
parameters = { inputs = 10, rows = 400, test_rows = 200, hidden = "@hidden", nonzeros = "@nonzeros" }
"""
(folder / "grid.toml").write_text(grid)
command = ["sparelu", "sweep", "grid.toml", "--out", "table.jsonl", "--workers", "1"]
subprocess.run(command, cwd=folder, check=True, capture_output=True)

# %%
import json

for line in (folder / "table.jsonl").read_text().splitlines():
    row = json.loads(line)
    print(f"{row['method']:>8}, {row['nonzeros']} weights: R2 {row['score']:.6f}, {row['status']}")

# %% [markdown]
# `sparelu report table.jsonl` draws the figures. [Sweeps](../sweeps.md) has the format, and how to run on a cluster.
