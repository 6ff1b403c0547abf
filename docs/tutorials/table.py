# %% [markdown]
# # A table, and a model small enough to read
#
# You have a table and want a model that predicts about as well as a large one, and that you can read, print and
# defend. Here are 442 people with diabetes, ten measurements of each, and how far the disease went within a year.

# %%
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

x, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
x.describe().loc[["mean", "std", "min", "max"]].round(1)

# %% [markdown]
# ## Ask for a number of weights
#
# `nonzeros=15` is a budget: the network that comes back has that many weights at most, of all those that a network of
# 20 hidden neurons could have. Inputs are raw; scaling is learnt on the training rows and folded into the weights.

# %%
from sparelu import SparseReLURegressor

model = SparseReLURegressor(nonzeros=15, hidden=20, random_state=0).fit(x_train, y_train)
print(f"{model.nnz_} weights; R2 {model.score(x_test, y_test):.3f} on people that it has not seen")
print("reads", ", ".join(x.columns[model.support_]))
print("leaves out", ", ".join(x.columns[~model.support_]))

# %% [markdown]
# ## Is that any good?
#
# Compare with what a table usually gets: a linear model and boosted trees, on the same rows.

# %%
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

linear = LinearRegression().fit(x_train, y_train)
trees = HistGradientBoostingRegressor(random_state=0).fit(x_train, y_train)
numbers = sum(len(p.nodes) for step in trees._predictors for p in step)
print(f"linear model   R2 {linear.score(x_test, y_test):.3f} with {linear.coef_.size} weights")
print(f"boosted trees  R2 {trees.score(x_test, y_test):.3f} with {numbers} nodes")

# %% [markdown]
# ## Read it
#
# Every hidden neuron is a hinge: nothing below a threshold, a straight line above it. The canonical form has one
# neuron for each hinge and unit weights, so that the whole model fits on a few lines.

# %%
network = model.network_.canonical()
hidden, output = network.layers
weights, effects = hidden.dense(), output.dense()[0]
for j in range(len(effects)):
    terms = [f"{float(w):+.3g} {name}" for w, name in zip(weights[j], x.columns, strict=True) if w != 0]
    if terms and effects[j] != 0:
        print(f"{float(effects[j]):+.3g} * max(0, {' '.join(terms)} {float(hidden.bias[j]):+.3g})")
if network.skip is not None:
    terms = [f"{float(w):+.3g} {name}" for w, name in zip(network.skip.dense()[0], x.columns, strict=True) if w != 0]
    print("plus", " ".join(terms))
print("plus", f"{float(output.bias[0]):.4g}")

# %% [markdown]
# ## How many weights are enough?
#
# Cross-validate the budget on the training rows, and take the smallest whose error is within one standard error of
# the least: the test rows judge the choice and take no part in it.

# %%
import numpy as np
from sklearn.model_selection import cross_val_score

budgets = [3, 10, 40]
models = {s: SparseReLURegressor(nonzeros=s, hidden=20, random_state=0) for s in budgets}
scores = {s: cross_val_score(models[s], x_train, y_train, cv=3) for s in budgets}
best = max(budgets, key=lambda s: scores[s].mean())
floor = scores[best].mean() - scores[best].std(ddof=1) / np.sqrt(3)
chosen = min(s for s in budgets if scores[s].mean() >= floor)
for s in budgets:
    mark = " <- chosen" if s == chosen else ""
    print(f"{s:3d} weights: R2 {scores[s].mean():.3f} +- {scores[s].std(ddof=1):.3f} over folds{mark}")

# %% [markdown]
# The estimators follow scikit-learn, so pipelines, searches, permutation importance and partial dependence work as
# they are.
#
# %%
import matplotlib.pyplot as plt
from sklearn.inspection import permutation_importance

final = models[chosen].fit(x_train, y_train)
weight = permutation_importance(final, x_test, y_test, n_repeats=10, random_state=0)
order = np.argsort(weight.importances_mean)
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.barh(x.columns[order], weight.importances_mean[order], xerr=weight.importances_std[order], color="tab:blue")
title = f"{final.nnz_} weights, test R2 {final.score(x_test, y_test):.2f}"
axis.set(xlabel="loss of R2 when the column is shuffled", title=title)
plt.show()

# %% [markdown]
# ## The same from the command line
#
# ```bash
# sparelu fit data.csv --target price --nonzeros 15 --hidden 20 --out runs/table
# sparelu show runs/table                 # the network, neuron by neuron
# sparelu predict runs/table new.csv      # raw rows in, original units out
# sparelu certify runs/table              # what may be claimed, and what is taken on trust
# ```
#
# `runs/table/report.html` has all of it on one page. [Choosing the budget](../tuning.md) says how `--path` and
# `sparelu tune` do what was done by hand above.
