"""What can be asked: a function on arrays, every row counted, batched, kept on disk and within a limit.

An :class:`Oracle` stands beside :class:`~sparelu.data.Data`: data are given, an oracle is asked. Adapters for modules,
files, libraries and commands are in :mod:`sparelu.oracle_sources`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from sparelu.data import Statistics
from sparelu.digest import BlockHashes
from sparelu.oracle_cache import AnswerCache
from sparelu.runtime.distributed import ALONE, Ranks

BATCH_NUMBERS = 2**22
"""Numbers that one call of the function is given at most."""
PROBES = 32
REPEATS = 3
"""Rows asked before anything else, and how many of them are asked once more."""
SAME = 1e-5
"""Relative difference of two answers to one row that is rounding: sums of float32 change with the size of a batch."""


class OracleError(ValueError):
    """The oracle gave no usable answer; the message says what it gave, what was wanted, and what is kept."""


class QueryLimit(OracleError):
    """The next batch would go beyond the number of rows that may be asked."""


@dataclass(eq=False)
class Oracle:
    """A function that answers rows (n, ``inputs``) with numbers (n, ``outputs``), or (n,) for one output.

    ``centre`` and ``spread`` (numbers, or one for each input) say where its inputs lie: questions are put around
    ``centre`` at multiples of ``spread``. ``cache`` is a file of answers: rows found there are not asked again, so
    that a run that died goes on where it was. ``limit`` is the number of rows that may be asked, those in the cache
    included. ``asked`` counts the rows that the function has answered, those of the cache included. ``batch`` is the
    largest number of rows in one call.

    Raises ``ValueError`` for widths, a spread or a limit out of range, and
    :class:`~sparelu.oracle_cache.CacheError` for a cache that cannot be used.
    """

    function: Callable[[Any], Any]
    inputs: int
    outputs: int = 1
    centre: Any = 0.0
    spread: Any = 1.0
    name: str = "oracle"
    names: tuple[str, ...] = ()
    cache: str | Path | None = None
    limit: int | None = None
    batch: int | None = None
    asked: int = field(default=0, init=False)

    task = "regression"
    classes: tuple[Any, ...] = ()
    target = "y"
    image = None
    columns = None
    device = "cpu"
    dtype = torch.float64
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        if self.inputs < 1 or self.outputs < 1:
            raise ValueError(f"an oracle has at least one input and one output, got {self.inputs} and {self.outputs}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1 row or None, got {self.limit}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch must be at least 1 row or None, got {self.batch}")
        self.centre, self.spread = (self._one_an_input(key) for key in ("centre", "spread"))
        if not (self.spread > 0).all():
            raise ValueError("spread must be above 0 for every input: it is the scale at which questions are put")
        self.names = tuple(self.names) or tuple(f"x{i}" for i in range(self.inputs))
        if len(self.names) != self.inputs:
            raise ValueError(f"{len(self.names)} names for {self.inputs} inputs")
        self._answers = None if self.cache is None else AnswerCache(self.cache, self.inputs, self.outputs)
        self._kept = 0 if self._answers is None else len(self._answers)
        self.asked = self._kept

    def _one_an_input(self, key: str) -> np.ndarray:
        value = np.asarray(getattr(self, key), dtype=np.float64)
        if value.shape not in ((), (self.inputs,)) or not np.isfinite(value).all():
            raise ValueError(f"{key} must be a finite number, or one for each of {self.inputs} inputs")
        return np.broadcast_to(value, (self.inputs,)).copy()

    @property
    def n(self) -> int:
        """Return the rows asked, as the count of rows of :class:`~sparelu.data.Data`."""
        return self.asked

    def ask(self, x: Float[np.ndarray, "n inputs"], again: bool = False) -> Float[np.ndarray, "n outputs"]:
        """Return the answers to the rows ``x``, in float64.

        A row that the cache knows is not asked, unless ``again``. Raises :class:`QueryLimit` before a batch that goes
        beyond the limit, and :class:`OracleError` for an exception of the function, labels, text, wrong shapes, NaN or
        infinity.
        """
        rows = np.ascontiguousarray(x, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.inputs:
            raise ValueError(f"the oracle reads rows of {self.inputs} inputs, got an array of shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("rows to ask must be finite")
        size = self.batch or max(1, BATCH_NUMBERS // self.inputs)
        pieces = [self._piece(rows[i : i + size], again) for i in range(0, len(rows), size)]
        return np.concatenate(pieces) if pieces else np.empty((0, self.outputs))

    def _piece(self, rows: np.ndarray, again: bool) -> np.ndarray:
        """Answer one batch, from the cache where it knows the row."""
        if self._answers is None or again:
            return self._fresh(rows)
        keys, places = self._answers.find(rows)
        new = {key: i for i, key in enumerate(keys) if places[i] < 0}
        if new:
            index = list(new.values())
            self._answers.add(list(new), self._fresh(rows[index]))
            places = self._answers.find(rows)[1]
        return self._answers.take(places)

    def _fresh(self, rows: np.ndarray) -> np.ndarray:
        if self.limit is not None and self.asked + len(rows) > self.limit:
            raise QueryLimit(
                f"{self.name}: {self.asked:,} rows are asked and {len(rows):,} more go beyond the limit of "
                f"{self.limit:,}: raise the limit; what was answered is kept"
            )
        try:
            answer = self.function(rows.copy())
        except Exception as error:
            where = "in its cache: repeat to go on" if self._answers is not None else "in memory alone: give a cache"
            raise OracleError(
                f"{self.name} failed after {self.asked:,} answered rows, in a batch of {len(rows):,}: "
                f"{type(error).__name__}: {error}. The earlier answers are {where}"
            ) from error
        self.asked += len(rows)
        return self._checked(answer, rows)

    def _checked(self, answer: Any, rows: np.ndarray) -> np.ndarray:
        """Return the answers as (n, outputs) numbers; raise :class:`OracleError` naming what they are instead."""
        plain = answer.detach().cpu().numpy() if isinstance(answer, torch.Tensor) else np.asarray(answer)
        if plain.dtype.kind != "f":
            kinds = {"i": "whole numbers", "u": "whole numbers", "b": "true and false", "c": "complex numbers"}
            raise OracleError(
                f"{self.name} answers with {kinds.get(plain.dtype.kind, 'text or objects')} (such as "
                f"{plain.reshape(-1)[:1].tolist()}), wanted numbers of float32 or float64: of classes, ask for the "
                "scores before the decision"
            )
        if plain.shape != (len(rows), self.outputs) and plain.shape != (len(rows),) * (self.outputs == 1):
            raise OracleError(
                f"{self.name} answers {len(rows)} rows with an array of shape {plain.shape}, "
                f"wanted {(len(rows), self.outputs)}"
            )
        found: np.ndarray = plain.astype(np.float64).reshape(len(rows), self.outputs)
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if bad.size:
            raise OracleError(
                f"{self.name} answers {len(bad)} of {len(rows)} rows with NaN or infinity, the first with inputs up to "
                f"{np.abs(rows[bad[0]]).max():.3g} in size: give centre and spread where it is finite"
            )
        return found

    @property
    def statistics(self) -> Statistics:
        """Compute means and standard deviations of fixed rows and their answers. Raises as :attr:`probes`."""
        x, y = self.probes
        return Statistics(x.mean(0), x.std(0), y.mean(0), y.std(0))

    @property
    def digest(self) -> str:
        """Compute the digest of the answers to the fixed rows (:mod:`sparelu.digest`). Raises as :attr:`probes`."""
        x, y = self.probes
        hashes = BlockHashes(len(x), self.inputs)
        hashes.add(0, x, y)
        return hashes.digest({"oracle": [self.inputs, self.outputs], "names": list(self.names)})

    @cached_property
    def probes(self) -> tuple[np.ndarray, np.ndarray]:
        """Ask fixed rows (n, inputs), some of them twice; return them and their answers (n, outputs).

        Raises :class:`OracleError` when an answer changes, or all are whole numbers, as those of classes.
        """
        rng = np.random.default_rng(self.inputs)
        x = self.centre + self.spread * rng.standard_normal((PROBES, self.inputs))
        y = self.ask(x)
        again = self.ask(x[:REPEATS], again=True)
        gap = float(np.abs(y[:REPEATS] - again).max())
        if gap > SAME * float(np.abs(y).max()):
            raise OracleError(
                f"{self.name} answers the same row differently, by up to {gap:.3g}: "
                + (
                    f"its cache {self.cache} holds answers of another function or of a random one; name another file"
                    if self._kept
                    else "it is random (dropout, sampling, a state): put it in evaluation mode"
                )
            )
        if (y == np.round(y)).all() and len(np.unique(y)) > 1:
            raise OracleError(
                f"{self.name} answers {PROBES} rows with whole numbers only ({len(np.unique(y))} different ones), as "
                "classes are: ask for the scores before the decision"
            )
        return x, y

    def close(self) -> None:
        """Free the cache for other processes; it is freed too when nothing holds the oracle any more."""
        if self._answers is not None:
            self._answers.close()

    def confirm(self, x: Float[np.ndarray, "n inputs"], y: Float[np.ndarray, "n outputs"]) -> None:
        """Ask rows ``x`` once more. Raises :class:`OracleError` when an answer is no longer ``y``."""
        again = self.ask(x, again=True)
        gap = float(np.abs(y - again).max())
        if gap > SAME * float(np.abs(y).max()):
            raise OracleError(
                f"{self.name} changed its answers while it was asked, by up to {gap:.3g}: "
                "nothing can be recovered from a function that moves; start anew when it stands still"
            )
