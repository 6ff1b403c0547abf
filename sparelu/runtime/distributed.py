"""The processes that fit one network together, each on its own part of the rows.

A method whose work is a sum over rows computes what its rows give and asks ``data.ranks`` for the sum. One process
alone is :data:`ALONE`, where a sum is what was given, bit for bit, so a method reads the same on one process and on
many. A sum has the same bits on all ranks, and all ranks draw the same random numbers; so what is decided from sums (a
support, a step size, when to stop) is the same on all of them, and nothing but sums is exchanged.
"""

import contextlib
import hashlib
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = 300.0
"""Seconds that ranks wait for one another before the fit ends."""
ROLL_CALL = 5.0
"""Seconds in which the ranks that live answer after an exchange failed."""
CALL = "call"
"""Name of the roll call in the store that all ranks see."""
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment that torchrun gives to a process that it starts."""

Index = TypeVar("Index", np.ndarray, Tensor)


class RankLost(RuntimeError):
    """Another rank ended or no longer answers; ``reported`` says that it ended with an error that it has printed."""

    def __init__(self, message: str, reported: bool = False) -> None:
        super().__init__(message)
        self.reported = reported


class Ranks(ABC):
    """``size`` processes, of which this one is number ``rank``."""

    rank: int
    size: int
    exchanged: int
    """Bytes that this rank has given to sums and other exchanges."""

    @property
    def first(self) -> bool:
        """Say whether this is the rank that prints and writes."""
        return self.rank == 0

    def rows(self, n: int) -> slice:
        """Return this rank's part of ``n`` rows: ``size`` consecutive parts whose lengths differ by at most one."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def total(self, number: float) -> float:
        """Return the sum of a number over the ranks."""
        return float(self.sum(torch.tensor(number, dtype=torch.float64)))

    @abstractmethod
    def held(self, index: Index, part: slice) -> Index:
        """Return those of the row numbers ``index`` in ``part``, counted from its start; ``part`` is this rank's."""

    @abstractmethod
    def sum(self, values: Tensor) -> Tensor:
        """Return ``values``, in place the sum over the ranks, which has the same bits on all of them."""

    @abstractmethod
    def mean(self, values: Tensor, number: float, rows: int) -> float:
        """Make ``values``, a mean over ``rows`` rows here, the mean over the rows of all ranks; the same of ``number``.

        A rank without rows gives zeros.
        """

    @abstractmethod
    def maximum(self, values: Tensor) -> Tensor:
        """Return ``values``, in place the largest over the ranks."""

    @abstractmethod
    def from_first(self, values: Tensor) -> Tensor:
        """Return ``values``, in place those of the first rank."""

    @abstractmethod
    def leave(self, message: str) -> bool:
        """Tell the others that this rank ends with an error; whether it is the first to say ``message``."""


@dataclass(eq=False)
class Alone(Ranks):
    """One process: every row is its own."""

    rank: int = 0
    size: int = 1
    exchanged: int = 0

    def held(self, index: Index, part: slice) -> Index:
        return index

    def sum(self, values: Tensor) -> Tensor:
        return values

    def mean(self, values: Tensor, number: float, rows: int) -> float:
        return number

    def maximum(self, values: Tensor) -> Tensor:
        return values

    def from_first(self, values: Tensor) -> Tensor:
        return values

    def leave(self, message: str) -> bool:
        return True


ALONE = Alone()


