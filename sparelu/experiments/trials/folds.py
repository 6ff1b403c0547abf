"""Cross-validation folds of training rows: fixed by the seed, stratified for classification."""

import numpy as np

from sparelu.data import Data, DataError, Split


def fold_numbers(data: Data, folds: int, seed: int) -> np.ndarray:
    """Return the fold (0 to ``folds`` - 1) of every row, (n,): sizes differ by at most one.

    For classification the rows are dealt out class after class, so that the counts of each class differ by at most one
    between folds too. Raises :class:`~sparelu.data.DataError` when there are fewer than two folds, or fewer rows
    than folds.
    """
    if not 2 <= folds <= data.n:
        raise DataError(f"{folds} folds of {data.n} rows: ask for 2 to {data.n} folds")
    order = np.random.default_rng([seed, 0xF01D]).permutation(data.n)
    if data.task == "classification":
        order = order[np.argsort(np.asarray(data.y[:])[order], kind="stable")]
    numbers = np.empty(data.n, dtype=np.int64)
    numbers[order] = np.arange(data.n) % folds
    return numbers


def fold_split(data: Data, folds: int, fold: int, seed: int) -> Split:
    """Return the rows of ``data`` outside fold number ``fold`` to train on, and those in it to judge on."""
    numbers = fold_numbers(data, folds, seed)
    if not 0 <= fold < folds:
        raise DataError(f"there is no fold {fold} of {folds}: they are counted from 0")
    held = np.flatnonzero(numbers == fold)
    how = f"fold {fold + 1} of {folds}, {len(held)} of {data.n} rows (seed {seed})"
    return Split(*data.parts(np.flatnonzero(numbers != fold), held), how, held)
