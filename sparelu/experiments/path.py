"""The same fit at several budgets, and the choice of one of them without looking at test rows."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sparelu import store
from sparelu.data import Split
from sparelu.experiments.trial import Judged, Trial, judge
from sparelu.outcome import Iterate, Status
from sparelu.run import Checkpoint


@dataclass(frozen=True, eq=False)
class Step:
    """One budget: the trial judged on test rows, and its score on validation rows with the standard error."""

    nonzeros: int
    judged: Judged
    validation: float
    error: float


def budgets(low: int, high: int, count: int = 8) -> list[int]:
    """``count`` budgets from ``low`` to ``high``, evenly spaced in the logarithm, rounded to two digits."""
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
        watch: Callable[[int, Iterate], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Step]:
        """Fit every budget twice: on all training rows, and with a fifth of them held out to choose by."""
        inner = replace(self.split.train, test=None).split(0.2, self.trial.seed)
        for s in nonzeros:
            whole = self._fit(s, self.split, "", watch, stop)
            if whole.solution.status is Status.interrupted:
                return
            held = self._fit(s, inner, "-validation", watch, stop)
            if held.solution.status is Status.interrupted:
                return
            yield Step(s, whole, held.test.score, held.test.score_error)

    def _fit(
        self, s: int, split: Split, mark: str, watch: Callable[[int, Iterate], None] | None, stop: Callable[[], bool]
    ) -> Judged:
        done = self.folder / f"{s}{mark}.safetensors"
        trial = replace(self.trial, nonzeros=s)
        if done.is_file():
            return judge(store.load(done), split, "")
        checkpoint = Checkpoint(self.folder / f"{s}{mark}.checkpoint")
        see = None if watch is None else lambda iterate: watch(s, iterate)
        judged = trial.run(split, checkpoint=checkpoint, resume=True, watch=see, stop=stop)
        if judged.solution.status is not Status.interrupted:
            store.save(judged.solution, done)
            checkpoint.path.unlink(missing_ok=True)
        return judged


def choose(steps: Sequence[Step]) -> Step:
    """The fewest nonzeros whose validation score is within one standard error of the best."""
    best = max(steps, key=lambda step: step.validation)
    return min((s for s in steps if s.validation >= best.validation - best.error), key=lambda step: step.nonzeros)
