"""What is given: data in memory, memory-mapped or streamed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from scipy.special import expit, softmax
from torch import Tensor

from sparelu.budget import Budget as Budget
from sparelu.columns import Columns
from sparelu.digest import BlockHashes, join_digests
from sparelu.moments import Moments
from sparelu.networks.network import Layer, Network
from sparelu.runtime.distributed import ALONE, Ranks

CHUNK = 65536
"""Rows read at a time from a source that is not in memory; fewer where a row is long."""

CHUNK_NUMBERS = 2**24
"""Numbers read at a time at most."""


class DataError(ValueError):
    """The data cannot be used; the message says which rows or columns, and what was wanted."""


@runtime_checkable
class Rows(Protocol):
    """What ``Data.x`` and ``Data.y`` may be: an array, a memory map, or any reader of rows with these members."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, rows: Any, /) -> Any: ...


@runtime_checkable
class Source(Protocol):
    """What inputs are made of, where they are not read as they stand: columns of a table, as learnt from some rows."""

    @property
    def columns(self) -> Columns: ...
    @property
    def inputs(self) -> Rows: ...
    def take(self, rows: np.ndarray) -> "Source": ...
    def learnt(self) -> "Source": ...
    def of(self, columns: Columns) -> "Source": ...


@dataclass(frozen=True, eq=False)
class Statistics:
    """One pass over the rows: mean and standard deviation of inputs (d,) and targets (k,)."""

    mean: np.ndarray
    sd: np.ndarray
    y_mean: np.ndarray
    y_sd: np.ndarray


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs ``x`` (n, d) and targets ``y``: (n,) or (n, k) numbers for regression, (n,) labels for classification.

    Labels of any kind are encoded as 0..c-1 in the order of ``classes``. ``names`` are the d input names,
    ``image`` the (height, width[, channels]) that a row is the pixels of, ``test`` rows that the source keeps apart.
    ``device`` is where batches are put. ``ranks`` are the processes that share the rows: what is read in pieces here
    are this process's own, counts and statistics are of all. ``columns`` is how ``x`` was made of a table, and
    ``source`` that table where other rows would make it otherwise. Raises :class:`DataError` for shapes that do not
    fit.
    """

    x: Rows
    y: Rows
    task: str = "regression"
    names: tuple[str, ...] = ()
    classes: tuple[Any, ...] = ()
    name: str = "data"
    target: str = "y"
    image: tuple[int, ...] | None = None
    test: "Data | None" = None
    device: str = "cpu"
    ranks: Ranks = ALONE
    columns: Columns | None = None
    source: Source | None = None

    def __post_init__(self) -> None:
        if self.task not in ("regression", "classification"):
            raise DataError(f"task must be 'regression' or 'classification', got {self.task!r}")
        for key in ("x", "y"):
            if isinstance(getattr(self, key), Tensor):
                object.__setattr__(self, key, getattr(self, key).cpu().numpy())
        if len(self.x.shape) != 2:
            raise DataError(f"x must have two dimensions (rows, inputs), got shape {tuple(self.x.shape)}")
        if self.x.shape[0] != self.y.shape[0]:
            raise DataError(f"x has {self.x.shape[0]} rows and y {self.y.shape[0]}: give one target for each row")
        if self.x.shape[0] == 0 or self.x.shape[1] == 0:
            raise DataError(f"x is empty: shape {tuple(self.x.shape)}")
        if self.task == "classification" and not self.classes:
            classes, y = np.unique(np.asarray(self.y[:]), return_inverse=True)
            object.__setattr__(self, "classes", tuple(c.item() if isinstance(c, np.generic) else c for c in classes))
            object.__setattr__(self, "y", y.reshape(-1))
        if not self.names:
            object.__setattr__(self, "names", tuple(f"x{i}" for i in range(self.x.shape[1])))
        if len(self.names) != self.x.shape[1]:
            raise DataError(f"{len(self.names)} names for {self.x.shape[1]} inputs")
        if self.image is not None and (len(self.image) not in (2, 3) or np.prod(self.image) != self.x.shape[1]):
            raise DataError(
                f"image must be (height, width[, colours]) of the {self.x.shape[1]} inputs, got {self.image}"
            )

    @property
    def n(self) -> int:
        """Return number of rows, those of other ranks too."""
        return self.x.shape[0]

    @property
    def own(self) -> slice:
        """Return the rows of this rank."""
        return self.ranks.rows(self.n)

    @property
    def inputs(self) -> int:
        """Return number of input columns."""
        return self.x.shape[1]

    @property
    def outputs(self) -> int:
        """Return outputs a network needs: targets; classes; or one for two classes (positive means the second)."""
        if self.task == "classification":
            return 1 if len(self.classes) == 2 else len(self.classes)
        return 1 if len(self.y.shape) == 1 else self.y.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Return float64 when the inputs are, else float32."""
        return torch.float64 if np.dtype(self.x.dtype) == np.float64 else torch.float32

    @property
    def in_memory(self) -> bool:
        """Say whether the inputs are an array that is not mapped from a file."""
        return isinstance(self.x, np.ndarray) and not isinstance(self.x, np.memmap)

    @property
    def chunk(self) -> int:
        """Return rows of one piece of :meth:`chunks`."""
        return min(CHUNK, max(256, CHUNK_NUMBERS // self.inputs))

    def chunks(self, rows: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield consecutive pieces (x, y) of :attr:`own` rows, at most ``rows`` (default: :attr:`chunk`) each, in
        order.
        """
        size, own = rows or self.chunk, self.own
        for start in range(own.start, own.stop, size):
            piece = slice(start, min(start + size, own.stop))
            yield np.asarray(self.x[piece]), np.asarray(self.y[piece])

    def batches(
        self,
        size: int,
        rng: np.random.Generator | None = None,
        dtype: torch.dtype | None = None,
        whole: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one pass in minibatches (x (b, d), y (b, k) or labels (b,)) on ``device``.

        With ``rng`` the rows are shuffled: all of them when in memory, else pieces of ``chunk`` rows in random
        order and the rows within each, so that the file is read in long runs. The last batch of a piece may be smaller;
        with ``whole`` those of fewer than min(size, n) rows are left out. Of every piece a rank reads its part alone,
        and of a batch it yields the rows in that part, which may be none.
        """
        chunk = self.n if self.in_memory else max(self.chunk, size)
        starts = np.arange(0, self.n, chunk)
        for start in starts if rng is None else rng.permutation(starts):
            count = int(min(chunk, self.n - start))
            part = self.ranks.rows(count)
            piece = slice(start + part.start, start + part.stop)
            x, y = np.asarray(self.x[piece]), np.asarray(self.y[piece])
            order = np.arange(count) if rng is None else rng.permutation(count)
            for at in range(0, count, size):
                if not whole or count - at >= min(size, self.n):
                    rows = self.ranks.held(order[at : at + size], part)
                    yield self._tensors(x[rows], y[rows], dtype)

    def tensors(self, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Return all :attr:`own` rows at once: x (n, d) and y (n, k), or labels (n,) of int64."""
        return self._tensors(np.asarray(self.x[self.own]), np.asarray(self.y[self.own]), dtype)

    def _tensors(self, x: np.ndarray, y: np.ndarray, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
        d = dtype or self.dtype
        return torch.tensor(x, dtype=d, device=self.device), self._target_tensor(y, d)

    def targets(self) -> Tensor:
        """Return the targets of all :attr:`own` rows alone, as :meth:`tensors` gives them."""
        return self._target_tensor(np.asarray(self.y[self.own]), self.dtype)

    def _target_tensor(self, y: np.ndarray, dtype: torch.dtype) -> Tensor:
        if self.task == "classification":
            return torch.tensor(y, dtype=torch.int64, device=self.device)
        return torch.tensor(y.reshape(len(y), -1), dtype=dtype, device=self.device)

    @cached_property
    def statistics(self) -> Statistics:
        """Return means and standard deviations, from one checked pass over the rows.

        Raises :class:`DataError` for NaN or infinity (naming rows), a constant target, or a single class.
        """
        stats, classes, _ = self._pass
        if self.task == "classification" and classes < 2:
            raise DataError(
                f"the target {self.target!r} has one class only ({self.classes[0]!r}): at least two are needed"
            )
        if self.task == "regression" and not stats.y_sd.any():
            raise DataError(f"the target {self.target!r} is constant ({stats.y_mean[0]:g}): there is nothing to fit")
        return stats

    @property
    def digest(self) -> str:
        """Return what these rows are by their content (:mod:`sparelu.digest`), from the pass of :attr:`statistics`.

        All rows and targets, their order, names and types count; where the rows lie, and what the data are called,
        does not. All ranks get the same. Raises :class:`DataError` for NaN or infinity.
        """
        return self._pass[2]

    @cached_property
    def _pass(self) -> tuple[Statistics, int, str]:
        """Return statistics, how many classes occur, and the digest."""
        sums = Moments(self.inputs), Moments(self.outputs if self.task == "regression" else 1)
        seen, hashes, start = torch.zeros(len(self.classes)), BlockHashes(self.n, self.inputs), self.own.start
        for x, y in self.chunks():
            hashes.add(start, x, y)
            _check_finite(x, start, "inputs", self.names)
            _check_finite(y.reshape(len(y), -1), start, "the target", (self.target,))
            sums[0].add(x)
            sums[1].add(y.reshape(len(y), -1))
            if self.task == "classification":
                seen[torch.from_numpy(np.unique(y))] = 1
            start += len(x)
        if (rest := hashes.rest(start)).start < rest.stop:
            hashes.add(start, np.asarray(self.x[rest]), np.asarray(self.y[rest]))
        self.ranks.sum(hashes.hashes)
        count = int(torch.count_nonzero(self.ranks.sum(seen)))
        stats = Statistics(*sums[0].result(self.ranks), *sums[1].result(self.ranks))
        for sd, names in ((stats.sd, self.names), (stats.y_sd, (self.target,) * len(stats.y_sd))):
            if not np.isfinite(sd).all():
                name = names[int(np.argmin(np.isfinite(sd)))]
                raise DataError(f"{self.name}: column {name!r} holds numbers whose squares overflow: scale it")
        return stats, count, hashes.digest(self._form)

    @property
    def _form(self) -> list[Any]:
        """Return all of the data but their numbers, as JSON values."""
        kinds = [np.dtype(rows.dtype).str for rows in (self.x, self.y)]
        form = [*self.x.shape, *self.y.shape, self.task, self.target, self.names, self.classes, self.image, kinds]
        return form if self.columns is None or self.columns.are_numbers else [*form, self.columns.plain()]

    @cached_property
    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """Return least and largest value of every input, each (d,), in float64."""
        low, high = np.full(self.inputs, np.inf), np.full(self.inputs, -np.inf)
        for x, _ in self.chunks():
            low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
        ends = self.ranks.maximum(torch.from_numpy(np.concatenate([-low, high]).astype(np.float64))).numpy()
        return -ends[: self.inputs], ends[self.inputs :]

    def share(self, ranks: Ranks) -> "Data":
        """Return the same rows, of which every rank works on its part; all ranks must have the same."""
        return replace(self, ranks=ranks, test=None if self.test is None else self.test.share(ranks))

    def take(self, rows: Sequence[int] | np.ndarray) -> "Data":
        """Return the named rows alone; of a source that is not in memory, a view that reads them when asked."""
        index = np.asarray(rows)
        x = self.x[index] if self.in_memory else Taken(self.x, index)
        y = self.y[index] if isinstance(self.y, np.ndarray) else Taken(self.y, index)
        source = None if self.source is None else self.source.take(index)
        return replace(self, x=x, y=y, test=None, source=source)

    def parts(self, train: np.ndarray, test: np.ndarray) -> tuple["Data", "Data"]:
        """Return two sets of rows, apart: the columns of a table are learnt from the first alone, for both."""
        first, second = self.take(train), self.take(test)
        if first.source is None or second.source is None:
            return first, second
        learnt = first.source.learnt()
        if learnt.columns == first.source.columns:
            return first, second
        return first._made_of(learnt), second._made_of(second.source.of(learnt.columns))

    def _made_of(self, source: Source) -> "Data":
        return replace(self, x=source.inputs, names=source.columns.inputs, columns=source.columns, source=source)

    def split(self, fraction: float, seed: int) -> "Split":
        """Keep ``fraction`` of the rows apart as test rows, at random; the source's own test rows, where it has them.

        0 keeps none, and scores are of the training rows: for points that are to be met. Raises :class:`DataError`
        when another fraction leaves either part empty.
        """
        if self.test is not None:
            return Split(replace(self, test=None), self.test, "the source's own test rows", None)
        if fraction == 0:
            return Split(self, self, "no row is kept for testing: scores are of the training rows", None, "training")
        held = round(fraction * self.n)
        if not 0 < held < self.n:
            raise DataError(
                f"a test fraction of {fraction:g} leaves {held} of {self.n} rows for testing: "
                "give more rows, a fraction that leaves some on both sides, or 0 to test on the training rows"
            )
        order = np.random.default_rng([seed, 0x5EED]).permutation(self.n)
        test = np.sort(order[:held])
        how = f"{held} of {self.n} rows at random (fraction {fraction:g}, seed {seed})"
        return Split(*self.parts(np.sort(order[held:]), test), how, test)

    def standardised(self) -> tuple["Data", "Standardisation"]:
        """Return inputs (and regression targets) with mean 0 and standard deviation 1, and the way back."""
        s = self.statistics
        regression = self.task == "regression"
        way = Standardisation(
            s.mean,
            np.where(s.sd > 0, s.sd, 1.0),
            s.y_mean if regression else None,
            np.where(s.y_sd > 0, s.y_sd, 1.0) if regression else None,
        )
        x = Scaled(self.x, way.mean, way.sd)
        y = Scaled(self.y, way.y_mean, way.y_sd) if way.y_mean is not None and way.y_sd is not None else self.y
        moved = replace(self, x=x[:] if self.in_memory else x, y=y[:] if isinstance(self.y, np.ndarray) else y)
        return moved, way


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test rows, how they were chosen, and the test row numbers (None when the source chose).

    ``scored`` names the rows that scores are of: "test", or "training" where none were kept apart.
    """

    train: Data
    test: Data
    how: str
    test_rows: np.ndarray | None
    scored: str = "test"

    @property
    def digest(self) -> str:
        """Return what the rows of both parts are by their content, as :attr:`Data.digest` has it."""
        return self.train.digest if self.scored == "training" else join_digests(self.train.digest, self.test.digest)

    def share(self, ranks: Ranks) -> "Split":
        """Share both parts as :meth:`Data.share` has them."""
        return replace(self, train=self.train.share(ranks), test=self.test.share(ranks))


@dataclass(frozen=True, eq=False)
class Taken:
    """The rows ``index`` of another source, read when asked."""

    source: Rows
    index: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.index), *self.source.shape[1:])

    @property
    def dtype(self) -> Any:
        return self.source.dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self.source[self.index[rows]])


@dataclass(frozen=True, eq=False)
class Scaled:
    """``(source - mean) / sd``, computed when asked, in the source's float type."""

    source: Rows
    mean: np.ndarray
    sd: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def dtype(self) -> Any:
        given = np.dtype(self.source.dtype)
        return given if given.kind == "f" else np.dtype(np.float64)

    def __getitem__(self, rows: Any) -> np.ndarray:
        part = np.asarray(self.source[rows])
        flat = part.reshape(part.shape[0], -1) if part.ndim else part
        return ((flat - self.mean) / self.sd).reshape(part.shape).astype(self.dtype)


@dataclass(frozen=True, eq=False)
class Standardisation:
    """Means and standard deviations that were taken out of inputs (d,) and, for regression, targets (k,)."""

    mean: np.ndarray
    sd: np.ndarray
    y_mean: np.ndarray | None = None
    y_sd: np.ndarray | None = None

    def fold(self, network: Network) -> Network:
        """Return the network on raw inputs (and raw targets) that equals ``network`` on standardised ones.

        W (x - m)/s + b = (W/s) x + (b - W m/s), so the support does not change; the same for the skip part.
        """
        exact = network.to(torch.float64)
        layers = [self._fold_inputs(exact.layers[0]), *exact.layers[1:]]
        skip = None if exact.skip is None else self._fold_inputs(exact.skip)
        if self.y_mean is not None and self.y_sd is not None:
            layers[-1] = _scale_outputs(layers[-1], self.y_sd, self.y_mean)
            skip = None if skip is None else _scale_outputs(skip, self.y_sd, np.zeros_like(self.y_mean))
        return Network(tuple(layers), skip).to(network.dtype)

    def _fold_inputs(self, layer: Layer) -> Layer:
        where = layer.outputs_of_values
        values = layer.values / torch.as_tensor(self.sd)[layer.indices.long()]
        shift = torch.zeros(layer.shape[0], dtype=torch.float64)
        shift.index_add_(0, where.long(), values * torch.as_tensor(self.mean)[layer.indices.long()])
        bias = layer.dense_bias() - shift
        return Layer.from_triplets(layer.shape, where, layer.indices, values, bias)


def _scale_outputs(layer: Layer, sd: np.ndarray, mean: np.ndarray) -> Layer:
    scale = torch.as_tensor(sd, dtype=torch.float64)
    where = layer.outputs_of_values
    bias = layer.dense_bias() * scale + torch.as_tensor(mean)
    return Layer.from_triplets(layer.shape, where, layer.indices, layer.values * scale[where.long()], bias)


def _check_finite(part: np.ndarray, start: int, what: str, names: Sequence[str]) -> None:
    if part.dtype.kind != "f" or np.isfinite(part).all():
        return
    rows, columns = np.nonzero(~np.isfinite(part))
    first = ", ".join(str(start + r) for r in np.unique(rows)[:5])
    column = names[columns[0]] if len(names) > columns[0] else columns[0]
    raise DataError(
        f"{what} hold NaN or infinity in {len(np.unique(rows))} row(s), first row(s) {first} "
        f"(counted from 0), column {column!r}: remove or fill them"
    )


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the probability of each class (n, classes) from network outputs (n, k).

    The softmax of the scores; of the only score of two classes the logistic function.
    """
    if scores.shape[1] == 1:
        return np.concatenate([expit(-scores), expit(scores)], axis=1)
    shares: np.ndarray = softmax(scores, axis=1)
    return shares


def labels(scores: Tensor, classes: Sequence[Any]) -> np.ndarray:
    """Predict labels from network outputs (n, k): the largest, or of two classes by the sign of the only one."""
    index = (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(dim=1)
    return np.asarray(classes)[index.cpu().numpy()]
