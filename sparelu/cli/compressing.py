"""The command ``compress``: fewer neurons for a finished run, with the curve of what is lost against their number."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from sparelu import catalogue
from sparelu.cli import flags
from sparelu.cli.after import data_of, print_claims
from sparelu.cli.session import Bar, console, size
from sparelu.compress.shallow import KERNELS
from sparelu.data import Budget, Split
from sparelu.experiments.figures import save
from sparelu.experiments.finish import report
from sparelu.experiments.folder import RunFolder
from sparelu.experiments.report_text import score as worded
from sparelu.experiments.trial import Judged, judge, score_name
from sparelu.experiments.widths import Curve, Width, gap_and_variance, share, width_figure
from sparelu.method import Compressor, SettingError
from sparelu.outcome import Solution
from sparelu.run import compress

PICTURE = "error-against-neurons"
FINE = 0.1
"""The width that a tolerance asks for is sought to this share of itself."""


@dataclass(frozen=True, eq=False)
class _Search:
    """Compresses one solution to the widths that are asked, each once."""

    compressor: Compressor
    solution: Solution
    before: Judged
    split: Split
    seed: int
    found: dict[int, Judged]

    def at(self, m: int) -> Judged:
        """The network of at most ``m`` neurons, judged."""
        if m not in self.found:
            small = compress(self.compressor, self.solution.network, Budget((m,)), self.split.train, seed=self.seed)
            self.found[m] = judge(_with_names(small, self.solution), self.split)
        return self.found[m]

    def within(self, m: int, tolerance: float) -> bool:
        """Whether ``m`` neurons keep the training score."""
        return self.before.train.score - self.at(m).train.score <= tolerance


def compress_command(
    run: Path, neurons: int | None, tolerance: float | None, method: str, extra: Sequence[str], out: Path | None
) -> None:
    """Fewer neurons: as many as asked, or the fewest tried whose training score loses at most ``tolerance``."""
    if (neurons is None) == (tolerance is None):
        raise SettingError("give one of --neurons and --tolerance")
    if neurons is not None and neurons < 1:
        raise SettingError(f"--neurons must be at least 1, got {neurons}")
    if tolerance is not None and not tolerance >= 0:
        raise SettingError(f"--tolerance must be at least 0, got {tolerance:g}")
    solution, request, _ = RunFolder(run).read()
    trial, split = data_of(request)
    compressor = catalogue.compressor(method, **flags.method_settings(extra, flags.named_method(method)))
    before = judge(solution, split)
    search = _Search(compressor, solution, before, split, trial.seed, {})
    width = solution.network.compact().hidden[0] if solution.network.hidden else 0
    with Bar() as bar:
        asked = _widths(width, neurons)
        for i, m in enumerate(asked):
            bar.update(i / len(asked), f"{m} neurons")
            search.at(m)
        m = neurons if tolerance is None else _fewest(search, width, tolerance, bar)
    chosen = search.at(m or 1)
    folder = RunFolder(out or run.with_name(f"{run.name}-{_neurons(chosen)}-neurons"))
    whole = {**request, "compressed": {"from": str(run), "method": method, "neurons": neurons, "tolerance": tolerance}}
    curve = _curve(search, chosen, tolerance)
    with folder.opened(whole, resume=False):
        folder.write(chosen.solution, _result(search, chosen, curve))
        report(folder)
        picture, _ = save(width_figure(curve), folder.path / PICTURE)
    console.print(_table(search, chosen, curve))
    print_claims(chosen.solution.certificates)
    console.print(f"Written to {folder.path}; the curve is {picture}.", highlight=False, soft_wrap=True)


def _widths(width: int, neurons: int | None) -> list[int]:
    """The widths of the error curve: halvings of the width, and the one asked for."""
    halves = [width >> i for i in range(1, width.bit_length())]
    return sorted({*halves, *([neurons] if neurons is not None else [])} - {0})


def _fewest(search: _Search, width: int, tolerance: float, bar: Bar) -> int:
    """The fewest neurons tried that keep the score, bisecting below them down to the next that do not."""
    kept = [m for m in search.found if search.within(m, tolerance)]
    enough = min(kept, default=width)
    less = max((m for m in search.found if m < enough), default=0)
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


def _neurons(judged: Judged) -> int:
    return judged.solution.network.compact().hidden[0]


def _curve(search: _Search, chosen: Judged, tolerance: float | None) -> Curve:
    """One width for each network found: those of equal neurons are one."""
    before = search.before
    name = score_name(search.solution.task)
    networks = {_neurons(j): j for _, j in sorted(search.found.items()) if j is not chosen} | {_neurons(chosen): chosen}
    widths = tuple(_width(m, judged, search, judged is chosen) for m, judged in sorted(networks.items()))
    neurons = before.solution.network.compact().hidden[0]
    return Curve(widths, neurons, before.train.score, before.test.score, name, tolerance)


def _width(m: int, judged: Judged, search: _Search, chosen: bool) -> Width:
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


def _result(search: _Search, chosen: Judged, curve: Curve) -> dict[str, Any]:
    found = [j for _, j in sorted(search.found.items())]
    rows = [{**j.row(), "chosen": j is chosen} for j in found]
    rows.append({**search.before.row(), "label": "original", "chosen": False})
    return {**chosen.result(), "why": "", "rows": rows, "mean_image": None, "widths": asdict(curve)}


def _table(search: _Search, chosen: Judged, curve: Curve) -> Table:
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
