"""The command ``compress``: fewer neurons for a finished run, with the curve of what is lost against their number."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from sparelu import catalogue
from sparelu.cli.certify_export import data_of, print_claims
from sparelu.cli.session import Bar, console
from sparelu.compress.shallow import KERNELS
from sparelu.data import Budget, Split
from sparelu.experiments.figures.curves import save_figure
from sparelu.experiments.formatting import score as worded
from sparelu.experiments.formatting import size
from sparelu.experiments.report.compression_curve import CompressionCurve, Width, gap_and_variance, share, width_figure
from sparelu.experiments.trials.run_folder import DATA, RunFolder
from sparelu.experiments.trials.trial import Evaluated, evaluate_solution, score_name
from sparelu.experiments.write_run import write_result
from sparelu.method import Compressor, Refusal, SettingError
from sparelu.outcome import Solution
from sparelu.run import compress

PICTURE = "error-against-neurons"
FINE = 0.1
"""The width that a tolerance asks for is sought to this share of itself."""


@dataclass(frozen=True, eq=False)
class _Search:
    """Compresses one solution to the hidden widths that are asked, each once."""

    compressor: Compressor
    solution: Solution
    before: Evaluated
    split: Split
    seed: int
    found: dict[tuple[int, ...], Evaluated]

    def at(self, hidden: tuple[int, ...]) -> Evaluated:
        """Return the network of at most these widths, judged. Raises :class:`Refusal` as the method does."""
        if hidden not in self.found:
            small = compress(self.compressor, self.solution.network, Budget(hidden), self.split.train, seed=self.seed)
            self.found[hidden] = evaluate_solution(_with_names(small, self.solution), self.split)
        return self.found[hidden]

    def within(self, m: int, tolerance: float) -> bool:
        """Say whether ``m`` neurons keep the training score."""
        try:
            return self.before.train.score - self.at((m,)).train.score <= tolerance
        except Refusal:
            return False


def compress_command(
    run: Path,
    neurons: str | None,
    wanted: tuple[int, ...] | None,
    tolerance: float | None,
    method: str,
    settings: Mapping[str, Any],
    out: Path | None,
) -> None:
    """Write a run of fewer neurons: those ``wanted``, or the fewest tried that lose at most ``tolerance``.

    ``neurons`` is ``wanted`` as it was asked; what may be lost is training score.
    """
    solution, request, _ = RunFolder(run).read()
    trial, split = data_of(request)
    how = {"method": method, "settings": dict(settings), "neurons": neurons, "tolerance": tolerance}
    whole = {**request, "compressed": {"from": str(run), **how}}
    held = {**whole, DATA: split.digest}
    if out is not None:
        RunFolder(out).check(held, resume=True)
    compressor = catalogue.compressor(method, **settings)
    search = _Search(compressor, solution, evaluate_solution(solution, split), split, trial.seed, {})
    chosen = _searched(search, wanted, tolerance)
    folder = RunFolder(out or _beside(run, _neurons(chosen)))
    curve = _curve(search, chosen, tolerance)
    with folder.opened(held, resume=True):  # the same again gives the same, so one that was stopped runs again
        write_result(folder, chosen.solution, whole, _result(search, chosen, curve))
        picture, _ = save_figure(width_figure(curve), folder.path / PICTURE)
    console.print(_table(search, chosen, curve))
    print_claims(chosen.solution.certificates)
    console.print(f"Written to {folder.path}; the curve is {picture}.", highlight=False, soft_wrap=True)


def _beside(run: Path, neurons: int) -> Path:
    """Return the folder of the smaller network, beside that of the run, which may be ``.`` or end in ``..``."""
    named = run if run.name not in ("", "..") else Path(os.path.abspath(run))
    return named.with_name(f"{named.name}-{neurons}-neurons")


def _searched(search: _Search, wanted: tuple[int, ...] | None, tolerance: float | None) -> Evaluated:
    """Return the network that is asked for, with those of the error curve found on the way.

    The curve has the halvings of one hidden layer's width; those that the method refuses are left out of it.
    """
    hidden = search.before.solution.network.compact().hidden
    if wanted is None and len(hidden) != 1:
        raise SettingError(f"--tolerance is for one hidden layer, the network has {len(hidden)}: name --neurons")
    halves = [(hidden[0] >> i,) for i in range(hidden[0].bit_length() - 1, 0, -1)] if len(hidden) == 1 else []
    with Bar() as bar:
        for i, widths in enumerate(halves):
            bar.update(i / len(halves), f"{widths[0]} neurons")
            if widths != wanted:
                with contextlib.suppress(Refusal):
                    search.at(widths)
        if wanted is None and halves and not search.found:
            search.at(halves[-1])  # refused, and says why
        found = wanted if tolerance is None else (_fewest(search, hidden[0], tolerance, bar),)
        return search.at(found or hidden)


def _fewest(search: _Search, width: int, tolerance: float, bar: Bar) -> int:
    """Return the fewest neurons tried that keep the score, bisecting below them down to the next that do not."""
    tried = [hidden[0] for hidden in search.found]
    enough = min((m for m in tried if search.within(m, tolerance)), default=width)
    less = max((m for m in tried if m < enough), default=0)
    while enough - less > max(1, FINE * enough):
        middle = (enough + less) // 2
        bar.update(1.0, f"{middle} neurons")
        enough, less = (middle, less) if search.within(middle, tolerance) else (enough, middle)
    if enough == width:
        best = max((j.train.score for j in search.found.values()), default=search.before.train.score)
        raise SettingError(
            f"no width tried keeps the training score within {tolerance:g} of {search.before.train.score:.4f} "
            f"(best {best:.4f}): raise --tolerance, or name --neurons"
        )
    return enough


def _with_names(small: Solution, like: Solution) -> Solution:
    names = ("task", "classes", "names")
    about = {**like.about, **small.about}
    return replace(small, about=about, **{name: getattr(like, name) for name in names})


def _neurons(judged: Evaluated) -> int:
    return sum(judged.solution.network.compact().hidden)


def _curve(search: _Search, chosen: Evaluated, tolerance: float | None) -> CompressionCurve:
    """Return one width for each network found: those of equal neurons are one."""
    before = search.before
    name = score_name(search.solution.task)
    networks = {_neurons(j): j for _, j in sorted(search.found.items()) if j is not chosen} | {_neurons(chosen): chosen}
    widths = tuple(_width(m, judged, search, judged is chosen) for m, judged in sorted(networks.items()))
    return CompressionCurve(widths, _neurons(before), before.train.score, before.test.score, name, tolerance)


def _width(m: int, judged: Evaluated, search: _Search, chosen: bool) -> Width:
    original, small, split = search.solution.network, judged.solution.network, search.split
    exact = next((c.value for c in judged.solution.certificates if c.source == KERNELS), None)
    train, variance = gap_and_variance(original, small, split.train)
    return Width(
        neurons=m,
        population=None if exact is None else share(exact, variance),
        train=share(train, variance),
        test=share(*gap_and_variance(original, small, split.test)),
        train_score=judged.train.score,
        test_score=judged.test.score,
        chosen=chosen,
    )


def _result(search: _Search, chosen: Evaluated, curve: CompressionCurve) -> dict[str, Any]:
    found = [j for _, j in sorted(search.found.items())]
    rows = [{**j.row(), "chosen": j is chosen} for j in found]
    rows.append({**search.before.row(), "label": "original", "chosen": False})
    told = {"why": "", "rows": rows, "mean_image": None, "widths": asdict(curve), DATA: search.split.digest}
    return {**chosen.result(), **told}


def _table(search: _Search, chosen: Evaluated, curve: CompressionCurve) -> Table:
    table = Table(title="Fewer neurons", title_justify="left")
    for heading in ("", "neurons", "nonzeros", "variance lost", "training", f"test {curve.score_name}", "stored"):
        table.add_column(heading, justify="right" if heading else "left")
    by_neurons = {w.neurons: w for w in curve.widths}
    ordered = sorted(search.found.items(), reverse=True)
    for judged, mark in [(search.before, "original"), *((j, "chosen" if j is chosen else "") for _, j in ordered)]:
        width = by_neurons.get(_neurons(judged)) if judged is not search.before else None
        table.add_row(
            mark, str(_neurons(judged)), f"{judged.test.nonzeros:,}", "" if width is None else f"{width.test:.3g}",
            worded(judged.train.score, curve.score_name), worded(judged.test.score, curve.score_name),
            size(judged.row()["stored_bytes"]))  # fmt: skip
    return table
