"""Oracles of what people have: networks, torch modules, ONNX files, C libraries, estimators and commands."""

import ctypes
import io
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparelu.networks.network import Network
from sparelu.oracle import Oracle, OracleError
from sparelu.store import load

WORDS = 400
"""Characters of what a command says on its error stream that are passed on."""


def ask_network(network: Network, **options: Any) -> Oracle:
    """Return the oracle of ``network``, evaluated in float64."""
    exact = network.to(torch.float64, "cpu")
    return Oracle(exact, network.inputs, network.outputs, **options)


def ask_module(module: torch.nn.Module, inputs: int, outputs: int = 1, **options: Any) -> Oracle:
    """Return the oracle of a torch module in evaluation mode, in the dtype and on the device of its parameters."""
    like = next(module.parameters(), torch.zeros(0, dtype=torch.float64))

    def answer(x: np.ndarray) -> torch.Tensor:
        training = module.training
        module.eval()
        try:
            with torch.no_grad():
                found: torch.Tensor = module(torch.as_tensor(x).to(like))
                return found
        finally:
            module.train(training)

    return Oracle(answer, inputs, outputs, **options)


def ask_onnx(path: str | Path, **options: Any) -> Oracle:
    """Return the oracle of the first output of an ONNX file with one input of known width.

    Raises :class:`~sparelu.oracle.OracleError` when a width is not known, and ``ImportError`` without onnxruntime.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given, made = session.get_inputs()[0], session.get_outputs()[0]
    widths = given.shape[-1], 1 if len(made.shape) == 1 else made.shape[-1]
    if not all(isinstance(width, int) for width in widths):
        raise OracleError(f"{path}: the widths {widths} of its input and output are not fixed: export it with numbers")
    kind = {"tensor(float)": np.float32, "tensor(double)": np.float64}.get(given.type)
    if kind is None:
        raise OracleError(f"{path}: its input is {given.type}, wanted numbers of float32 or float64")
    return Oracle(
        lambda x: session.run([made.name], {given.name: x.astype(kind)})[0],
        widths[0],
        widths[1],
        **{"name": Path(path).name, **options},
    )


def ask_c(
    library: str | Path, inputs: int, outputs: int = 1, symbol: str = "network_predict", **options: Any
) -> Oracle:
    """Return the oracle of ``void symbol(const float *x, float *out)`` in a shared library, as ``to_c`` writes it.

    Raises :class:`~sparelu.oracle.OracleError` when the library or the function is missing.
    """
    pointer = ctypes.POINTER(ctypes.c_float)
    try:
        predict = getattr(ctypes.CDLL(str(Path(library).resolve())), symbol)
    except (OSError, AttributeError) as error:
        raise OracleError(f"{library}: {error}; compile with cc -shared -fPIC, and name the function") from None
    predict.argtypes, predict.restype = (pointer, pointer), None

    def answer(x: np.ndarray) -> np.ndarray:
        rows, out = np.ascontiguousarray(x, np.float32), np.zeros((len(x), outputs), np.float32)
        for row, place in zip(rows, out, strict=True):
            predict(row.ctypes.data_as(pointer), place.ctypes.data_as(pointer))
        return out

    return Oracle(answer, inputs, outputs, **{"name": Path(library).name, **options})


def ask_estimator(model: Any, **options: Any) -> Oracle:
    """Return the oracle of ``predict`` of a fitted scikit-learn regressor."""
    inputs = int(model.n_features_in_)
    outputs = int(np.asarray(model.predict(np.zeros((1, inputs)))).size)
    return Oracle(model.predict, inputs, outputs, **{"name": type(model).__name__, **options})


def ask_command(command: str | Sequence[str], inputs: int, outputs: int = 1, **options: Any) -> Oracle:
    """Return the oracle of a program that reads rows of comma-separated numbers and prints one line of numbers a row.

    It is started once a batch, and not through a shell. Its numbers are read as they are printed: print 17 digits.
    """
    words = shlex.split(command) if isinstance(command, str) else list(command)

    def answer(x: np.ndarray) -> np.ndarray:
        text = "\n".join(",".join(map(repr, row)) for row in x.tolist()) + "\n"
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"{words[0]} ended with code {done.returncode}: {done.stderr.strip()[-WORDS:]}")
        return _numbers(done.stdout, words[0])

    return Oracle(answer, inputs, outputs, **{"name": words[0], **options})


def _numbers(text: str, name: str) -> np.ndarray:
    """Read lines of numbers separated by commas or blanks; lines of whole numbers alone come back as integers."""
    body = text.replace(",", " ")
    try:
        found = np.loadtxt(io.StringIO(body), ndmin=2)
    except ValueError:
        raise OSError(f"{name} printed {text[:60]!r}, wanted a line of numbers for each row") from None
    whole = not any(mark in body.lower() for mark in (".", "e", "n"))
    return found.astype(np.int64) if whole else found


def ask_solution(path: str | Path, **options: Any) -> Oracle:
    """Return the oracle of a model file of sparelu, or of a run folder, in float64."""
    where = Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)
    solution = load(where)
    return ask_network(solution.network, **{"name": str(path), "names": solution.names, **options})


def open_oracle(source: str, inputs: int | None, outputs: int, **options: Any) -> Oracle:
    """Return the oracle that a text of the command line names.

    A path that ends in ``.onnx``, a shared library (``.so``, ``.dylib``, ``.dll``, with ``:function`` after it), a run
    folder or model file; anything else is a command. Raises :class:`~sparelu.oracle.OracleError` where the number of
    inputs must be told and is not.
    """
    path, _, symbol = source.partition(":")
    ending = Path(path).suffix
    if ending == ".onnx":
        return ask_onnx(path, **options)
    if Path(path).is_dir() or ending == ".safetensors":
        return ask_solution(path, **options)
    if inputs is None:
        raise OracleError(f"{source!r} does not say how many inputs it reads: give --inputs")
    if ending in (".so", ".dylib", ".dll"):
        return ask_c(path, inputs, outputs, **({"symbol": symbol} if symbol else {}), **options)
    return ask_command(source, inputs, outputs, **options)
