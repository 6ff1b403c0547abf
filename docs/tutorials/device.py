# %% [markdown]
# # The smallest network that does the job
#
# You have to read digits on a device with a few kilobytes, and to answer for it: how small can the network be, what
# does it cost in flash and time, does the device compute the same, and what can be said of rows nobody has seen?

# %%
import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)

# %% [markdown]
# ## What a budget buys
#
# Each row is a network with exactly that many weights, written as C99 without dependencies. The footprint is counted
# on the tables that are written: values, and the inputs that they read. (`least` asks for a quarter of the usual
# steps, since this page is run whenever the site is built.)

# %%
from sparelu import SparseReLUClassifier
from sparelu.export import to_c

folder = Path(tempfile.mkdtemp())
models = {}
for nonzeros in (100, 200, 400):
    model = SparseReLUClassifier("gmp", (30,), nonzeros=nonzeros, settings={"least": 1500}, random_state=0)
    model.fit(x_train, y_train)
    cost = to_c(model.network_, folder, f"digits_{nonzeros}", classes=model.classes_.tolist())
    models[nonzeros] = model
    print(
        f"{model.nnz_:4d} weights: {model.score(x_test, y_test):.1%} right, {cost.flash:5d} bytes of tables, "
        f"{cost.ram:4d} bytes of stack, {cost.multiply_adds:4d} multiply-adds"
    )

# %% [markdown]
# A dense network of 30 hidden neurons has 2220 weights. Which of these rows is enough is your decision; take the one
# of 200.
#
# ## Fewer neurons
#
# `compress` says the same with fewer neurons. It never looks at labels, and what it claims is the gap to the
# original.

# %%
from sparelu import Budget, Data, compressor
from sparelu.run import compress

model = models[200]
rows = Data(x_train[:200], y_train[:200], "classification")
smaller = compress(compressor("merge"), model.network_, Budget((30,)), rows)
print(f"{model.network_.compact().hidden} neurons live, {smaller.network.compact().hidden} after merging")
for certificate in smaller.certificates:
    print(f"{certificate.claim}: {certificate.value:.3g} {certificate.unit}")

# %% [markdown]
# ## Does the device compute the same?
#
# Compile the C code and run it on the test rows: the question is not whether the outputs are equal to the last bit
# (the device has float32), but whether any label differs.

# %%
if shutil.which("cc"):
    library = folder / "digits.so"
    subprocess.run(["cc", "-std=c99", "-O2", "-shared", "-fPIC", folder / "digits_200.c", "-o", library], check=True)
    function = ctypes.CDLL(str(library)).digits_200_predict
    given, out = np.ascontiguousarray(x_test, dtype=np.float32), np.empty((len(x_test), 10), dtype=np.float32)
    for i in range(len(given)):
        function(ctypes.c_void_p(given[i].ctypes.data), ctypes.c_void_p(out[i].ctypes.data))
    labels = model.classes_[out.argmax(axis=1)]
    gap = np.abs(out - model.network_(x_test).numpy()).max()
    differ = (labels != model.predict(x_test)).sum()
    print(f"{differ} of {len(labels)} labels differ; outputs differ by {gap:.1e} at most")
else:
    print("no C compiler here")

# %% [markdown]
# ## What may be claimed
#
# A certificate is a claim with its value, and each of its assumptions as *checked*, *violated* or *taken on trust*.
# It is
# *vacuous* when its value says nothing, and then says so. Ask all that apply:

# %%
from sparelu import METHODS, Certifier, Refusal
from sparelu.run import certify

for method in METHODS.values():
    if not issubclass(method, Certifier):
        continue
    try:
        certificate = certify(method(), model.network_, rows)
    except Refusal as reason:
        print(f"- {reason}")
        continue
    word = "vacuous" if certificate.vacuous else "holds" if certificate.holds else "does not hold"
    print(f"{method.name}: {certificate.claim}: {certificate.value:.4g} {certificate.unit} ({word})")
    for assumption in certificate.assumptions:
        print(f"    {assumption.state}: {assumption.text}")

# %% [markdown]
# What each of them proves, with its derivation, is in [What certificates prove](../certificates.md). From the command
# line the same is `sparelu fit`, `compress`, `export --format c` and `certify` on one run folder; for images with
# convolutions see [Images](../training.md).
