"""One trial: data, method, budget and seed, described by plain values; run, and evaluated on training and test rows."""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from sparelu import catalogue, datasets, store
from sparelu.data import Data, Split
from sparelu.digest import changed
from sparelu.experiments.evaluate import Measurement, evaluate
from sparelu.experiments.options import TrialOptions
from sparelu.experiments.trials.folds import fold_split
from sparelu.experiments.trials.run_folder import DATA, canonical_json
from sparelu.experiments.trials.task import Row, Task
from sparelu.method import configured
from sparelu.outcome import Iterate, Solution
from sparelu.run import Checkpoint, Limits, fit


@dataclass(frozen=True)
class Trial(TrialOptions, Task):
    """What decides a result (see :class:`~sparelu.experiments.options.TrialOptions`), run and evaluated."""

    def address(self) -> dict[str, Any]:
        """Return what a result is found by.

        What is at its default does not count, so that a new option moves no result; nor does the device.
        """
        request = self.request()
        request.pop("device", None)
        if self.method in catalogue.METHODS and self.settings:
            request["settings"] = configured(catalogue.METHODS[self.method], dict(self.settings)).changed()
        if self.data in datasets.DATASETS and self.parameters:
            default = {p.name: p.default for p in datasets.DATASETS[self.data].parameters}
            request["parameters"] = {
                k: v
                for k, v in self.parameters.items()
                if canonical_json(v) != canonical_json(default.get(k, object()))
            }
        return {k: v for k, v in request.items() if v != {}}

    def seeds(self) -> dict[str, int]:
        """Return the seed of the data, and those of the trial."""
        return {"data": self.parameters.get("seed", self.seed), "split": self.seed, "fit": self.seed}

    def outcome(self) -> Row:
        """Fit and judge; the data are kept for the next trial on them."""
        place = _data_key(self)
        evaluated = self.run(_split(place, self.folds, self.fold))
        return evaluated.result() | {"psnr": evaluated.test.psnr, DATA: _whole(place).digest}

    def data_changed(self, kept: str | None) -> str:
        """Return how the data, of any fold, differ; rows without a digest stand where the data have a known name."""
        if self.has_known_data:
            if kept is None or not datasets.DATASETS[self.data].reads_files:
                return ""
        elif kept is None:
            return f"{self.data}: kept results that do not say of which data they are"
        found = _whole(_data_key(self)).digest
        return "" if kept == found else changed(self.data, kept, found)

    @property
    def has_known_data(self) -> bool:
        """Say whether the data are a named set; else they are a file, which may change while the address stays."""
        return self.data in datasets.DATASETS

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> "Trial":
        """Read a stored request; entries that are not fields are passed over."""
        known: dict[str, Any] = {f.name: request[f.name] for f in fields(cls) if f.name in request}
        known |= {name: tuple(known[name]) for name in ("hidden", "channels", "drop", "only") if name in known}
        return cls(**known)

    def split(self) -> Split:
        """Load the data, keep test rows apart, and take the fold where one is asked for."""
        return self.part(self.whole())

    def part(self, whole: Split) -> Split:
        """Return the rows to train and to judge on: those of :meth:`whole`, or a fold of its training rows."""
        return fold_split(whole.train, self.folds, self.fold, self.seed) if self.folds else whole

    def whole(self) -> Split:
        """Load the data and keep test rows apart."""
        parameters = dict(self.parameters)
        seed = int(parameters.pop("seed", self.seed))
        data = datasets.load(self.data, self.target, self.task, seed, drop=self.drop, only=self.only, **parameters)
        split = data.split(self.test_fraction, self.seed)
        return replace(split, train=replace(split.train, device=self.device))

    def standardised(self) -> bool:
        """Say whether inputs are standardised: as asked, else exactly when the data come from a file."""
        return not self.has_known_data if self.standardise is None else self.standardise

    def choose_method(self, data: Data) -> tuple[str, str]:
        """Return the name of the method, and why ``auto`` chose it (empty when it was named)."""
        return catalogue.choose(data, self.budget()) if self.method == "auto" else (self.method, "")

    def run(
        self,
        split: Split,
        *,
        checkpoint: Checkpoint | None = None,
        resume: bool = False,
        limits: Limits | None = None,
        watch: Callable[[Iterate], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> "Evaluated":
        """Fit on the training rows and judge on both parts; the clock of the fit does not run while judging."""
        name, why = self.choose_method(split.train)
        solution = fit(
            catalogue.fitter(name, **self.settings),
            split.train,
            self.budget(),
            seed=self.seed,
            standardise=self.standardised(),
            limits=limits,
            checkpoint=checkpoint,
            resume=resume,
            watch=watch,
            stop=stop,
        )
        return evaluate_solution(solution, split, why)


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A solution, what it is worth on training and test rows, and why its method was chosen."""

    solution: Solution
    train: Measurement
    test: Measurement
    why: str
    split: str

    def row(self) -> dict[str, Any]:
        """Return one row of a table: the method, the counts, the test score and what it cost."""
        s = self.solution
        return {
            "method": s.method,
            "nonzeros": self.test.nonzeros,
            "biases": self.test.biases,
            "score": self.test.score,
            "train_score": self.train.score,
            "seconds": s.seconds,
            "peak_memory": s.peak_memory,
            "stored_bytes": stored_bytes(s),
            "status": s.status.name,
            "live_hidden": list(s.network.compact().hidden),
            "within_budget": s.within_budget,
        }

    def result(self) -> dict[str, Any]:
        """Return everything measured, as JSON values."""
        parts = {"train": asdict(self.train), "test": asdict(self.test)}
        return {
            **self.row(),
            **parts,
            "why": self.why,
            "split": self.split,
            "score_name": score_name(self.solution.task),
        }


def _data_key(trial: Trial) -> str:
    deciding = ("data", "parameters", "target", "task", "drop", "only", "seed", "test_fraction", "device")
    return canonical_json({**{name: getattr(trial, name) for name in deciding}, "file": _as_it_stands(trial)})


def _as_it_stands(trial: Trial) -> list[int]:
    """Return what tells that a file was written again, within one process; it is read again then."""
    if trial.has_known_data or not Path(trial.data).exists():
        return []
    found = Path(trial.data).stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


@functools.lru_cache(maxsize=2)
def _whole(data_key: str) -> Split:
    """Load the split of a trial's data, kept for the next trials on the same data."""
    given: Mapping[str, Any] = json.loads(data_key)
    return Trial.of(given).whole()


@functools.lru_cache(maxsize=2)
def _split(data_key: str, folds: int, fold: int) -> Split:
    """Load the rows of a trial, kept for the next trials on the same fold."""
    given: Mapping[str, Any] = json.loads(data_key)
    return replace(Trial.of(given), folds=folds, fold=fold).part(_whole(data_key))


def evaluate_solution(solution: Solution, split: Split, why: str = "") -> Evaluated:
    """Measure a solution on the training and the test rows of a split."""
    return Evaluated(
        solution, evaluate(solution.network, split.train), evaluate(solution.network, split.test), why, split.how
    )


def score_name(task: str) -> str:
    """Return what the score of a task is called."""
    return "accuracy" if task == "classification" else "R2"


def stored_bytes(solution: Solution) -> int:
    """Count the bytes of values, indices and biases as they are stored; the header left out."""
    return store.weight_bytes(solution.network)


def pick_device(asked: str) -> str:
    """Return the device that is meant: ``auto`` is CUDA where there is a device, else the CPU.

    Raises ``ValueError`` for a device that is missing.
    """
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {asked!r} was asked for, but torch finds no CUDA device: use --device cpu")
    return asked
