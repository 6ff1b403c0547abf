"""What a finished run leaves in its folder: the model, the measurements, and the report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from bokeh.plotting import figure

from sparelu.data import Split
from sparelu.experiments.effects import effects_of
from sparelu.experiments.errors import errors_of, simple_models
from sparelu.experiments.report.compression_curve import CompressionCurve
from sparelu.experiments.report.function_chart import drawn_rows, function_chart
from sparelu.experiments.report.live_network import input_namer
from sparelu.experiments.report.run_report import CrossValidation, Point, write_report
from sparelu.experiments.trials.one_standard_error import Validated
from sparelu.experiments.trials.run_folder import DATA, RunFolder
from sparelu.experiments.trials.trial import Evaluated
from sparelu.outcome import Solution

LISTED = 100_000
"""Test rows whose numbers a result lists, at most: they are fixed by the seed, and a million take 200 MB to read."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


def write_run(
    folder: RunFolder,
    evaluated: Evaluated,
    rows: Sequence[Mapping[str, Any]],
    split: Split,
    request: Mapping[str, Any],
    notes: Mapping[str, Any] = NOTHING,
) -> None:
    """Write model, measurements and report of ``request``, and delete the checkpoint.

    ``rows`` are the networks on the curve, as :meth:`~sparelu.experiments.trials.trial.Evaluated.row` with ``chosen``
    and, where there is one, ``label``; ``notes`` are added to the result.
    """
    result = {**evaluated.result(), **notes, "rows": list(rows), "mean_image": _mean_image(split), DATA: split.digest}
    if split.scored == "training":
        result["score_name"] = f"training {result['score_name']}"
    if (drawn := drawn_rows(split.train)) is not None:
        result["drawn_rows"] = drawn
    if split.train.ranks.size == 1:
        result |= _found(evaluated.solution, split)
    if split.test_rows is not None and len(split.test_rows) <= LISTED:
        result["test_rows"] = split.test_rows.tolist()
    write_result(folder, evaluated.solution, request, result)
    folder.checkpoint.unlink(missing_ok=True)


def _found(solution: Solution, split: Split) -> dict[str, Any]:
    """Return what the report says of errors, of simple models and, but of images, of the columns."""
    effects = effects_of(solution, split) if split.train.image is None else []
    return {"errors": errors_of(solution, split), "simple": simple_models(split), "effects": effects}


def _mean_image(split: Split) -> list[float] | None:
    return None if split.train.image is None else split.train.statistics.mean.tolist()


def write_result(folder: RunFolder, solution: Solution, request: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write a solution and what was measured of it, and their report, made of what is at hand."""
    size = folder.write(solution, result)
    here = replace(solution, network=solution.network.to(device="cpu"))
    _write_report(folder, here, request, {**result, "stored_bytes": size})


def rewrite_report(folder: RunFolder, beside: Sequence[RunFolder] = ()) -> None:
    """Write the report of a finished run; a function of one input is drawn with those of the runs ``beside`` it.

    Raises ``ValueError`` when runs are to be drawn beside one that is not of one input and one target, and for a run
    that asked a function, which has no report.
    """
    solution, request, result = folder.read()
    if "oracle" in request:
        raise ValueError(f"{folder.path} asked a function and has no scores to report: sparelu show prints it")
    _write_report(folder, solution, request, result, beside)


def _write_report(
    folder: RunFolder,
    solution: Solution,
    request: Mapping[str, Any],
    result: Mapping[str, Any],
    beside: Sequence[RunFolder] = (),
) -> None:
    names = ("nonzeros", "score", "seconds", "peak_memory", "stored_bytes")
    points = [
        Point(**{name: row[name] for name in names}, label=row.get("label", ""), chosen=row["chosen"])
        for row in result["rows"]
    ]
    image = solution.about.get("image")
    mean = None if image is None or not result.get("mean_image") else np.reshape(result["mean_image"], image)
    why = {"method chosen because": result["why"]} if result["why"] else {}
    asked = {name: value for name, value in request.items() if name != DATA}
    extra = {"request": json.dumps(asked), **why}
    validation = None
    if "validation" in result:
        curve = tuple(Validated.of(row) for row in result["validation"])
        validation = CrossValidation(curve, result["folds"], result["select"], solution.task)
    write_report(
        folder.report,
        solution,
        points,
        result["score_name"],
        result["split"],
        mean_image=mean,
        extra=extra,
        validation=validation,
        function=_function(folder, solution, result.get("drawn_rows"), beside),
        widths=None if "widths" not in result else CompressionCurve.of(result["widths"]),
        found={name: result[name] for name in ("errors", "simple", "effects") if result.get(name)},
    )


def _function(
    folder: RunFolder, solution: Solution, rows: list[list[float]] | None, beside: Sequence[RunFolder]
) -> figure | None:
    read = [(other.read()[0], other.path.name) for other in beside]
    others = {f"{found.method} ({name})": found.network for found, name in read}
    alike = [net.inputs == 1 and net.outputs == 1 for net in others.values()]
    if beside and not (rows is not None and all(alike)):
        raise ValueError(f"{folder.path} cannot be drawn beside others: each run needs one input and one target")
    if rows is None:
        return None
    names = input_namer(solution)(0), solution.about.get("target", "y")
    return function_chart(solution.network, rows, names, others)
