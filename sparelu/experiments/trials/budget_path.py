"""The same fit at several budgets, and the choice of one of them without looking at test rows."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sparelu import store
from sparelu.data import Budget, Split
from sparelu.experiments.trials.folds import fold_numbers, fold_split
from sparelu.experiments.trials.one_standard_error import Validated, read_loss
from sparelu.experiments.trials.run_folder import DATA
from sparelu.experiments.trials.trial import Evaluated, Trial, evaluate_solution
from sparelu.outcome import Iterate, Solution, Status
from sparelu.run import Checkpoint


@dataclass(frozen=True, eq=False)
class PathStep:
    """One budget: the trial judged on test rows, and its losses on held-out folds of the training rows."""

    evaluated: Evaluated
    validated: Validated


def default_budgets(trial: Trial, split: Split) -> list[int]:
    """Return eight budgets from a twentieth of the weights, at most 50, to all of them, at most 2000."""
    total = Budget(trial.hidden, channels=trial.channels).weights(
        split.train.inputs, split.train.outputs, split.train.image
    )
    return budgets(max(1, min(50, total // 20)), max(2, min(total, 2000)))


def small_budgets(trial: Trial, split: Split) -> tuple[int, ...]:
    """Return six budgets from 3 weights to 200, as far as there are so many: what is tried where none was asked."""
    total = Budget(trial.hidden, channels=trial.channels).weights(
        split.train.inputs, split.train.outputs, split.train.image
    )
    low = max(3, split.train.outputs)
    return tuple(budgets(low, max(low, min(total, 200)), 6))


def budgets(low: int, high: int, count: int = 8) -> list[int]:
    """Return ``count`` budgets from ``low`` to ``high``, evenly spaced in the logarithm, rounded to two digits."""
    ratio = (high / low) ** (1 / max(count - 1, 1))
    found = [low * ratio**i for i in range(count)]
    rounded = {max(1, round(b, -int(math.floor(math.log10(b))) + 1)) for b in found}
    return sorted(int(b) for b in rounded)


@dataclass(frozen=True, eq=False)
class BudgetPath:
    """A path of fits kept in ``folder``: finished budgets are read from it, a broken-off one goes on."""

    trial: Trial
    split: Split
    folder: Path

    def steps(
        self,
        nonzeros: Sequence[int],
        folds: int,
        watch: Callable[[int, Iterate], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[PathStep]:
        """Fit every budget on all training rows, and once without each of ``folds`` folds, which are to choose by."""
        fold_numbers(self.split.train, folds, self.trial.seed)  # refuses a wrong number before anything is spent
        for s in nonzeros:
            whole = self._fit(s, self.split, "", watch, stop)
            losses: list[float] = []
            for i in range(folds):
                if whole.solution.status is Status.interrupted:
                    return
                inner = fold_split(self.split.train, folds, i, self.trial.seed)
                held = self._fit(s, inner, f"-fold{i + 1}of{folds}", watch, stop)
                if held.solution.status is Status.interrupted:
                    return
                losses.append(read_loss(held.test, self.split.train.task))
            yield PathStep(whole, Validated(s, tuple(losses), self.trial.settings))

    def _is_of(self, kept: Solution, split: Split) -> bool:
        """Say whether a finished fit is of these rows; those of files count only where they say so."""
        told = kept.about.get(DATA)
        return told == split.train.digest or (told is None and self.trial.has_known_data)

    def _fit(
        self, s: int, split: Split, mark: str, watch: Callable[[int, Iterate], None] | None, stop: Callable[[], bool]
    ) -> Evaluated:
        done = self.folder / f"{s}{mark}.safetensors"
        trial = replace(self.trial, nonzeros=s)
        if done.is_file() and self._is_of(kept := store.load(done), split):
            return evaluate_solution(kept, split, "")
        checkpoint = Checkpoint(self.folder / f"{s}{mark}.checkpoint", strict=False)
        see = None if watch is None else lambda iterate: watch(s, iterate)
        evaluated = trial.run(split, checkpoint=checkpoint, resume=True, watch=see, stop=stop)
        if evaluated.solution.status is not Status.interrupted:
            store.save(evaluated.solution, done)
            checkpoint.path.unlink(missing_ok=True)
        return evaluated
