"""The commands that say what a finished run is worth and take it elsewhere: ``certify``, ``export``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from sparelu import catalogue
from sparelu.cli import flags
from sparelu.cli.outputs import check_output, remove_written, write_files
from sparelu.cli.session import console, errors
from sparelu.data import Data, DataError, Split
from sparelu.digest import changed
from sparelu.experiments.formatting import size
from sparelu.experiments.trials.run_folder import DATA, RunFolder
from sparelu.experiments.trials.trial import Trial
from sparelu.experiments.write_run import write_result
from sparelu.json_form import dumps
from sparelu.method import Certifier
from sparelu.outcome import Certificate, Solution
from sparelu.run import certify


def data_of(request: dict[str, Any]) -> tuple[Trial, Split]:
    """Read the data of a run again; its trial and they.

    Raises :class:`DataError` when they are not what was fitted, or the run asked a function and has none.
    """
    if "oracle" in request:
        raise DataError(f"the run asked {request['oracle']} and has no data, which this needs: sparelu show prints it")
    trial = Trial.of(request)
    split = trial.split()
    kept = request.get(DATA)
    if kept is not None and kept != split.digest:
        raise DataError(f"{changed(trial.data, kept, split.digest)}: fit the new data, or put the old data back")
    if kept is None and not trial.has_known_data:
        errors.print("the run was made before its data were identified: whether they are the same is not known")
    return trial, split


def certify_command(run: Path, method: str | None, extra: Sequence[str], as_json: bool) -> None:
    """Print what is proved of a run's network, keep it with the run, and write its report anew."""
    names = [n for n, m in catalogue.METHODS.items() if issubclass(m, Certifier)] if method is None else [method]
    certifiers = {n: catalogue.certifier(n, **flags.method_settings(extra, flags.named_method(n))) for n in names}
    folder = RunFolder(run)
    with folder.held():
        solution, request, result = folder.read()
        claims, refused = _claims(certifiers, solution, data_of(request)[1].train)
        sources = {(c.claim, c.source) for c in claims}
        kept = [c for c in solution.certificates if (c.claim, c.source) not in sources]
        write_result(folder, replace(solution, certificates=(*kept, *claims)), request, result)
    if as_json:
        print(dumps({"claims": [_plain(c) for c in (*kept, *claims)], "refused": refused}, indent=1))
        return
    print_claims((*kept, *claims))
    for name, reason in refused.items():
        console.print(f"{name} says nothing: {reason}", highlight=False)


def _claims(
    certifiers: dict[str, Certifier], solution: Solution, data: Data
) -> tuple[list[Certificate], dict[str, str]]:
    """Return what is certified, and why each of the others says nothing."""
    claims, refused = [], {}
    for name, certifier in certifiers.items():
        reason = certifier.refuses(solution.network, data)
        if reason is None:
            claims.append(certify(certifier, solution.network, data, seed=solution.seed))
        else:
            refused[name] = reason
    return claims, refused


def _plain(claim: Certificate) -> dict[str, Any]:
    assumptions = [vars(a) for a in claim.assumptions]
    return {**vars(claim), "assumptions": assumptions, "holds": claim.holds}


def print_claims(claims: Sequence[Certificate]) -> None:
    """Print a table of claims, values and assumptions."""
    table = Table(title="What may be claimed", title_justify="left")
    for heading in ("claim", "value", "assumptions"):
        table.add_column(heading)
    for c in claims:
        worth = (
            f"{c.value:.4g} {c.unit}" + (" (vacuous)" if c.vacuous else "") + ("" if c.holds else " (does not hold)")
        )
        words = "\n".join(f"{a.state}: {a.text}" + (f" ({a.evidence})" if a.evidence else "") for a in c.assumptions)
        table.add_row(c.claim, worth, words)
    console.print(table if claims else "Nothing is claimed of this network.")


Exported = tuple[dict[str, bytes], str]
"""Files by name, and what they take in words."""


def export_command(run: Path, kind: str, out: Path | None, name: str, force: bool) -> None:
    """Write the network for other programs, and say what it takes."""
    solution, _, _ = RunFolder(run).read()
    where = out or run / "export"
    content, words = _exporters()[kind](solution, name)
    files = {where / file: text for file, text in content.items()}
    for path in files:
        check_output(path, run, (), force)
    if kind == "numpy":
        remove_written(set(where.glob("layer*.npz")) | {where / "skip.npz"}, run)
    write_files(files, run)
    console.print(f"{', '.join(map(str, files))}: {words}", highlight=False, soft_wrap=True)


def _exporters() -> dict[str, Callable[[Solution, str], Exported]]:
    plain = {"onnx": _onnx, "onnx-sparse": _onnx_sparse, "c": _c, "numpy": _numpy}
    return {**plain, "python": _python, "sql": _sql, "spreadsheet": _spreadsheet}


def _onnx(solution: Solution, name: str, sparse: bool = False) -> Exported:
    from sparelu.export.onnx import onnx_model

    content = onnx_model(solution.network, sparse, names=solution.names, classes=solution.classes)
    return {f"{name}.onnx": content}, size(len(content))


def _onnx_sparse(solution: Solution, name: str) -> Exported:
    return _onnx(solution, name, sparse=True)


def _c(solution: Solution, name: str) -> Exported:
    from sparelu.export.c import c_files

    files, cost = c_files(solution.network, name, names=solution.names, classes=solution.classes)
    return files, (
        f"{size(cost.flash)} of tables in flash, {size(cost.ram)} of RAM, {cost.multiply_adds:,} multiply-adds and "
        f"{cost.comparisons:,} comparisons a row"
    )


def _numpy(solution: Solution, name: str) -> Exported:
    from sparelu.export.arrays import npz_files

    files = npz_files(solution.network)
    return files, f"{size(sum(map(len, files.values())))} that scipy.sparse.load_npz opens"


def _python(solution: Solution, name: str) -> Exported:
    from sparelu.export.formulas import python_function

    return {f"{name}.py": python_function(solution, name).encode()}, f"{name}(row) predicts a row of raw columns"


def _sql(solution: Solution, name: str) -> Exported:
    from sparelu.export.formulas import sql_query

    return {f"{name}.sql": sql_query(solution).encode()}, "a query of the table data, whose columns are the raw ones"


def _spreadsheet(solution: Solution, name: str) -> Exported:
    from sparelu.export.formulas import spreadsheet

    return {f"{name}.csv": spreadsheet(solution).encode()}, "fill in the second row; its last cells are the predictions"
