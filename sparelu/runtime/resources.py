"""The clock and the memory gauge that a run is charged by."""

import contextlib
import ctypes
import gc
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def _kilobytes(field_name: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field_name):
            return int(line.split()[1])
    return 0


def _peak_bytes() -> int:
    if STATUS.exists():
        return 1024 * _kilobytes("VmHWM")
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def give_back_memory() -> None:
    """Give the system what the allocators of the C library and of Arrow keep of freed memory, where they can."""
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> int:
    """Give freed memory back and forget the peak so far, where the system allows it; the bytes in use now."""
    gc.collect()
    give_back_memory()
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")
    return 1024 * _kilobytes("VmRSS") if STATUS.exists() else _peak_bytes()


@dataclass
class Meter:
    """Seconds spent inside :meth:`running`, and the peak memory added to the process since the meter was made.

    Resident memory of the process, plus device memory on CUDA. Where the peak cannot be reset (not Linux), memory
    that was in use before counts as in use, so that the figure can be too small, never too large.
    """

    seconds: float = 0.0
    _before: int = field(default_factory=_reset_peak)

    def __post_init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._before += torch.cuda.memory_allocated()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Charge the enclosed work."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    @property
    def peak_memory(self) -> int:
        """Return bytes above what was in use when the meter was made."""
        device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        return max(0, _peak_bytes() + device - self._before)
