"""A classifier of digits as C, ONNX and NumPy files, and what each costs.

Run: python examples/put_it_on_a_device.py [FOLDER]
"""

import ctypes
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sparelu.estimators import SparseReLUClassifier
from sparelu.export import to_c, to_numpy, to_onnx


def compiled(folder: Path, rows: np.ndarray, outputs: int) -> np.ndarray:
    """Outputs (n, outputs) of the C code for ``rows`` (n, inputs)."""
    library = folder / "digits.so"
    subprocess.run(["cc", "-std=c99", "-O2", "-shared", "-fPIC", folder / "digits.c", "-o", library], check=True)
    predict = ctypes.CDLL(str(library)).digits_predict
    x, out = np.ascontiguousarray(rows, dtype=np.float32), np.empty((len(rows), outputs), dtype=np.float32)
    for i in range(len(x)):
        predict(ctypes.c_void_p(x[i].ctypes.data), ctypes.c_void_p(out[i].ctypes.data))
    return out


def main(folder: Path) -> None:
    """Fit, write all formats, and run the C code on the test rows where there is a compiler."""
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    model = SparseReLUClassifier(hidden=(50,), nonzeros=300, random_state=0).fit(x_train, y_train)
    print(f"{model.nnz_} nonzeros, test accuracy {model.score(x_test, y_test):.3f}")
    classes = model.classes_.tolist()
    cost = to_c(model.network_, folder, "digits", classes=classes)
    print(f"C: {cost.flash} bytes of tables, {cost.ram} bytes of stack, {cost.multiply_adds} multiply-adds")
    for sparse in (False, True):
        size = to_onnx(model.network_, folder / f"digits_{sparse}.onnx", sparse, classes=classes)
        print(f"ONNX, {'sparse' if sparse else 'dense'} initialisers: {size} bytes")
    print(f"NumPy: {to_numpy(model.network_, folder)} bytes")
    if shutil.which("cc"):
        labels = model.classes_[compiled(folder, x_test, len(classes)).argmax(axis=1)]
        print(f"the C code agrees on {(labels == model.predict(x_test)).mean():.1%} of rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
