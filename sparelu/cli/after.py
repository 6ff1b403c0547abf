"""The commands that take a finished run further: ``compress``, ``certify``, ``export``."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from sparelu import catalogue
from sparelu.cli import flags
from sparelu.cli.session import Bar, console, size
from sparelu.data import Budget, Split
from sparelu.experiments.finish import report
from sparelu.experiments.folder import RunFolder
from sparelu.experiments.trial import Judged, Trial, judge
from sparelu.method import Certifier, SettingError, nearest
from sparelu.outcome import Certificate, Solution
from sparelu.run import certify, compress

FORMATS = ("onnx", "onnx-sparse", "c", "numpy")


def compress_command(
    run: Path, neurons: int | None, tolerance: float | None, method: str, extra: Sequence[str], out: Path | None
) -> None:
    """Fewer neurons: as many as asked, or the fewest of the curve whose test score loses at most ``tolerance``."""
    if (neurons is None) == (tolerance is None):
        raise SettingError("give one of --neurons and --tolerance")
    solution, request, _ = RunFolder(run).read()
    trial, split = _data_of(request)
    compressor = catalogue.compressor(method, **flags.method_settings(extra, flags.named_method(method)))
    width = solution.network.compact().hidden[0]
    asked = _widths(width, neurons)
    before = judge(solution, split)
    found: list[Judged] = []
    with Bar(total=len(asked)) as bar:
        for i, m in enumerate(asked):
            bar.update(i, f"{m} neurons")
            small = compress(compressor, solution.network, Budget((m,)), split.train, seed=trial.seed)
            found.append(judge(_with_names(small, solution), split))
    chosen = _pick(found, before, neurons, tolerance)
    folder = RunFolder(out or run.with_name(f"{run.name}-{chosen.solution.network.compact().hidden[0]}-neurons"))
    rows = [{**j.row(), "label": f"{_neurons(j)} neurons", "chosen": j is chosen} for j in found]
    rows.append({**before.row(), "label": "original", "chosen": False})
    whole = {**request, "compressed": {"from": str(run), "method": method, "neurons": neurons, "tolerance": tolerance}}
    with folder.opened(whole, resume=False):
        folder.write(chosen.solution, {**chosen.result(), "why": "", "rows": rows, "mean_image": None})
        report(folder)
    console.print(_curve(found, before, chosen))
    _print_claims(chosen.solution.certificates)
    console.print(f"Written to {folder.path}.", highlight=False, soft_wrap=True)


def _data_of(request: dict[str, Any]) -> tuple[Trial, Split]:
    """The trial of a run and its data, read again."""
    trial = Trial.of(request)
    return trial, trial.split()


def _widths(width: int, neurons: int | None) -> list[int]:
    """The widths of the error curve: halvings of the width, and the one asked for."""
    halves = [width >> i for i in range(1, width.bit_length())]
    return sorted({*halves, *([neurons] if neurons is not None else [])} - {0})


def _with_names(small: Solution, like: Solution) -> Solution:
    names = ("task", "classes", "names")
    about = {**like.about, **small.about}
    return replace(small, about=about, **{name: getattr(like, name) for name in names})


def _pick(found: Sequence[Judged], before: Judged, neurons: int | None, tolerance: float | None) -> Judged:
    if neurons is not None:
        return min(found, key=lambda j: abs(j.solution.budget.hidden[0] - neurons))
    kept = [j for j in found if before.train.score - j.train.score <= (tolerance or 0.0)]
    if not kept:
        best = max(j.train.score for j in found)
        raise SettingError(
            f"no width tried keeps the training score within {tolerance:g} of {before.train.score:.4f} "
            f"(best {best:.4f}): raise --tolerance, or name --neurons"
        )
    return min(kept, key=_neurons)


def _neurons(judged: Judged) -> int:
    return judged.solution.network.compact().hidden[0]


def _curve(found: Sequence[Judged], before: Judged, chosen: Judged) -> Table:
    table = Table(title="Fewer neurons", title_justify="left")
    for heading in ("", "neurons", "nonzeros", "training score", "test score", "stored"):
        table.add_column(heading, justify="right" if heading else "left")
    for judged, mark in [(before, "original"), *((j, "chosen" if j is chosen else "") for j in reversed(found))]:
        table.add_row(
            mark, str(_neurons(judged)), f"{judged.test.nonzeros:,}", f"{judged.train.score:.4f}",
            f"{judged.test.score:.4f}", size(judged.row()["stored_bytes"]))  # fmt: skip
    return table


def certify_command(run: Path, method: str | None, extra: Sequence[str], as_json: bool) -> None:
    """Print what is proved of a run's network, keep it with the run, and write its report anew."""
    folder = RunFolder(run)
    solution, request, result = folder.read()
    names = [n for n, m in catalogue.METHODS.items() if issubclass(m, Certifier)] if method is None else [method]
    _, split = _data_of(request)
    claims, refused = [], {}
    for name in names:
        certifier = catalogue.certifier(name, **flags.method_settings(extra, flags.named_method(name)))
        reason = certifier.refuses(solution.network, split.train)
        if reason is None:
            claims.append(certify(certifier, solution.network, split.train, seed=solution.seed))
        else:
            refused[name] = reason
    sources = {(c.claim, c.source) for c in claims}
    kept = [c for c in solution.certificates if (c.claim, c.source) not in sources]
    folder.write(replace(solution, certificates=(*kept, *claims)), result)
    report(folder)
    if as_json:
        print(json.dumps({"claims": [_plain(c) for c in (*kept, *claims)], "refused": refused}, indent=1))
        return
    _print_claims((*kept, *claims))
    for name, reason in refused.items():
        console.print(f"{name} says nothing: {reason}", highlight=False)


