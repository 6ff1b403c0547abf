"""What was written before must be found and read again: addresses of results, run folders, model files.

``result_keys.json`` and ``run`` were written by commit 9af9551, before the folders were laid out anew. A change of
``result_keys.json`` means that hours of kept rows are lost: add a benchmark's line when it is new, never change one.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sparelu import store
from sparelu.experiments.benchmarks.benchmark import Benchmark
from sparelu.experiments.sweeps.sweep import trial_key
from sparelu.experiments.trials.run_folder import RunFolder
from sparelu.experiments.trials.trial import Trial
from tests.test_benchmarks import EVERY, NAMES

HERE = Path(__file__).parent
KEYS = json.loads((HERE / "result_keys.json").read_text())


def _digest(tasks) -> str:
    return hashlib.sha256("".join(sorted(trial_key(t) for t in tasks)).encode()).hexdigest()[:16]


@pytest.mark.parametrize("benchmark", EVERY, ids=NAMES)
def test_no_address_of_a_benchmark_moved(benchmark: Benchmark) -> None:
    if benchmark.name not in KEYS:
        pytest.skip("newer than the golden file")
    found = {"full": _digest(benchmark.full), "quick": _digest(benchmark.quick), "tasks": len(benchmark.full)}
    assert found == KEYS[benchmark.name]


def test_every_golden_benchmark_is_still_there() -> None:
    assert set(KEYS) <= set(NAMES)


def test_addresses_of_fits_are_literal() -> None:
    """The addresses themselves, so that a change of the digest alone is seen too."""
    plain = Trial(data="digits", method="gmp", hidden=(12,), nonzeros=60)
    assert trial_key(plain) == "fdb914fcbcf5380e"


def test_an_old_run_folder_opens_and_predicts() -> None:
    solution, request, result = RunFolder(HERE / "run").read()
    assert request == {"data": "digits", "method": "gmp", "hidden": [12], "nonzeros": 60}
    assert solution.network.nonzeros == 60 == result["nonzeros"]
    x, y = load_digits(return_X_y=True)
    assert np.mean(solution.predict(x) == y) > 0.8


def test_an_old_model_is_written_again_with_the_same_weights(tmp_path: Path) -> None:
    old = store.load(HERE / "run" / "model.safetensors")
    store.save(old, tmp_path / "again")
    again = store.load(tmp_path / "again")
    for a, b in zip(old.network.layers, again.network.layers, strict=True):
        assert a.values.equal(b.values)
        assert a.indices.equal(b.indices)