class Joined(Ranks):
    """The ranks of ``torch.distributed``, by gloo on processors and NCCL on CUDA devices.

    Every rank must ask for the same exchanges in the same order. When one fails, the ranks that live answer a roll
    call, and :class:`RankLost` names those that do not. A thread answers it, since the rank itself may be waiting in an
    exchange. They meet at the ``store``.
    """

    def __init__(self, store: dist.Store, rank: int, size: int) -> None:
        self.rank, self.size, self.exchanged = rank, size, 0
        self._store = store
        self._store.set(f"who/{rank}", f"host {socket.gethostname()}, process {os.getpid()}")

    def held(self, index: Index, part: slice) -> Index:
        inside: Index = index[(index >= part.start) & (index < part.stop)] - part.start
        return inside

    def sum(self, values: Tensor) -> Tensor:
        return self._exchange(lambda: dist.all_reduce(values), values)

    def mean(self, values: Tensor, number: float, rows: int) -> float:
        packed = torch.cat([values.flatten() * rows, values.new_tensor([number * rows, rows])])
        self.sum(packed)
        packed /= packed[-1].clone()
        values.copy_(packed[:-2].view_as(values))
        return float(packed[-2])

    def maximum(self, values: Tensor) -> Tensor:
        return self._exchange(lambda: dist.all_reduce(values, dist.ReduceOp.MAX), values)

    def from_first(self, values: Tensor) -> Tensor:
        return self._exchange(lambda: dist.broadcast(values, 0), values)

    def _exchange(self, work: Callable[[], Any], values: Tensor) -> Tensor:
        self.exchanged += values.nbytes
        try:
            work()
        except RuntimeError as error:
            raise self._lost(str(error)) from None
        return values

    def leave(self, message: str) -> bool:
        with contextlib.suppress(RuntimeError):  # the store went with another host
            self._store.set(f"gone/{self.rank}", "")
            return self._store.add(f"said/{hashlib.sha256(message.encode()).hexdigest()}", 1) == 1
        return True

    def _lost(self, reason: str) -> RankLost:
        try:
            silent, reported = self._roll_call()
        except RuntimeError:
            return RankLost(f"the exchange between ranks failed, and the host that they met at is gone: {reason}")
        if not silent:
            return RankLost(f"the exchange between ranks failed, though all of them answer: {reason}")
        names = " and ".join(f"rank {r} ({self._store.get(f'who/{r}').decode()})" for r in silent)
        return RankLost(f"{names} ended or stopped answering; a fit over ranks cannot go on without its rows", reported)

    def _roll_call(self) -> tuple[list[int], bool]:
        """Return the ranks that do not answer, and whether one of them ended with an error that it has reported."""
        self._store.set(CALL, "")
        end = time.monotonic() + ROLL_CALL
        silent = list(range(self.size))
        while silent and time.monotonic() < end:
            silent = [r for r in silent if not self._store.check([f"here/{r}"])]
            time.sleep(0.05)
        return silent, any(self._store.check([f"gone/{r}"]) for r in silent)


@contextlib.contextmanager
def _answering(store: dist.Store, rank: int) -> Iterator[None]:
    """Answer a roll call while the rank is at work."""
    done = threading.Event()

    def answer() -> None:
        with contextlib.suppress(RuntimeError):  # the store went with its host
            while not done.wait(ROLL_CALL / 5):
                if store.check([CALL]):
                    store.set(f"here/{rank}", "")
                    return

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def joined(device: str = "cpu", timeout: float = TIMEOUT) -> Iterator[Ranks]:
    """Yield the ranks that torchrun started together with this process; :data:`ALONE` when it was started by itself.

    On ``device`` "cuda" every rank of a host takes a device of its own. An exchange that waits longer than ``timeout``
    seconds for another rank fails. Raises :class:`RankLost` when not all ranks come.
    """
    if not all(name in os.environ for name in LAUNCHED) or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    cuda, wait = device.startswith("cuda"), timedelta(seconds=timeout)
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        store = next(dist.rendezvous("env://", timeout=wait))[0]
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=wait)
    except RuntimeError as error:
        raise RankLost(f"not all of the {size} ranks came within {timeout:g} seconds: {error}") from None
    own, other = (dist.PrefixStore("sparelu", s) for s in (store, store.clone()))
    try:
        with _answering(other, rank):
            yield Joined(own, rank, size)
    finally:
        dist.destroy_process_group()
