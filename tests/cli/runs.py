"""Finished runs for tests of the commands that read one, written without a fit."""

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

from sparelu.cli.__main__ import app
from sparelu.data import Budget
from sparelu.experiments.trials.run_folder import RunFolder
from sparelu.networks.network import Network
from sparelu.outcome import Solution, Status

RESULT = {
    **{"score_name": "accuracy", "split": "none", "why": "", "test": {"score": 1.0, "rows": 1}},
}


def invoke(*arguments: str) -> Result:
    """Run a command in this process; result with exit_code, stdout and stderr."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def sign_run(
    path: Path,
    names: tuple[str, ...],
    classes: tuple[str, ...] = ("no", "yes"),
    target: str = "kind",
    data: str = "d.csv",
) -> Path:
    """Write a run whose model says the second class exactly where the first input is positive."""
    network = Network.two_layer(np.eye(1, len(names)), np.array([2.0]))
    about = {"target": target, "data": data}
    solution = Solution(
        network, Status.converged, "toy", {}, Budget((1,)), 0, True, task="classification", classes=classes,
        names=names, about=about,
    )  # fmt: skip
    run = RunFolder(path)
    path.mkdir()
    (path / "request.json").write_text(json.dumps({"data": data}))
    row = {**dict.fromkeys(("peak_memory", "stored_bytes"), 1), "score": 1.0, "seconds": 0.0, "chosen": True}
    run.write(solution, {**RESULT, "rows": [{**row, "nonzeros": network.nonzeros}]})
    return path
