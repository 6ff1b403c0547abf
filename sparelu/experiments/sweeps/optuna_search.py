"""A search of settings by Optuna: the tree-structured Parzen estimator, seeded, and a pruner over folds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparelu.experiments.sweeps.search_space import Space
from sparelu.method import SettingError, nearest
from sparelu.run import generator

PRUNERS = ("median", "hyperband", "none")

Tried = tuple[dict[str, Any], tuple[float, ...], str]
"""Settings of the space, their losses on the folds that were fitted, and the reason where a fold has none."""


@dataclass(frozen=True)
class Study:
    """``trials`` settings from ``space`` for the budget ``nonzeros``, each judged on up to ``folds`` folds.

    Poor settings are stopped early on the mean loss of the folds so far: ``median`` stops what is above the median of
    the earlier settings at that fold, ``hyperband`` runs brackets of successive halving, ``none`` stops nothing. Two
    runs with the same seed and the same losses ask for the same settings.

    Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, 2011 (the estimator); Li et al., Hyperband,
    2018. All as implemented in Optuna.
    """

    space: Space
    trials: int
    pruner: str
    seed: int
    nonzeros: int
    folds: int

    def run(
        self, first: Sequence[Mapping[str, Any]], losses: Callable[[dict[str, Any]], Iterable[float | str]]
    ) -> Iterator[Tried]:
        """Try the settings ``first``, where the space holds them, then what the sampler asks for.

        ``losses`` gives the loss of settings on fold after fold, or a text where a fit was refused or failed.
        """
        optuna = _optuna()
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=int(self._rng().integers(2**31))),
            pruner=self._pruner(optuna),
            study_name=f"{self.nonzeros} nonzeros",
        )
        for settings in first:
            held = {name: settings[name] for name, choice in self.space.items() if choice.holds(settings[name])}
            study.enqueue_trial(held, skip_if_exists=True)
        state = optuna.trial.TrialState
        for _ in range(self.trials):
            trial = study.ask()
            settings = {name: choice.suggest(trial, name) for name, choice in self.space.items()}
            found, reason = _judged(trial, losses(settings))
            if len(found) == self.folds:
                study.tell(trial, float(np.mean(found)))
            else:
                study.tell(trial, state=state.FAIL if reason else state.PRUNED)
            yield settings, found, reason

    def _rng(self) -> np.random.Generator:
        return generator(self.seed, "tune", str(self.nonzeros))

    def _pruner(self, optuna: Any) -> Any:
        if self.pruner == "median":
            return optuna.pruners.MedianPruner()
        if self.pruner == "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=self.folds)
        return optuna.pruners.NopPruner()


def checked_pruner(name: str) -> str:
    """Return the name of a pruner. Raises :class:`~sparelu.method.SettingError` for another, and where Optuna is
    missing.
    """
    _optuna()
    if name not in PRUNERS:
        raise SettingError(f"--pruner must be one of {', '.join(PRUNERS)}, got {name!r}; {nearest(name, PRUNERS)}")
    return name


def _judged(trial: Any, losses: Iterable[float | str]) -> tuple[tuple[float, ...], str]:
    """Return the losses up to the fold where the pruner stops the trial."""
    found: list[float] = []
    for step, loss in enumerate(losses):
        if isinstance(loss, str):
            return (), loss
        found.append(loss)
        trial.report(float(np.mean(found)), step)
        if trial.should_prune():
            break
    return tuple(found), ""


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise SettingError(
            "a search of settings needs Optuna: pip install 'sparelu[search]', or leave --trials out to compare "
            "budgets alone"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
