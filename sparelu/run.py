"""The three verbs: fit, compress, certify. The only outer loop: clock, stopping, history, checkpoints, budget check."""

import functools
import hashlib
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparelu import store
from sparelu.data import Budget, Data, DataError, Standardisation
from sparelu.digest import changed
from sparelu.json_form import listed, mapped, number, of, record
from sparelu.method import Certifier, Compressor, Fitter, Refusal
from sparelu.networks.network import Network, zero_network
from sparelu.oracle import Oracle, OracleError
from sparelu.outcome import Certificate, Iterate, Solution, State, Status
from sparelu.runtime.distributed import RankLost, Ranks
from sparelu.runtime.resources import Meter

KEPT = record(
    {"method": of(dict), "rng": of(dict), "history": listed(mapped(number())), "seconds": number(0)}, open=True
)
"""What a checkpoint holds beside the marks of its fit."""


@dataclass(frozen=True)
class Limits:
    """When to stop from outside: after ``seconds`` of the method's own time, or ``rounds``."""

    seconds: float = math.inf
    rounds: float = math.inf


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a running fit is kept, and the seconds between two writes (0: every round).

    A state of another fit, or of other data, is refused; where it is not ``strict`` the fit begins anew instead.
    """

    path: Path
    every: float = 10.0
    strict: bool = True


@dataclass
class _Progress:
    """What a fit has come to: history rows, the last iterate, and how it ended (None: still running)."""

    history: list[dict[str, float]]
    last: Iterate | None = None
    status: Status | None = None


def generator(seed: int, *names: str) -> np.random.Generator:
    """Make a random generator for the component called ``names``: its stream depends on seed and names alone."""
    digest = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def versions() -> dict[str, str]:
    """Return the versions of what decides a result."""
    return {**_installed(), "python": platform.python_version()}


@functools.cache
def _installed() -> dict[str, str]:
    return {name: version(name) for name in ("sparelu", "torch", "numpy", "scipy")}


def fit(
    method: Fitter,
    data: Data | Oracle,
    budget: Budget,
    *,
    seed: int = 0,
    standardise: bool = False,
    limits: Limits | None = None,
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    watch: Callable[[Iterate], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Solution:
    """Run ``method`` on ``data`` within ``budget``; an :class:`~sparelu.oracle.Oracle` for a method that asks.

    ``standardise`` learns means and scales on these rows and folds them into the network, which then takes raw inputs.
    It does nothing to networks with ``budget.channels``: their first convolution has a normalisation of its own; nor to
    methods that centre and scale by themselves.
    ``watch`` sees every iterate; ``stop`` is asked after every round and ends the fit as interrupted. With
    ``checkpoint`` the state is kept on disk, and ``resume`` goes on from it bit for bit.

    When ``data`` are shared by several ranks, all of them call this with the same arguments and get the same network.
    The first alone writes the checkpoint, which all of them, or another number of ranks, can go on from.

    Raises :class:`~sparelu.method.Refusal` with the method's reason, :class:`~sparelu.data.DataError` for unusable
    data, :class:`~sparelu.store.StoreError` when the checkpoint belongs to another fit, and
    :class:`~sparelu.runtime.distributed.RankLost` when another rank is gone.
    """
    wrong = method.unfit(data)
    if wrong is None and standardise and isinstance(data, Oracle):
        wrong = "an oracle has no rows to learn means and scales from: give its centre and spread"
    if wrong is not None:
        raise Refusal(f"{method.name} cannot fit this: {wrong}")
    return _fit(method, data, budget, seed, standardise, limits, checkpoint, resume, watch, stop)


def _fit(
    method: Fitter,
    data: Data | Oracle,
    budget: Budget,
    seed: int,
    standardise: bool,
    limits: Limits | None,
    checkpoint: Checkpoint | None,
    resume: bool,
    watch: Callable[[Iterate], None] | None,
    stop: Callable[[], bool],
) -> Solution:
    """Fit what the method takes: data, or an oracle, which has the same members where none is of rows."""
    if data.ranks.size > 1 and not method.sums_over_rows:
        raise Refusal(f"{method.name} needs all rows in one process and cannot fit over {data.ranks.size} ranks")
    _ = data.statistics  # refuses NaN, constant targets and single classes before anything is spent
    raw = budget.channels or method.scales_inputs or not standardise
    work: Any  # of the kind that the method takes
    work, way = (data, None) if raw or isinstance(data, Oracle) else data.standardised()
    reason = method.refuses(work, budget)
    if reason is not None:
        raise Refusal(f"{method.name} cannot fit this: {reason}")
    identity = _identity(method, data, budget, seed, standardise)
    meter, rng, start = Meter(), generator(seed, "fit", method.name), None
    progress = _Progress([])
    if resume and checkpoint is not None and checkpoint.path.exists():
        try:
            start = _restore(checkpoint.path, identity, meter, rng, progress)
        except store.StoreError:
            if checkpoint.strict:
                raise
    if progress.status is None:
        steps = method.steps(work, budget, rng, start)
        keep = _Keeper(checkpoint if data.ranks.first else None, identity, meter, rng)
        if start is not None and checkpoint is not None:
            steps = _resumed(steps, checkpoint.path)
            with meter.running():
                progress.last = next(steps)
        _loop(steps, progress, meter, limits or Limits(), keep, watch, stop, data.ranks)
    return _solution(method, data, budget, seed, way, progress, meter)


def _resumed(steps: Any, path: Path) -> Any:
    """Yield the iterate that a method was at, then its steps from there.

    Raises :class:`~sparelu.store.StoreError` for a state that it cannot use: one that has no network, or from which
    no first step can be made.
    """
    try:
        last = next(steps)
        last.network()
        yield last
        try:
            first = next(steps)
        except StopIteration as end:
            return end.value
        yield first
    except (RankLost, OracleError, Refusal, DataError, torch.OutOfMemoryError):  # none of them is the state's fault
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, StopIteration) as error:
        words = f"{path}: the method cannot go on from this state"
        raise store.StoreError(f"{words} ({type(error).__name__}: {error}): it was changed or damaged") from error
    return (yield from steps)


def _loop(
    steps: Any,
    progress: _Progress,
    meter: Meter,
    limits: Limits,
    keep: "_Keeper",
    watch: Callable[[Iterate], None] | None,
    stop: Callable[[], bool],
    ranks: Ranks,
) -> None:
    while progress.status is None:
        try:
            with meter.running():
                iterate = next(steps)
        except StopIteration as end:
            progress.status = end.value
            break
        if not math.isfinite(iterate.loss):
            progress.status = Status.diverged
            break
        progress.last = iterate
        progress.history.append(
            {"progress": iterate.progress, "loss": iterate.loss, "seconds": meter.seconds, **iterate.numbers}
        )
        if watch is not None:
            watch(iterate)
        over = meter.seconds >= limits.seconds or len(progress.history) >= limits.rounds
        progress.status = _agreed(Status.interrupted if stop() else Status.max_steps if over else None, iterate, ranks)
        keep(progress)


def _agreed(wish: Status | None, iterate: Iterate, ranks: Ranks) -> Status | None:
    """Stop when one of the ranks would. Raises :class:`RankLost` when their losses are not the same bits."""
    order = (None, Status.max_steps, Status.interrupted)
    bits = int(np.float64(iterate.loss).view(np.int64))
    place, most, least = ranks.maximum(torch.tensor([order.index(wish), bits, -bits])).tolist()
    if most != -least:
        raise RankLost(
            f"the ranks no longer have the same bits after {iterate.progress:.0%} of the fit: "
            "start them all on machines of one kind, with the same versions and data"
        )
    return order[place]


class _Keeper:
    """Writes the checkpoint when its time has come, and always when the fit stops."""

    def __init__(self, checkpoint: Checkpoint | None, identity: State, meter: Meter, rng: np.random.Generator) -> None:
        self.checkpoint, self.identity, self.meter, self.rng = checkpoint, identity, meter, rng
        self.written = 0.0

    def __call__(self, progress: _Progress) -> None:
        if self.checkpoint is None or progress.last is None:
            return
        if progress.status is None and self.meter.seconds < self.written + self.checkpoint.every:
            return
        self.written = self.meter.seconds
        state = {
            "method": progress.last.state(),
            "rng": self.rng.bit_generator.state,
            **self.identity,
            "history": progress.history,
            "seconds": self.meter.seconds,
        }
        store.save_state(state, self.checkpoint.path)


def _restore(path: Path, identity: State, meter: Meter, rng: np.random.Generator, progress: _Progress) -> Any:
    state = store.load_state(path)
    advice = "give the same ones to resume, or another output folder to start anew"
    if "data_digest" not in state:
        raise store.StoreError(f"{path}: is no checkpoint, or one of an older sparelu, which did not say of which data")
    if not all(isinstance(state.get(mark), str) for mark in identity):
        raise store.StoreError(f"{path}: is no checkpoint of a fit")
    if state["data_digest"] != identity["data_digest"]:
        which = changed("what it was fitted to", state["data_digest"], identity["data_digest"])
        raise store.StoreError(f"{path}: belongs to a fit with other data: {which}; {advice}")
    if state["identity"] != identity["identity"]:
        raise store.StoreError(f"{path}: belongs to a fit with another method, budget or seed; {advice}")
    try:
        KEPT(state, "the state")
        rng.bit_generator.state = state["rng"]
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise store.StoreError(f"{path}: {error}; it was changed or damaged") from None
    meter.seconds = state["seconds"]
    progress.history.extend(state["history"])
    return state["method"]


def _identity(method: Fitter, data: Data | Oracle, budget: Budget, seed: int, standardise: bool) -> State:
    """Return what a checkpoint must have in common with the fit that goes on from it."""
    parts = [method.name, repr(method.changed()), repr(budget), str(seed), str(standardise)]
    return {"identity": hashlib.sha256("|".join(parts).encode()).hexdigest(), "data_digest": data.digest}


def _solution(
    method: Fitter,
    data: Data | Oracle,
    budget: Budget,
    seed: int,
    way: Standardisation | None,
    progress: _Progress,
    meter: Meter,
) -> Solution:
    peak = meter.peak_memory
    claims: tuple[Certificate, ...] = ()
    network = zero_network(data.inputs, data.outputs, dtype=data.dtype)
    if progress.last is not None and progress.status is not Status.diverged:
        network, claims = progress.last.network(), _about(progress.last.certificates(), data)
        network = network if way is None else way.fold(network)
    allowed = budget.count(data.inputs, data.outputs, data.image)
    return Solution(
        network,
        progress.status or Status.max_steps,
        method.name,
        method.settings(),
        budget,
        seed,
        within_budget=allowed is None or network.nonzeros <= allowed,
        seconds=meter.seconds,
        peak_memory=peak,
        history=tuple(progress.history),
        certificates=claims,
        task=data.task,
        classes=data.classes,
        names=data.names,
        versions=versions(),
        about={
            "data": data.name,
            "target": data.target,
            "data_digest": data.digest,
            "rows": data.n,
            "inputs": data.inputs,
            "image": None if data.image is None else list(data.image),
            "device": data.device,
            "threads": torch.get_num_threads(),
            "ranks": data.ranks.size,
            "machine": platform.machine(),
            **({} if data.columns is None else {"columns": data.columns.plain()}),
        },
    )


def compress(
    method: Compressor, network: Network, budget: Budget, data: Data | None = None, *, seed: int = 0
) -> Solution:
    """Run ``method`` on ``network``; at most ``budget.hidden`` neurons come back.

    Raises :class:`~sparelu.method.Refusal` with the method's reason.
    """
    convolutions = (
        "it has convolutions: fit it with the method chase, which removes channels, or use Network(net.layers)"
    )
    reason = convolutions if network.convolutions else method.refuses(network, budget, data)
    if reason is not None:
        raise Refusal(f"{method.name} cannot compress this: {reason}")
    meter = Meter()
    with meter.running():
        small, claims = method.compress(network, budget, data, generator(seed, "compress", method.name))
    about: Mapping[str, Any] = {}
    if data is not None:
        about = {"data": data.name, "target": data.target, "rows": data.n, "data_digest": data.digest}
    described: dict[str, Any] = (
        {} if data is None else {"task": data.task, "classes": data.classes, "names": data.names}
    )
    kept = all(a <= b for a, b in zip(small.hidden, budget.hidden, strict=False))
    return Solution(
        small,
        Status.converged,
        method.name,
        method.settings(),
        budget,
        seed,
        kept,
        meter.seconds,
        meter.peak_memory,
        certificates=_about(claims, data),
        versions=versions(),
        about=about,
        **described,
    )


def certify(method: Certifier, network: Network, data: Data | None = None, *, seed: int = 0) -> Certificate:
    """Return what ``method`` proves of ``network``. Raises :class:`~sparelu.method.Refusal` with its reason."""
    reason = method.refuses(network, data)
    if reason is not None:
        raise Refusal(f"{method.name} cannot certify this: {reason}")
    return _about([method.certify(network, data, generator(seed, "certify", method.name))], data)[0]


def _about(claims: Sequence[Certificate], data: Data | Oracle | None) -> tuple[Certificate, ...]:
    """Return the claims, each saying of which data it speaks."""
    return tuple(claims) if data is None else tuple(replace(claim, data=data.digest) for claim in claims)