def _plain(claim: Certificate) -> dict[str, Any]:
    assumptions = [vars(a) for a in claim.assumptions]
    return {**vars(claim), "assumptions": assumptions, "holds": claim.holds}


def _print_claims(claims: Sequence[Certificate]) -> None:
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


def export_command(run: Path, kind: str, out: Path | None, name: str) -> None:
    """Write the network for other programs, and say what it takes."""
    solution, _, _ = RunFolder(run).read()
    if kind not in FORMATS:
        raise SettingError(f"there is no format {kind!r}; {nearest(kind, FORMATS)}")
    where = out or run / "export"
    where.mkdir(parents=True, exist_ok=True)
    console.print(_writers()[kind](solution, where, name), highlight=False, soft_wrap=True)


def _writers() -> dict[str, Callable[[Solution, Path, str], str]]:
    return {"onnx": _onnx, "onnx-sparse": _onnx_sparse, "c": _c, "numpy": _numpy}


def _onnx(solution: Solution, where: Path, name: str, sparse: bool = False) -> str:
    from sparelu.export.onnx import to_onnx

    path = where / f"{name}.onnx"
    written = to_onnx(solution.network, path, sparse, names=solution.names, classes=solution.classes)
    return f"{path}: {size(written)}"


def _onnx_sparse(solution: Solution, where: Path, name: str) -> str:
    return _onnx(solution, where, name, sparse=True)


def _c(solution: Solution, where: Path, name: str) -> str:
    from sparelu.export.c import to_c

    cost = to_c(solution.network, where, name, names=solution.names, classes=solution.classes)
    return (
        f"{where / name}.h and .c: {size(cost.flash)} of tables in flash, {size(cost.ram)} of RAM, "
        f"{cost.multiply_adds:,} multiply-adds and {cost.comparisons:,} comparisons a row"
    )


def _numpy(solution: Solution, where: Path, name: str) -> str:
    from sparelu.export.arrays import to_numpy

    return f"{where}: {size(to_numpy(solution.network, where))} in .npz files that scipy.sparse.load_npz opens"
