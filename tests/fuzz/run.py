"""Forge a file many times and read it, in a process whose memory is limited."""

import contextlib
import gc
import io
import multiprocessing
import resource
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.readers import READERS

MEMORY = 2**27
"""Bytes that a reader may add to the address space of its process; the files are of some kilobytes."""


def forge(name: str, folder: str, seeds: range, answer: Any = None) -> tuple[Counter[str], list[str]]:
    """Read the forged file of each seed: how often which outcome, and the first tracebacks of what must not happen."""
    import pyarrow

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    reader, place = READERS[name], Path(folder)
    good = place / f"{name}{reader.suffix}"
    reader.make(good)
    reader.read(good)  # all is loaded now
    content = good.read_bytes()
    gc.freeze()  # a fit collects garbage, which looks at every object of every module
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    forged = place / f"{name}.forged{reader.suffix}"
    for seed in seeds:
        forged.write_bytes(reader.forge(np.random.default_rng([seed, 0xF022]), content))
        outcome = _outcome(reader, forged)
        if "Traceback" in outcome:
            wrong.append(f"seed {seed}: {outcome}")
            outcome = "wrong"
        outcomes[outcome] += 1
    if answer is not None:
        answer.send((outcomes, wrong[:5]))
    return outcomes, wrong


def _outcome(reader: Any, forged: Path) -> str:
    """ "read", "refused", or the traceback of anything else: another error, a warning, words that name no file."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("error")
            reader.read(forged)
    except reader.raises as error:
        if reader.raises is not ValueError and not any(part in str(error) for part in (forged.name, "run/")):
            return f"Traceback of words without the file: {error!r:.300}"
        return "refused"
    except Exception:
        return traceback.format_exc()
    return "read"


def in_process(name: str, folder: str, seeds: range) -> tuple[Counter[str], list[str]]:
    """:func:`forge` in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=forge, args=(name, folder, seeds, theirs))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        process.join()
        return Counter(), [f"the process of {name} ended with {process.exitcode}"]
    process.join()
    return found


def main(count: int, first: int = 0) -> int:
    """``count`` files over all readers; 1 when one of them was not named."""
    import tempfile

    bad = 0
    each = -(-count // len(READERS))
    for name in READERS:
        with tempfile.TemporaryDirectory() as folder:
            outcomes, wrong = in_process(name, folder, range(first, first + each))
        print(name, dict(outcomes), flush=True)
        bad += len(wrong)
        print(*wrong, sep="\n", file=sys.stderr, flush=True)
    return int(bad > 0)
